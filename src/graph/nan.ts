import { isFloatType } from "./dtype.ts";

// WGSL lets a compiler assume that NaN does not occur: max(NaN, x) may be x, and x != x may be false. These read the bits.

/** WGSL type of the bits of a float `type`: one u32 per component. Halves are widened first. */
export const words = (type: string): string => (type.startsWith("vec4") ? "vec4u" : "u32");
/** The same as signed integers. */
export const signed = (type: string): string => (type.startsWith("vec4") ? "vec4i" : "i32");

const wide = (x: string, type: string): string => {
  if (type === "f16") return `f32(${x})`;
  return type.includes("f16") ? `vec4f(${x})` : x;
};

/** The bits of `x` as an f32. */
export const bitsWgsl = (x: string, type: string): string => `bitcast<${words(type)}>(${wide(x, type)})`;
/** The same as signed integers: CPUs compare them in one instruction. */
export const signedBitsWgsl = (x: string, type: string): string => `bitcast<${signed(type)}>(${wide(x, type)})`;

/** Whether `x` is NaN, per component. */
export const isNanWgsl = (x: string, type: string): string =>
  `((${signedBitsWgsl(x, type)} & ${signed(type)}(0x7fffffff)) > ${signed(type)}(0x7f800000))`;

/** Suffix for the names of WGSL helpers, which exist once per type. */
export const suffix = (type: string): string => type.replace(/\W/g, "");

/** The larger ("max") or smaller ("min") of `a` and `b`; NaN if either is. It calls a function of `extremeHelper`. */
export const extremeWgsl = (name: "max" | "min", a: string, b: string, type: string): string =>
  isFloatType(type) ? `nan_${name}_${suffix(type)}(${a}, ${b})` : `${name}(${a}, ${b})`;

/** The function that `extremeWgsl` calls; none for integers. */
export const extremeHelper = (name: "max" | "min", type: string): string =>
  isFloatType(type)
    ? `fn nan_${name}_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  return select(select(${name}(a, b), b, ${isNanWgsl("b", type)}), a, ${isNanWgsl("a", type)});
}`
    : "";
