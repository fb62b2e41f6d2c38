import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { normalizeDim, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { float, row, where } from "./elementwise.ts";
import { expm1 } from "./exponential.ts";
import { rand } from "./random.ts";

// Activations. Those with a kink are compositions of `where`, so that each side has its own slope; they fuse to one kernel.
// Integers become f32.

const floats = (x: Tensor): Tensor => (isFloat(x.dtype) ? x : x.to("f32"));

function checkFinite(op: string, values: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(values))
    if (!Number.isFinite(value)) throw new RangeError(`${op}: ${name} must be a finite number, got ${value}`);
}

/** max(x, 0). Its slope at 0 is 0. Integers stay integers. */
export const relu = (x: Tensor): Tensor => x.relu();
/** x Φ(x), exact or by the tanh approximation (https://arxiv.org/abs/1606.08415). */
export const gelu = (x: Tensor, options: { approximate?: "none" | "tanh" } = {}): Tensor => x.gelu(options);
/** x * sigmoid(x). */
export const silu = (x: Tensor): Tensor => x.silu();
/** 1 / (1 + exp(-x)). */
export const sigmoid = (x: Tensor): Tensor => x.sigmoid();
/** Hyperbolic tangent. */
export const tanh = (x: Tensor): Tensor => x.tanh();

/** x where x > 0, else negativeSlope * x, also for the slope at 0. */
export function leakyRelu(x: Tensor, negativeSlope = 0.01): Tensor {
  checkFinite("leakyRelu", { negativeSlope });
  const y = floats(x);
  return where(y.gt(0), y, y.mul(negativeSlope));
}

/** x where x > 0, else weight * x. `weight` is one number, or one per channel: [C] for x [N, C, ...]. */
export function prelu(x: Tensor, weight: Tensor): Tensor {
  const channels = x.ndim < 2 ? 1 : x.shape[1];
  if (weight.numel !== 1 && (weight.ndim !== 1 || weight.shape[0] !== channels))
    throw new Error(`prelu: weight ${show(weight.shape)} for ${show(x.shape)}: expected [1] or [${channels}]`);
  const y = floats(x);
  const slopes = weight.reshape(weight.numel === 1 ? [] : [-1, ...new Array<number>(x.ndim - 2).fill(1)]);
  return where(y.gt(0), y, y.mul(slopes));
}

/** x where x > 0, else alpha (e^x - 1) (https://arxiv.org/abs/1511.07289). */
export function elu(x: Tensor, alpha = 1): Tensor {
  checkFinite("elu", { alpha });
  return exponentialBelow(floats(x), (y) => expm1(y).mul(alpha));
}
/** x where x > 0, else alpha (e^(x / alpha) - 1) (https://arxiv.org/abs/1704.07483). */
export function celu(x: Tensor, alpha = 1): Tensor {
  checkFinite("celu", { alpha });
  if (alpha === 0) throw new RangeError("celu: alpha must not be 0");
  return exponentialBelow(floats(x), (y) => expm1(y.div(alpha)).mul(alpha));
}
/** scale * elu(x, 1.6732…), which keeps mean 0 and variance 1 (https://arxiv.org/abs/1706.02515). */
export const selu = (x: Tensor): Tensor => elu(x, 1.6732632423543772).mul(1.0507009873554805);

/** x above 0, `below(x)` up to 0. Positive values do not reach `below`, where an infinite slope would give 0 * ∞. */
function exponentialBelow(x: Tensor, below: (x: Tensor) => Tensor): Tensor {
  const positive = x.gt(0);
  return where(positive, x, below(where(positive, 0, x)));
}

/** x tanh(softplus(x)) (https://arxiv.org/abs/1908.08681), as x n / (n + 2) with n = e^x (e^x + 2). */
export const mish = row({
  name: "mish",
  rule: float,
  wgsl: ([x], _, type) => `mish_${type}(${x})`,
  helpers: (type) => `fn mish_${type}(x: ${type}) -> ${type} {
  let e = exp(min(x, ${type}(20.0)));
  let n = e * (e + 2.0);
  return x * (n / (n + 2.0));
}`,
  js: (x) => x * Math.tanh(Math.log1p(Math.exp(Math.min(x, 700)))),
  vjp: (g, _y, [x]) => {
    const t = x.softplus().tanh();
    return [g.mul(t.add(x.mul(x.sigmoid()).mul(t.square().neg().add(1))))];
  },
  cost: 16,
}) as (x: Tensor) => Tensor;

/** x limited to [low, high]. Slope 0 at both ends and outside; NaN stays. */
const limited = (x: Tensor, low: number, high: number): Tensor => where(x.ge(high), high, where(x.le(low), low, x));

