import { type DType, isFloat } from "../graph/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { suffix } from "./constant.ts";
import { common, type Operand, row } from "./elementwise.ts";
import { words } from "./math.ts";

// Operations on the bits of integers. Booleans have one bit. Floats are refused.

/** A negative number counts modulo 2^32 among u32 operands. */
const bitsOf = (x: readonly Operand[]) => ({ args: common(x), out: common(x), wraps: true });

type Wgsl = (a: string, b: string, type: string) => string;

const bitwise = (
  name: string,
  wgsl: Wgsl,
  js: (a: number, b: number, dtype: DType) => number,
  helpers?: (type: string) => string,
) => {
  const op = row({
    name,
    rule: bitsOf,
    wgsl: ([a, b], _, type) => wgsl(a, b, type),
    helpers,
    js: (a, b, _c, _attrs, dtype) => js(a, b, dtype),
  });
  return (...x: Operand[]): Tensor => {
    const dtype = common(x);
    if (isFloat(dtype))
      throw new TypeError(`${name}: bits of ${dtype} operands: expected i32, u32 or bool, cast with int()`);
    return op(...x);
  };
};
const isBool = (type: string): boolean => type.includes("bool");

export const bitwiseAnd = bitwise(
  "bitwise_and",
  (a, b) => `(${a} & ${b})`,
  (a, b) => a & b,
);
export const bitwiseOr = bitwise(
  "bitwise_or",
  (a, b) => `(${a} | ${b})`,
  (a, b) => a | b,
);
export const bitwiseXor = bitwise(
  "bitwise_xor",
  (a, b, type) => (isBool(type) ? `(${a} != ${b})` : `(${a} ^ ${b})`),
  (a, b) => a ^ b,
);

const invert = row({
  name: "bitwise_not",
  rule: bitsOf,
  wgsl: ([x], _, type) => (isBool(type) ? `(!${x})` : `(~${x})`),
  js: (x, _b, _c, _attrs, dtype) => (dtype === "bool" ? Number(!x) : ~x),
});
/** All bits inverted: -x - 1 of i32, `logicalNot` of bool. */
export function bitwiseNot(x: Tensor): Tensor {
  if (isFloat(x.dtype))
    throw new TypeError(`bitwise_not: bits of ${x.dtype} operands: expected i32, u32 or bool, cast with int()`);
  return invert(x);
}

const leftShift = bitwise(
  "bitwise_left_shift",
  (a, b, type) => `shifted_left_${suffix(type)}(${a}, ${b})`,
  (a, b) => (b >= 0 && b < 32 ? a << b : 0),
  (type) => `fn shifted_left_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  let by = ${words(type)}(b);
  return select(a << min(by, ${words(type)}(31u)), ${type}(), by > ${words(type)}(31u));
}`,
);
const rightShift = bitwise(
  "bitwise_right_shift",
  (a, b, type) => `shifted_right_${suffix(type)}(${a}, ${b})`,
  (a, b, dtype) => {
    const inside = b >= 0 && b < 32;
    if (dtype === "u32") return inside ? a >>> b : 0;
    return a >> (inside ? b : 31);
  },
  (type) => `fn shifted_right_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  let by = ${words(type)}(b);
  return select(a >> min(by, ${words(type)}(31u)), ${signed(type) ? `a >> ${words(type)}(31u)` : `${type}()`}, by > ${words(type)}(31u));
}`,
);
const signed = (type: string): boolean => type === "i32" || type.includes("4i");

/** Booleans are shifted as i32. */
const integers = (x: Operand): Operand => (typeof x !== "number" && x.dtype === "bool" ? x.to("i32") : x);

/** a 2^b modulo 2^32. Shifts by 32 bits or more give 0. */
export const bitwiseLeftShift = (a: Operand, b: Operand): Tensor => leftShift(integers(a), integers(b));
/** a >> b. i32 keeps its sign: shifts by 32 bits or more give 0 or -1. */
export const bitwiseRightShift = (a: Operand, b: Operand): Tensor => rightShift(integers(a), integers(b));
