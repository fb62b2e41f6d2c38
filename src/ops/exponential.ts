import type { Tensor } from "../tensor/tensor.ts";
import { suffix } from "./constant.ts";
import { float, row, where } from "./elementwise.ts";
import * as wgsl from "./wgsl.ts";

// Exponentials and logarithms, accurate where exp and log cancel. Integers become f32.

/** 2^x. Exact for whole x. */
export const exp2 = row({
  name: "exp2",
  rule: float,
  wgsl: ([x], _, type) => `exponential2_${suffix(type)}(${x})`,
  helpers: wgsl.exponential2,
  js: (x) => 2 ** x,
  vjp: (g, y) => [g.mul(y).mul(Math.LN2)],
  cost: 16,
});

/** e^x - 1, accurate near 0. */
export const expm1 = row({
  name: "expm1",
  rule: float,
  wgsl: ([x], _, type) => `exp_minus_one_${suffix(type)}(${x})`,
  helpers: (type) => [wgsl.exponential(type), wgsl.expMinusOne(type)],
  js: Math.expm1,
  vjp: (g, y) => [g.mul(y.add(1))],
  cost: 24,
});

/** Base-2 logarithm. Exact for powers of 2. */
export const log2 = row({
  name: "log2",
  rule: float,
  wgsl: ([x], _, type) => `logarithm2_${suffix(type)}(${x})`,
  helpers: (type) => [wgsl.bits(type), wgsl.logarithm2(type)],
  js: Math.log2,
  vjp: (g, _y, [x]) => [g.div(x.mul(Math.LN2))],
  cost: 16,
});

/** Base-10 logarithm. */
export const log10 = row({
  name: "log10",
  rule: float,
  wgsl: ([x], _, type) => `logarithm10_${suffix(type)}(${x})`,
  helpers: (type) => [wgsl.bits(type), wgsl.logarithm10(type)],
  js: Math.log10,
  vjp: (g, _y, [x]) => [g.div(x.mul(Math.LN10))],
  cost: 16,
});

/** log(1 + x), accurate near 0. */
export const log1p = row({
  name: "log1p",
  rule: float,
  wgsl: ([x], _, type) => `log_one_plus_${suffix(type)}(${x})`,
  helpers: (type) => [wgsl.bits(type), wgsl.logOnePlus(type)],
  js: Math.log1p,
  vjp: (g, _y, [x]) => [g.div(x.add(1))],
  cost: 16,
});

/** log(e^a + e^b), without overflow. */
export const logaddexp = row({
  name: "logaddexp",
  rule: float,
  commutative: true,
  wgsl: ([a, b], _, type) => `log_add_exp_${suffix(type)}(${a}, ${b})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.exponential(type),
      wgsl.logOnePlus(type),
      `fn log_add_exp_${s}(a: ${type}, b: ${type}) -> ${type} {
  let difference = select(a - b, ${type}(), a == b); // ∞ - ∞
  return max(a, b) + log_one_plus_${s}(exponential_${s}(-abs(difference)));
}`,
    ];
  },
  js: (a, b) => (a === b ? a + Math.LN2 : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)))),
  vjp: (g, _y, [a, b]) => [g.mul(a.sub(b).sigmoid()), g.mul(b.sub(a).sigmoid())],
  cost: 40,
});

/** a log(b), and 0 where a is 0 unless b is NaN. */
export const xlogy = row({
  name: "xlogy",
  rule: float,
  wgsl: ([a, b], _, type) => `x_log_y_${suffix(type)}(${a}, ${b})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.logarithm(type),
      `fn x_log_y_${s}(a: ${type}, b: ${type}) -> ${type} {
  let l = logarithm_${s}(b);
  return select(a * l, ${type}(), (a == ${type}()) & (b <= ${wgsl.infinity(type)}));
}`,
    ];
  },
  js: (a, b) => (a === 0 && !Number.isNaN(b) ? 0 : a * Math.log(b)),
  vjp: (g, _y, [a, b]) => [where(a.eq(0).logicalAnd(b.le(0)), 0, g.mul(b.log())), g.mul(a).div(b)],
  cost: 20,
});

const logOdds = row({
  name: "logit",
  rule: float,
  wgsl: ([x], _, type) => `log_odds_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.logarithm(type),
      wgsl.logOnePlus(type),
      // Near 1/2 log1p((2x - 1) / (1 - x)) keeps all digits of x - 1/2.
      `fn log_odds_${s}(x: ${type}) -> ${type} {
  let middle = abs(x - 0.5) < ${type}(0.25);
  return select(logarithm_${s}(x / (1.0 - x)), log_one_plus_${s}((x + x - 1.0) / (1.0 - x)), middle);
}`,
    ];
  },
  js: (x) => (Math.abs(x - 0.5) < 0.25 ? Math.log1p((2 * x - 1) / (1 - x)) : Math.log(x / (1 - x))),
  vjp: (g, _y, [x]) => [g.div(x.mul(x.neg().add(1)))],
  cost: 32,
});

/** log(x / (1 - x)), the inverse of sigmoid. With `eps` x is first limited to [eps, 1 - eps], where the gradient is 0 outside. */
export function logit(x: Tensor, eps?: number): Tensor {
  if (eps === undefined) return logOdds(x);
  if (!(eps >= 0 && eps <= 0.5)) throw new RangeError(`logit: eps must be in [0, 0.5], got ${eps}`);
  const values = x.dtype === "f16" ? x : x.to("f32");
  return logOdds(values.clamp({ min: eps, max: 1 - eps }));
}
