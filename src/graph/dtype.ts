/** Element types. `bool` is stored as one u32 (0 or 1) per element, `f16` as two halves per u32. */
export type DType = "f32" | "f16" | "i32" | "u32" | "bool";

/** Host-side arrays accepted and returned for each dtype (`f16` and `bool` are widened on read). */
export type HostArray = Float32Array | Int32Array | Uint32Array;

const DTYPES: ReadonlySet<unknown> = new Set<DType>(["f32", "f16", "i32", "u32", "bool"]);

/** @throws unless `dtype` is an element type. */
export function checkDType(op: string, dtype: DType): void {
  if (!DTYPES.has(dtype))
    throw new TypeError(
      `${op}: unknown dtype ${dtype}: expected f32, f16, i32, u32 or bool (WebGPU has no 64-bit types)`,
    );
}

export const isFloat = (dtype: DType): boolean => dtype === "f32" || dtype === "f16";

/** Bytes of `count` elements in a GPU buffer, rounded up to whole 16-byte vectors. */
export function byteSize(dtype: DType, count: number): number {
  const bytes = dtype === "f16" ? count * 2 : count * 4;
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** Result dtype of a binary operation, with torch's order bool < u32 < i32 < f16 < f32. */
export function promote(a: DType, b: DType): DType {
  const order: DType[] = ["bool", "u32", "i32", "f16", "f32"];
  return order[Math.max(order.indexOf(a), order.indexOf(b))];
}

/** @throws if `dtype` is an integer dtype that cannot hold `value`. Floats round every number; booleans test for 0. */
export function checkValue(op: string, value: number, dtype: DType): void {
  if ((dtype !== "i32" && dtype !== "u32") || holds(dtype, value)) return;
  throw new RangeError(`${op}: ${value} is not a value of dtype ${dtype}: cast the tensor to a wider dtype first`);
}

/** Whether an integer dtype can hold this value. */
export const holds = (dtype: "i32" | "u32", value: number): boolean =>
  dtype === "i32" ? value === (value | 0) : value === value >>> 0;

/** Limits of a dtype: infinities for floats. */
export const lowest = (dtype: DType): number => (isFloat(dtype) ? -Infinity : dtype === "i32" ? -(2 ** 31) : 0);
export const highest = (dtype: DType): number =>
  isFloat(dtype) ? Infinity : { i32: 2 ** 31 - 1, u32: 2 ** 32 - 1, bool: 1 }[dtype as "i32"];

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Bits of a float, for uniforms that mix integers and floats. */
export function floatBits(x: number): number {
  f32[0] = x;
  return u32[0];
}

/** f32 to f16 bits, round to nearest even (IEEE 754). */
export function toHalf(x: number): number {
  f32[0] = x;
  const bits = u32[0];
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const mantissa = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (mantissa ? 0x200 | (mantissa >>> 13) : 0);
  const e = exponent - 112;
  if (e >= 31) return sign | 0x7c00;
  if (e <= 0) {
    if (e < -10) return sign;
    const full = mantissa | 0x800000;
    const shift = 14 - e;
    return sign | roundShift(full, shift);
  }
  return sign + roundShift((e << 23) | mantissa, 13); // a carry out of the mantissa correctly raises the exponent
}

function roundShift(value: number, shift: number): number {
  const kept = value >>> shift;
  const rest = value & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && kept & 1) ? kept + 1 : kept;
}