/** x limited to [minVal, maxVal]. Slope 0 at both ends. */
export function hardtanh(x: Tensor, minVal = -1, maxVal = 1): Tensor {
  if (!(minVal <= maxVal)) throw new RangeError(`hardtanh: minVal ${minVal} is above maxVal ${maxVal}`);
  return limited(floats(x), minVal, maxVal);
}
/** x limited to [0, 6]. Slope 0 at both ends. */
export const relu6 = (x: Tensor): Tensor => limited(floats(x), 0, 6);
/** relu6(x + 3) / 6. */
export const hardsigmoid = (x: Tensor): Tensor => relu6(floats(x).add(3)).div(6);
/** x relu6(x + 3) / 6 (https://arxiv.org/abs/1905.02244). */
export function hardswish(x: Tensor): Tensor {
  const y = floats(x);
  return where(y.ge(3), y, where(y.le(-3), 0, y.mul(y.add(3)).div(6)));
}

/** x outside [-lambd, lambd], else 0. */
export function hardshrink(x: Tensor, lambd = 0.5): Tensor {
  checkFinite("hardshrink", { lambd });
  const y = floats(x);
  return where(y.ge(-lambd).logicalAnd(y.le(lambd)), 0, y);
}
/** x moved towards 0 by lambd: 0 in [-lambd, lambd]. */
export function softshrink(x: Tensor, lambd = 0.5): Tensor {
  if (!(lambd >= 0)) throw new RangeError(`softshrink: lambd must be a number from 0 on, got ${lambd}`);
  const y = floats(x);
  return where(y.ge(-lambd).logicalAnd(y.le(lambd)), 0, y.sub(where(y.gt(0), lambd, -lambd)));
}
/** x / (1 + |x|). */
export const softsign = (x: Tensor): Tensor => x.div(x.abs().add(1));
/** x - tanh(x). */
export const tanhshrink = (x: Tensor): Tensor => floats(x).sub(x.tanh());
/** x where x > threshold, else value. NaN stays. */
export function threshold(x: Tensor, limit: number, value: number): Tensor {
  if (Number.isNaN(limit)) throw new RangeError("threshold: the threshold must be a number, got NaN");
  return where(x.le(limit), value, x);
}
/** log(sigmoid(x)), without overflow. */
export const logsigmoid = (x: Tensor): Tensor => x.neg().softplus().neg();

export interface SoftplusOptions {
  /** Sharpness: log(1 + e^(beta x)) / beta. Default 1. */
  beta?: number;
  /** Where beta x is larger, the result is x. Default 20. */
  threshold?: number;
}
/** log(1 + e^(beta x)) / beta, without overflow. */
export function softplus(x: Tensor, options: SoftplusOptions = {}): Tensor {
  checkOptions("softplus", options, ["beta", "threshold"]);
  const { beta = 1, threshold: limit = 20 } = options;
  checkFinite("softplus", { beta });
  if (beta === 0) throw new RangeError("softplus: beta must not be 0");
  if (Number.isNaN(limit)) throw new RangeError("softplus: threshold must be a number, got NaN");
  const y = floats(x);
  const scaled = beta === 1 ? y : y.mul(beta);
  const smooth = scaled.softplus();
  return where(scaled.gt(limit), y, beta === 1 ? smooth : smooth.div(beta));
}

/** a * sigmoid(b) for the halves a and b of `dim` (default the last): [..., 2n, ...] -> [..., n, ...]. */
export function glu(x: Tensor, dim = -1): Tensor {
  const d = normalizeDim("glu", dim, x.ndim);
  const n = x.shape[d];
  if (n === undefined || n % 2 !== 0) throw new Error(`glu: dim ${dim} of ${show(x.shape)} must have an even size`);
  return x.narrow(d, 0, n / 2).mul(x.narrow(d, n / 2, n / 2).sigmoid());
}

/** exp(x) / sum(exp(x)) along `dim`. */
export const softmax = (x: Tensor, dim: number): Tensor => x.softmax(dim);
/** log(softmax(x)) along `dim`, without overflow. */
export const logSoftmax = (x: Tensor, dim: number): Tensor => x.logSoftmax(dim);
/** softmax(-x) along `dim`. */
export const softmin = (x: Tensor, dim: number): Tensor => floats(x).neg().softmax(dim);

export interface GumbelOptions {
  /** Temperature: small values approach one-hot rows. Default 1. */
  tau?: number;
  /** One-hot rows in the result, with the gradient of the soft ones. Default false. */
  hard?: boolean;
  /** Default -1. */
  dim?: number;
}
/** Random soft or one-hot samples of softmax(logits) along `dim` (https://arxiv.org/abs/1611.01144). */
export function gumbelSoftmax(logits: Tensor, options: GumbelOptions = {}): Tensor {
  checkOptions("gumbelSoftmax", options, ["tau", "hard", "dim"]);
  const { tau = 1, hard = false, dim = -1 } = options;
  if (!(tau > 0)) throw new RangeError(`gumbelSoftmax: tau must be above 0, got ${tau}`);
  const noise = rand(...logits.shape)
    .neg()
    .add(1)
    .log()
    .neg()
    .log()
    .neg(); // -log(-log u), u in (0, 1]
  const soft = floats(logits).add(noise).div(tau).softmax(dim);
  if (!hard) return soft;
  const oneHot = soft.detach().eq(soft.detach().amax(dim, true)).to(soft.dtype);
  return oneHot.sub(soft.detach()).add(soft);
}
