import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { rand } from "./random.ts";

// Dropout of whole channels, and dropout that keeps mean and variance. dropout itself is in random.ts.

export interface DropoutOptions {
  /** False: x as it is. Default true. */
  training?: boolean;
}

function isOff(op: string, x: Tensor, p: number, options: DropoutOptions): boolean {
  checkOptions(op, options, ["training"]);
  if (!(p >= 0 && p < 1)) throw new RangeError(`${op}: p must be in [0, 1), got ${p}`);
  if (!isFloat(x.dtype)) throw new TypeError(`${op}: expected a float tensor, got ${x.dtype} ${show(x.shape)}`);
  return p === 0 || options.training === false;
}

/** 1 with probability 1 - p, else 0: one number per channel of x [N, C, ...]. */
const keptChannels = (x: Tensor, p: number): Tensor =>
  rand(x.shape.map((n, d) => (d < 2 ? n : 1)))
    .ge(p)
    .to(x.dtype);

const channelDropout =
  (op: string, dims: number) =>
  (x: Tensor, p = 0.5, options: DropoutOptions = {}): Tensor => {
    if (x.ndim !== dims && x.ndim !== dims + 1)
      throw new Error(`${op}: expected [N, C, ...] or [C, ...] with ${dims - 1} dims after C, got ${show(x.shape)}`);
    if (isOff(op, x, p, options)) return x;
    const batch = x.ndim === dims ? x.unsqueeze(0) : x;
    return batch.mul(keptChannels(batch, p).mul(1 / (1 - p))).reshape(x.shape);
  };
/** Zeroes whole channels of x [N, C, L] or [C, L] with probability p, and scales the others by 1 / (1 - p). */
export const dropout1d = channelDropout("dropout1d", 2);
/** Zeroes whole channels of x [N, C, H, W] or [C, H, W] with probability p, and scales the others by 1 / (1 - p). */
export const dropout2d = channelDropout("dropout2d", 3);
/** Zeroes whole channels of x [N, C, D, H, W] or [C, D, H, W] with probability p, and scales the others by 1 / (1 - p). */
export const dropout3d = channelDropout("dropout3d", 4);

/** What selu tends to for x = -∞. */
const SATURATION = -1.7580993408473766;

/** Sets elements to selu's saturation, then scales and shifts so that mean 0 and variance 1 stay. */
function saturate(x: Tensor, kept: Tensor, p: number): Tensor {
  const scale = 1 / Math.sqrt((1 - p) * (1 + p * SATURATION ** 2));
  const dropped = kept.neg().add(1).mul(SATURATION);
  return x
    .mul(kept)
    .add(dropped)
    .mul(scale)
    .sub(scale * p * SATURATION);
}
/** Dropout for selu: keeps mean 0 and variance 1 of its input (https://arxiv.org/abs/1706.02515). */
export function alphaDropout(x: Tensor, p = 0.5, options: DropoutOptions = {}): Tensor {
  return isOff("alphaDropout", x, p, options) ? x : saturate(x, rand(x.shape).ge(p).to(x.dtype), p);
}
/** As alphaDropout, for whole channels of x [N, C, ...]. */
export function featureAlphaDropout(x: Tensor, p = 0.5, options: DropoutOptions = {}): Tensor {
  if (x.ndim < 2) throw new Error(`featureAlphaDropout: expected [N, C, ...], got ${show(x.shape)}`);
  return isOff("featureAlphaDropout", x, p, options) ? x : saturate(x, keptChannels(x, p), p);
}