/** f16 bits to a number. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const mantissa = bits & 0x3ff;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** f32 to bf16 bits, round to nearest even. */
export function toBfloat16(x: number): number {
  f32[0] = x;
  const bits = u32[0];
  if (Number.isNaN(x)) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** bf16 bits to a number. */
export function fromBfloat16(bits: number): number {
  u32[0] = bits << 16;
  return f32[0];
}

/** A whole number as 32 bits hold it: integers wrap around, on the device and in the reference. Floats stay. */
export function wrap(x: number, dtype: DType): number {
  if (dtype === "i32") return x | 0;
  return dtype === "u32" ? x >>> 0 : x;
}

/** Largest values that f32 and an integer dtype both hold: floats beyond them are cast to these. */
const MOST = { i32: 2 ** 31 - 128, u32: 2 ** 32 - 256 };

/**
 * x cast to dtype `to`: the definition, which the reference interpreter uses. Floats become integers by truncation, limited to
 * the range of the dtype; NaN becomes 0. Integers wrap around. NaN is true.
 */
export function castValue(x: number, to: DType, from: DType = "f32"): number {
  if (to === "f16") return fromHalf(toHalf(x));
  if (to === "bool") return Number(x !== 0);
  if (to === "f32") return from === "f32" || from === "f16" ? x : Math.fround(x);
  if (!isFloat(from) || wrap(x, to) === x) return wrap(x, to);
  const whole = Number.isNaN(x) ? 0 : Math.trunc(x);
  return to === "u32" ? Math.min(Math.max(whole, 0), MOST.u32) : Math.min(Math.max(whole, -(2 ** 31)), MOST.i32);
}

/** WGSL of `x`, of dtype `from`, cast to dtype `to`, whose WGSL type is `type`. `x` is a name. */
export function castWgsl(x: string, from: DType, to: DType, type: string): string {
  const vector = type.startsWith("vec4");
  const [float, words] = vector ? ["vec4f", "vec4u"] : ["f32", "u32"];
  if (to === "f16") return from === "bool" ? `${type}(${x})` : `${type}(${halfWgsl(`${float}(${x})`, float)})`;
  if (!isFloat(from) || to === "f32") return `${type}(${x})`;
  const magnitude = `(bitcast<${words}>(${float}(${x})) & ${words}(0x7fffffffu))`;
  if (to === "bool") return `(${magnitude} != ${words}(0u))`;
  return `select(${type}(${x}), ${type}(), ${magnitude} > ${words}(0x7f800000u))`;
}

/** The nearest half. quantizeToF16 makes halves below 2^-14 zero; in f32 these are multiples of 2^-24. */
const halfWgsl = (x: string, type: string): string =>
  `select(quantizeToF16(${x}), round(${x} * 16777216.0) * 5.9604644775390625e-8, abs(${x}) < ${type}(6.103515625e-5))`;

/** WGSL function: two f16 in a word. pack2x16float may make subnormals zero; this keeps them. */
export const PACK_HALVES = `fn pack_halves(v: vec2f) -> u32 {
let normal = pack2x16float(v);
let subnormal = vec2u(round(min(abs(v), vec2f(1.0)) * 16777216.0)) | ((bitcast<vec2u>(v) >> vec2u(16u)) & vec2u(0x8000u));
let h = select(vec2u(normal & 0xffffu, normal >> 16u), subnormal, abs(v) < vec2f(6.1035156e-5));
return h.x | (h.y << 16u);
}`;

/** Whether a WGSL type ("vec4f", "f16", "i32", …) has float components. */
export const isFloatType = (type: string): boolean => /f32|4f|f16/.test(type);

const LARGEST_HALF = 65504;

/** A WGSL float literal. WGSL has no infinite constants: an infinity becomes the largest finite value of the type. */
export function floatLiteral(x: number, type = "f32"): string {
  if (Number.isNaN(x)) throw new Error("NaN is no WGSL constant");
  if (type.includes("f16") && Math.abs(x) > LARGEST_HALF) return floatLiteral(Math.sign(x) * LARGEST_HALF);
  const text = Math.fround(x).toString();
  if (text.endsWith("Infinity")) return x > 0 ? "0x1.fffffep+127" : "-0x1.fffffep+127";
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** WGSL of a finite constant of `type`. */
export function literal(value: number, type: string): string {
  if (type.includes("bool")) return `${type}(${value !== 0})`;
  return `${type}(${isFloatType(type) ? floatLiteral(value, type) : value})`;
}
