import { checkOptions } from "../graph/options.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { full, suffix } from "./constant.ts";
import { float, numeric, type Operand, row, where } from "./elementwise.ts";
import { isNanWgsl } from "./math.ts";
import { isnan } from "./nonfinite.ts";
import * as wgsl from "./wgsl.ts";

// Arithmetic of two and three operands beyond + - * /.

/** Larger or smaller value; a NaN loses against a number. Ties give the gradient to a. */
const ignoringNan = (name: "fmax" | "fmin", larger: boolean) =>
  row({
    name,
    rule: numeric,
    wgsl: ([a, b], _, type) =>
      /f32|4f|f16/.test(type) ? `${name}_${suffix(type)}(${a}, ${b})` : `${larger ? "max" : "min"}(${a}, ${b})`,
    helpers: (type) =>
      /f32|4f|f16/.test(type)
        ? `fn ${name}_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  return select(select(b, a, ${isNanWgsl("b", type)} | (a ${larger ? ">=" : "<="} b)), b, ${isNanWgsl("a", type)});
}`
        : "",
    js: (a, b) => (Number.isNaN(a) ? b : Number.isNaN(b) ? a : larger ? Math.max(a, b) : Math.min(a, b)),
    vjp: (g, _y, [a, b]) => {
      const first = (larger ? a.ge(b) : a.le(b)).logicalOr(isnan(b));
      return [where(first, g, 0), where(first, 0, g)];
    },
    cost: 8,
  });
export const fmax = ignoringNan("fmax", true);
export const fmin = ignoringNan("fmin", false);

/** The size of a with the sign of b, that of -0 too. Integers become f32. */
export const copysign = row({
  name: "copysign",
  rule: float,
  wgsl: ([a, b], _, type) => `copy_sign_${suffix(type)}(${a}, ${b})`,
  helpers: (type) =>
    `fn copy_sign_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} { return ${wgsl.copySign(type, "a", "b")}; }`,
  js: (a, b) => (b < 0 || Object.is(b, -0) ? -Math.abs(a) : Math.abs(a)),
  vjp: (g, y, [a]) => [where(a.eq(0), 0, where(y.lt(0).ne(a.lt(0)), g.neg(), g)), full(g.shape, 0, g.dtype)],
  cost: 8,
});

/** a + weight (b - a): exactly a for weight 0, and b for 1. Integers become f32. */
export const lerp = row({
  name: "lerp",
  rule: float,
  wgsl: ([a, b, w], _, type) => `lerp_${suffix(type)}(${a}, ${b}, ${w})`,
  helpers: (type) => `fn lerp_${suffix(type)}(a: ${type}, b: ${type}, w: ${type}) -> ${type} {
  return select(b - (b - a) * (1.0 - w), a + w * (b - a), abs(w) < ${type}(0.5));
}`,
  js: (a, b, w) => (Math.abs(w) < 0.5 ? a + w * (b - a) : b - (b - a) * (1 - w)),
  vjp: (g, _y, [a, b, w]) => [g.mul(w.neg().add(1)), g.mul(w), w.requiresGrad ? g.mul(b.sub(a)) : null],
  cost: 8,
});

/** bool: whether exactly one of a and b is not 0. NaN is true. */
export const logicalXor = row({
  name: "logical_xor",
  rule: () => ({ args: "bool", out: "bool" }),
  commutative: true,
  wgsl: ([a, b]) => `(${a} != ${b})`,
  js: (a, b) => Number(a !== b),
});

export interface ScaledTerm {
  /** Factor of the added term. Default 1. */
  value?: number;
}
/** x + value a b. All three broadcast. */
export function addcmul(x: Tensor, a: Tensor, b: Tensor, options: ScaledTerm = {}): Tensor {
  checkOptions("addcmul", options, ["value"]);
  return x.add(scaled(a.mul(b), options));
}
/** x + value a / b. All three broadcast. Integers become f32. */
export function addcdiv(x: Tensor, a: Tensor, b: Tensor, options: ScaledTerm = {}): Tensor {
  checkOptions("addcdiv", options, ["value"]);
  return x.add(scaled(a.div(b), options));
}
const scaled = (x: Tensor, { value = 1 }: ScaledTerm): Tensor => (value === 1 ? x : x.mul(value));

export interface Closeness {
  /** Relative to |b|. Default 1e-5. */
  rtol?: number;
  /** Default 1e-8. */
  atol?: number;
  /** NaN is close to NaN. Default false. */
  equalNan?: boolean;
}

/** bool: |a - b| <= atol + rtol |b|. Equal infinities are close. Both broadcast. */
export function isclose(a: Tensor, b: Operand, options: Closeness = {}): Tensor {
  checkOptions("isclose", options, ["rtol", "atol", "equalNan"]);
  const { rtol = 1e-5, atol = 1e-8, equalNan = false } = options;
  if (!(rtol >= 0 && atol >= 0))
    throw new RangeError(`isclose: rtol ${rtol} and atol ${atol}: expected numbers from 0 on`);
  const x = a.to("f32");
  const y = typeof b === "number" ? full([], b) : b.to("f32");
  const difference = x.sub(y).abs();
  const within = difference.lt(Infinity).logicalAnd(difference.le(y.abs().mul(rtol).add(atol)));
  const close = a.eq(b).logicalOr(within);
  return equalNan ? close.logicalOr(isnan(x).logicalAnd(isnan(y))) : close;
}

/** Whether all elements are close, as in `isclose`. A promise, because it reads the result. */
export async function allclose(a: Tensor, b: Operand, options: Closeness = {}): Promise<boolean> {
  return (await isclose(a, b, options).logicalNot().sum().item()) === 0;
}

/** Whether shapes and all elements are equal. NaN differs from itself. A promise, because it reads the result. */
export async function equal(a: Tensor, b: Tensor): Promise<boolean> {
  if (a.shape.join() !== b.shape.join()) return false;
  return (await a.eq(b).logicalNot().sum().item()) === 0;
}
