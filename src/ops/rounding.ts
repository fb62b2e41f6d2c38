import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { broadcast, div, float, mod, numeric, type Operand, row, where } from "./elementwise.ts";

// Parts of numbers, and division with a remainder. Division rounds towards -∞ in floorDivide and mod, towards 0 in fmod.

const zeroLike = (x: Tensor): Tensor => full(x.shape, 0, x.dtype);

const truncOp = row({
  name: "trunc",
  rule: float,
  wgsl: ([x]) => `trunc(${x})`,
  js: Math.trunc,
  vjp: (g) => [zeroLike(g)],
});

/** Rounds towards 0. Integers stay as they are. Its gradient is 0. */
export const trunc = (x: Tensor): Tensor => (x.dtype === "i32" || x.dtype === "u32" ? x : truncOp(x));

/** x - trunc(x): the fraction, with the sign of x. */
export const frac = row({
  name: "frac",
  rule: float,
  wgsl: ([x]) => `(${x} - trunc(${x}))`,
  js: (x) => x - Math.trunc(x),
  vjp: (g) => [g],
});

/** |x|, with slope 1 at 0. */
const size = (x: Tensor): Tensor => (x.dtype === "u32" ? x : where(x.lt(0), x.neg(), x));

const fmodOp = defineOp({
  name: "fmod",
  kind: "kernel",
  fallback: ([a, b]) => {
    const rest = mod(size(a), size(b));
    return a.dtype === "u32" ? rest : where(a.lt(0), rest.neg(), rest);
  },
  vjp: (g, _y, [a, b]) => [g, b.requiresGrad ? g.mul(trunc(a.div(b))).neg() : null],
});

/** a - b trunc(a / b): the remainder with the sign of a, as % in JavaScript. `mod` takes the sign of b. */
export const fmod = (a: Operand, b: Operand): Tensor => broadcast(fmodOp, numeric, [a, b], {});

/** a / b of integers, towards 0. By 0 it is a, as WGSL has it. */
const quotient = row({
  name: "integer_quotient",
  rule: numeric,
  wgsl: ([a, b]) => `(${a} / ${b})`,
  js: (a, b) => (b === 0 ? a : Math.trunc(a / b)),
  cost: 16,
});

const floorDivideOp = defineOp({
  name: "floor_divide",
  kind: "kernel",
  fallback: ([a, b]) => {
    if (a.dtype === "u32") return quotient(a, b);
    const rest = fmod(a, b);
    const whole = a.dtype === "i32" ? quotient(a, b) : a.sub(rest).div(b).round();
    const floored = whole.sub(
      rest
        .ne(0)
        .logicalAnd(rest.lt(0).ne(b.lt(0)))
        .to(a.dtype),
    );
    return a.dtype === "i32" ? floored : where(b.eq(0), div(a, b), floored);
  },
  vjp: (g) => [zeroLike(g), zeroLike(g)],
});

/** floor(a / b), exact where a / b rounds up to a whole number. Integers stay integers. Its gradient is 0. */
export const floorDivide = (a: Operand, b: Operand): Tensor => broadcast(floorDivideOp, numeric, [a, b], {});

export type RoundingMode = "trunc" | "floor";

const truncDivideOp = defineOp({
  name: "trunc_divide",
  kind: "kernel",
  fallback: ([a, b]) => trunc(div(a, b)),
  vjp: (g) => [zeroLike(g), zeroLike(g)],
});

/** a / b. With a rounding mode integers stay integers, and the gradient is 0. */
export function divide(a: Operand, b: Operand, options: { roundingMode?: RoundingMode | null } = {}): Tensor {
  checkOptions("div", options, ["roundingMode"]);
  const { roundingMode = null } = options;
  if (roundingMode === null) return div(a, b);
  if (roundingMode === "floor") return floorDivide(a, b);
  if (roundingMode === "trunc")
    return isFloat(numeric([a, b]).out) ? broadcast(truncDivideOp, numeric, [a, b], {}) : quotient(a, b);
  throw new RangeError(`div: roundingMode must be null, "trunc" or "floor", got ${roundingMode}`);
}
