import { checkValue, isFloat, literal } from "../graph/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { suffix } from "./constant.ts";
import { cast, float, maximum, minimum, mul, numeric, type Operand, pow, row, rowWith, where } from "./elementwise.ts";
import * as math from "./math.ts";

// Elementwise ops of one operand.

export const neg = row({ name: "neg", rule: numeric, wgsl: ([x]) => `(-${x})`, js: (x) => -x, vjp: (g) => [g.neg()] });
export const abs = row({
  name: "abs",
  rule: numeric,
  wgsl: ([x]) => `abs(${x})`,
  js: Math.abs,
  vjp: (g, _y, [x]) => [g.mul(x.sign())],
});
export const square = row({
  name: "square",
  rule: numeric,
  wgsl: ([x]) => `(${x} * ${x})`,
  js: (x) => x * x,
  vjp: (g, _y, [x]) => [g.mul(x).mul(2)],
});
export const sign = row({ name: "sign", rule: numeric, wgsl: ([x]) => `sign(${x})`, js: Math.sign, vjp: () => [null] });
export const floor = row({
  name: "floor",
  rule: float,
  wgsl: ([x]) => `floor(${x})`,
  js: Math.floor,
  vjp: () => [null],
});
export const ceil = row({ name: "ceil", rule: float, wgsl: ([x]) => `ceil(${x})`, js: Math.ceil, vjp: () => [null] });
/** Rounds half to even. */
export const round = row({
  name: "round",
  rule: float,
  wgsl: ([x]) => `round(${x})`,
  js: math.round,
  vjp: () => [null],
});
export const reciprocal = row({
  name: "reciprocal",
  rule: float,
  wgsl: ([x], _, type) => `(${type}(1.0) / ${x})`,
  js: (x) => 1 / x,
  vjp: (g, y) => [g.mul(y.square()).neg()],
  cost: 4,
});
export const sqrt = row({
  name: "sqrt",
  rule: float,
  wgsl: ([x]) => `sqrt(${x})`,
  js: Math.sqrt,
  vjp: (g, y) => [g.div(y).mul(0.5)],
  cost: 4,
});
export const rsqrt = row({
  name: "rsqrt",
  rule: float,
  wgsl: ([x]) => `inverseSqrt(${x})`,
  js: (x) => 1 / Math.sqrt(x),
  vjp: (g, y) => [g.mul(y.square().mul(y)).mul(-0.5)],
  cost: 4,
});
const clampTo = rowWith<{ min?: number; max?: number }>({
  name: "clamp",
  rule: numeric,
  wgsl: ([x], { min, max }, type) => {
    const low = min === undefined ? x : `max(${x}, ${literal(min, type)})`;
    return max === undefined ? low : `min(${low}, ${literal(max, type)})`;
  },
  js: (x, _b, _c, { min = -Infinity, max = Infinity }) => Math.min(Math.max(x, min), max),
  vjp: (g, _y, [x], { min = -Infinity, max = Infinity }) => [where(x.ge(min).logicalAnd(x.le(max)), g, 0)],
  keyOf: ({ min, max }) => `${min},${max}`,
});

/**
 * Limits x to [min, max]. A limit that is not whole makes integers float, as in arithmetic. An infinite limit is no limit
 * unless it excludes everything (min = Infinity).
 */
export function clamp(x: Tensor, limits: { min?: number; max?: number }): Tensor {
  const min = limits.min === -Infinity ? undefined : limits.min;
  const max = limits.max === Infinity ? undefined : limits.max;
  const given = [min, max].filter((v) => v !== undefined);
  if (given.some(Number.isNaN)) return mul(x, NaN);
  if (!given.every(Number.isFinite)) return bound(minimum, bound(maximum, x, min), max);
  const dtype = numeric([x, ...given.filter((v) => !Number.isInteger(v))]).out;
  if (isFloat(dtype)) return clampTo({ min, max }, cast(x, dtype));
  const [least, most] = dtype === "u32" ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1];
  if (min !== undefined && min > most) checkValue("clamp", min, dtype);
  if (max !== undefined && max < least) checkValue("clamp", max, dtype);
  const within = { min: min && Math.max(min, least), max: max && Math.min(max, most) };
  return clampTo(within, cast(x, dtype));
}
const bound = (op: typeof maximum, x: Tensor, limit?: number): Tensor => (limit === undefined ? x : op(x, limit));

/** x^b. Common exponents become cheaper ops. */
export function power(x: Tensor, b: Operand): Tensor {
  if (b === 1) return x.dtype === "bool" ? cast(x, "i32") : x;
  if (b === 2) return square(x);
  if (b === 3) return mul(square(x), x);
  if (b === 0.5) return sqrt(x);
  if (b === -0.5) return rsqrt(x);
  return b === -1 ? reciprocal(x) : pow(x, b);
}
// ---- transcendental functions and activations -------------------------------------------------

