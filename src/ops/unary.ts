import { checkValue, isFloat, isFloatType } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { full, suffix } from "./constant.ts";
import { cast, float, maximum, minimum, mul, numeric, type Operand, pow, row, where } from "./elementwise.ts";
import * as math from "./math.ts";

// Elementwise ops of one operand.

/** -x. Unsigned: 2^32 - x, as in arithmetic modulo 2^32. */
export const neg = row({
  name: "neg",
  rule: numeric,
  algebra: true,
  wgsl: ([x], _, type) => (isUnsigned(type) ? `(${type}() - ${x})` : `(-${x})`),
  js: (x) => -x,
  vjp: (g) => [g.neg()],
});
const isUnsigned = (type: string): boolean => type === "u32" || type === "vec4u";
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
  algebra: true,
  wgsl: ([x]) => `(${x} * ${x})`,
  js: (x, _b, _c, _attrs, dtype) => (isFloat(dtype) ? x * x : Math.imul(x, x)),
  vjp: (g, _y, [x]) => [g.mul(x).mul(2)],
});
/** The gradient of a step function. */
const zeroSlope = (g: Tensor): Tensor[] => [full(g.shape, 0, g.dtype)];
/** 1, 0 or -1. 0 for NaN, as in torch. */
export const sign = row({
  name: "sign",
  rule: numeric,
  wgsl: ([x], _, type) => {
    if (isUnsigned(type)) return `min(${x}, ${type}(1))`;
    return isFloatType(type) ? `select(sign(${x}), ${type}(), ${math.isNanWgsl(x, type)})` : `sign(${x})`;
  },
  js: (x) => (Number.isNaN(x) ? 0 : Math.sign(x)),
  vjp: zeroSlope,
});
const rounding = (name: "floor" | "ceil" | "round", js: (x: number) => number): ((x: Tensor) => Tensor) => {
  const op = row({ name, rule: float, wgsl: ([x]) => `${name}(${x})`, js, vjp: zeroSlope });
  return (x) => (x.dtype === "i32" || x.dtype === "u32" ? x : op(x));
};
/** Integers stay as they are. */
export const floor = rounding("floor", Math.floor);
/** Integers stay as they are. */
export const ceil = rounding("ceil", Math.ceil);
/** Rounds half to even. Integers stay as they are. */
export const round = rounding("round", math.round);
export const reciprocal = row({
  name: "reciprocal",
  rule: float,
  opaque: () => true,
  wgsl: ([x], _, type) => `(${type}(1.0) / ${x})`,
  js: (x) => 1 / x,
  vjp: (g, y) => [g.mul(y.square()).neg()],
  cost: 4,
});
export const sqrt = row({
  name: "sqrt",
  rule: float,
  opaque: () => true,
  wgsl: ([x]) => `sqrt(${x})`,
  js: Math.sqrt,
  vjp: (g, y) => [g.div(y).mul(0.5)],
  cost: 4,
});
export const rsqrt = row({
  name: "rsqrt",
  rule: float,
  opaque: () => true,
  wgsl: ([x]) => `inverseSqrt(${x})`,
  js: (x) => 1 / Math.sqrt(x),
  vjp: (g, y) => [g.mul(y.square().mul(y)).mul(-0.5)],
  cost: 4,
});
/** min(max(x, low), high): high where low > high. NaN stays. */
const clampTo = row({
  name: "clamp",
  rule: numeric,
  wgsl: ([x, low, high], _, type) => {
    const within = `min(max(${x}, ${low}), ${high})`;
    return isFloatType(type) ? `select(${within}, ${x}, ${math.isNanWgsl(x, type)})` : within;
  },
  js: (x, low, high) => Math.min(Math.max(x, low), high),
  vjp: (g, _y, [x, low, high]) => [where(x.ge(low).logicalAnd(x.le(high)), g, 0), null, null],
});

/**
 * Limits x to [min, max]; max where min > max. A limit that is not whole makes integers float, as in arithmetic. An infinite
 * limit is no limit unless it excludes everything (min = Infinity). As in torch, one limit of NaN counts as none, while with
 * two limits NaN gives NaN. Limits that are tensors broadcast; where they are NaN, so is the result.
 * @throws on an unknown option.
 */
export function clamp(x: Tensor, limits: { min?: Operand; max?: Operand }): Tensor {
  if (typeof limits !== "object" || "node" in limits)
    throw new TypeError("clamp: expected limits { min, max }, as in x.clamp({ min: 0 })");
  checkOptions("clamp", limits, ["min", "max"]);
  const { min, max } = limits;
  if (typeof min === "object" || typeof max === "object") {
    const least = min === undefined ? x : maximum(x, min);
    return max === undefined ? least : minimum(least, max);
  }
  if (min !== undefined && max !== undefined && (Number.isNaN(min) || Number.isNaN(max))) return mul(x, NaN);
  const low = min === undefined || Number.isNaN(min) ? -Infinity : min;
  const high = max === undefined || Number.isNaN(max) ? Infinity : max;
  const dtype = numeric([x, ...[low, high].filter((v) => Number.isFinite(v) && !Number.isInteger(v))]).out;
  if (isFloat(dtype) || low === Infinity || high === -Infinity)
    return clampTo(cast(x, isFloat(dtype) ? dtype : "f32"), low, high);
  const [least, most] = dtype === "u32" ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1];
  if (low > most) checkValue("clamp", low, dtype);
  if (high < least) checkValue("clamp", high, dtype);
  return clampTo(cast(x, dtype), Math.max(low, least), Math.min(high, most));
}

/**
 * x^b. Common exponents become cheaper ops. Integers to the power of integers are integers.
 * @throws if x is of an integer dtype and b a negative whole number.
 */
export function power(x: Tensor, b: Operand): Tensor {
  if (typeof b === "number" && b < 0 && Number.isInteger(b) && !isFloat(x.dtype))
    throw new RangeError(`pow: ${x.dtype} has no powers below 0, got ${b}: cast the tensor to f32 first`);
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
  opaque: () => true,
  wgsl: ([x]) => `exp(${x})`,
  js: Math.exp,
  vjp: (g, y) => [g.mul(y)],
  cost: 8,
});
export const log = row({
  name: "log",
  rule: float,
  opaque: () => true,
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
  wgsl: ([x], _, type) => `tanh_${suffix(type)}(${x})`,
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
  // By bits: zero where they are those of a negative number, but not of NaN.
  wgsl: ([x], _, type) =>
    isFloatType(type)
      ? `select(${x}, ${type}(), ${math.signedBitsWgsl(x, type)} <= ${math.signed(type)}(-8388608))`
      : `max(${x}, ${type}())`,
  js: (x) => (x <= 0 ? 0 : x),
  vjp: (g, y) => [where(y.le(0), 0, g)], // NaN passes the gradient, as in torch
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
  wgsl: ([x], _, type) => `softplus_${suffix(type)}(${x})`,
  helpers: math.softplusWgsl,
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