export const exp = row({
  name: "exp",
  rule: float,
  wgsl: ([x]) => `exp(${x})`,
  js: Math.exp,
  vjp: (g, y) => [g.mul(y)],
  cost: 8,
});
export const log = row({
  name: "log",
  rule: float,
  wgsl: ([x]) => `log(${x})`,
  js: Math.log,
  vjp: (g, _y, [x]) => [g.div(x)],
  cost: 8,
});
export const sin = row({
  name: "sin",
  rule: float,
  wgsl: ([x]) => `sin(${x})`,
  js: Math.sin,
  vjp: (g, _y, [x]) => [g.mul(x.cos())],
  cost: 12,
});
export const cos = row({
  name: "cos",
  rule: float,
  wgsl: ([x]) => `cos(${x})`,
  js: Math.cos,
  vjp: (g, _y, [x]) => [g.mul(x.sin()).neg()],
  cost: 12,
});
export const tanh = row({
  name: "tanh",
  rule: float,
  wgsl: ([x], _, type) => `tanh_${type}(${x})`,
  helpers: math.tanhWgsl,
  js: Math.tanh,
  vjp: (g, y) => [g.mul(y.square().neg().add(1))],
  cost: 12,
});
export const sigmoid = row({
  name: "sigmoid",
  rule: float,
  wgsl: ([x], _, type) => `(${type}(1.0) / (${type}(1.0) + exp(-${x})))`,
  js: math.sigmoid,
  vjp: (g, y) => [g.mul(y.mul(y.neg().add(1)))],
  cost: 12,
});
export const erf = row({
  name: "erf",
  rule: float,
  wgsl: ([x], _, type) => `erf_${suffix(type)}(${x})`,
  helpers: math.erfWgsl,
  js: math.erf,
  vjp: (g, _y, [x]) => [g.mul(x.square().neg().exp()).mul(2 / Math.sqrt(Math.PI))],
  cost: 16,
});
export const relu = row({
  name: "relu",
  rule: numeric,
  wgsl: ([x], _, type) => `max(${x}, ${type}(0))`,
  js: (x) => (x > 0 ? x : 0),
  vjp: (g, y) => [where(y.gt(0), g, 0)],
});
export const silu = row({
  name: "silu",
  rule: float,
  wgsl: ([x], _, type) => `(${x} / (${type}(1.0) + exp(-${x})))`,
  js: (x) => x * math.sigmoid(x),
  vjp: (g, _y, [x]) => [g.mul(swishSlope(x, 1))],
  cost: 12,
});
/** x * sigmoid(1.702 x), the activation of CLIP. */
export const quickGelu = row({
  name: "quick_gelu",
  rule: float,
  wgsl: ([x], _, type) => `(${x} / (${type}(1.0) + exp(-1.702 * ${x})))`,
  js: (x) => x * math.sigmoid(1.702 * x),
  vjp: (g, _y, [x]) => [g.mul(swishSlope(x, 1.702))],
  cost: 12,
});
/** Derivative of x * sigmoid(b x). */
function swishSlope(x: Tensor, b: number): Tensor {
  const s = x.mul(b).sigmoid();
  return s.mul(x.mul(b).mul(s.neg().add(1)).add(1));
}
export const softplus = row({
  name: "softplus",
  rule: float,
  wgsl: ([x], _, type) => `(max(${x}, ${type}(0.0)) + log(${type}(1.0) + exp(-abs(${x}))))`,
  js: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  vjp: (g, _y, [x]) => [g.mul(x.sigmoid())],
  cost: 20,
});
/** Exact GELU, x * Φ(x) (https://arxiv.org/abs/1606.08415). */
export const gelu = row({
  name: "gelu",
  rule: float,
  wgsl: ([x], _, type) => `(0.5 * ${x} * (1.0 + erf_${suffix(type)}(${x} * 0.70710678)))`,
  helpers: math.erfWgsl,
  js: (x) => x * math.normalCdf(x),
  vjp: (g, _y, [x]) => [g.mul(geluSlope(x))],
  cost: 20,
});
const geluSlope = row({
  name: "gelu_slope",
  rule: float,
  wgsl: ([x], _, type) =>
    `(0.5 + 0.5 * erf_${suffix(type)}(${x} * 0.70710678) + ${x} * 0.39894228 * exp(-0.5 * ${x} * ${x}))`,
  helpers: math.erfWgsl,
  js: (x) => math.normalCdf(x) + x * math.normalPdf(x),
  vjp: (g, _y, [x]) => [
    g.mul(
      x
        .square()
        .mul(-0.5)
        .exp()
        .mul(1 / Math.sqrt(2 * Math.PI))
        .mul(x.square().neg().add(2)),
    ),
  ],
  cost: 28,
});
/** The tanh approximation of GELU, of the same paper. */
export const geluTanh = row({
  name: "gelu_tanh",
  rule: float,
  // 0.5 (1 + tanh u) = sigmoid(2u)
  wgsl: ([x], _, type) => `(${x} / (${type}(1.0) + exp(${x} * (-1.5957691 - 0.071354814 * ${x} * ${x}))))`,
  js: (x) => x * math.sigmoid(2 * math.GELU_K * (x + 0.044715 * x ** 3)),
  vjp: (g, _y, [x]) => {
    const s = x
      .mul(
        x
          .square()
          .mul(2 * math.GELU_K * 0.044715)
          .add(2 * math.GELU_K),
      )
      .sigmoid();
    const slope = x
      .square()
      .mul(6 * math.GELU_K * 0.044715)
      .add(2 * math.GELU_K);
    return [g.mul(s.mul(x.mul(slope).mul(s.neg().add(1)).add(1)))];
  },
  cost: 16,
});
