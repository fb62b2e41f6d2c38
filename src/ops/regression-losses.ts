import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { where } from "./elementwise.ts";
import { checkLoss, checkShapes, type LossOptions, reduced } from "./loss.ts";

// Losses of predictions and targets of one shape. All give [] unless the reduction is "none".

/** |x - y|. Its gradient is 0 where they are equal. */
export function l1Loss(x: Tensor, y: Tensor, options: LossOptions = {}): Tensor {
  checkLoss("l1Loss", options);
  checkShapes("l1Loss", x, y);
  return reduced(x.sub(y).abs(), options);
}

/** d² / (2 beta) where d = |x - y| < beta, else d - beta / 2. Default beta 1; 0 is l1Loss. */
export function smoothL1Loss(x: Tensor, y: Tensor, options: LossOptions & { beta?: number } = {}): Tensor {
  checkLoss("smoothL1Loss", options, ["beta"]);
  checkShapes("smoothL1Loss", x, y);
  const { beta = 1 } = options;
  if (!(beta >= 0)) throw new RangeError(`smoothL1Loss: beta must be a number from 0 on, got ${beta}`);
  const d = x.sub(y).abs();
  return reduced(beta === 0 ? d : where(d.lt(beta), d.square().mul(0.5 / beta), d.sub(beta / 2)), options);
}

/** d² / 2 where d = |x - y| <= delta, else delta (d - delta / 2). Default delta 1. */
export function huberLoss(x: Tensor, y: Tensor, options: LossOptions & { delta?: number } = {}): Tensor {
  checkLoss("huberLoss", options, ["delta"]);
  checkShapes("huberLoss", x, y);
  const { delta = 1 } = options;
  if (!(delta > 0)) throw new RangeError(`huberLoss: delta must be above 0, got ${delta}`);
  const d = x.sub(y).abs();
  return reduced(where(d.le(delta), d.square().mul(0.5), d.sub(delta / 2).mul(delta)), options);
}

export interface KlOptions {
  /** "batchmean" divides the sum by the size of dim 0: the KL divergence. Default "mean", of all elements. */
  reduction?: "mean" | "batchmean" | "sum" | "none";
  /** The target holds log-probabilities too. Default false. */
  logTarget?: boolean;
}
/** target (log(target) - x) of log-probabilities x, and 0 where the target is 0. */
export function klDiv(x: Tensor, target: Tensor, options: KlOptions = {}): Tensor {
  const { reduction = "mean", logTarget = false } = options;
  checkOptions("klDiv", options, ["reduction", "logTarget"]);
  checkLoss("klDiv", { reduction: reduction === "batchmean" ? "sum" : reduction });
  checkShapes("klDiv", x, target);
  const zero = target.eq(0);
  const safe = where(zero, 1, target);
  const losses = logTarget ? target.exp().mul(target.sub(x)) : where(zero, 0, safe.mul(safe.log().sub(x)));
  if (reduction === "batchmean") return losses.sum().div(x.shape[0] ?? 1);
  return reduced(losses, { reduction });
}

export interface GaussianOptions extends LossOptions {
  /** Adds log(2π) / 2. Default false. */
  full?: boolean;
  /** Least variance; the limit has no part in the gradient. Default 1e-6. */
  eps?: number;
}
/** (log v + (x - y)² / v) / 2 for variances v: in the shape of x, or with a last dim of size 1 or none. */
export function gaussianNLLLoss(x: Tensor, y: Tensor, variance: Tensor, options: GaussianOptions = {}): Tensor {
  checkLoss("gaussianNLLLoss", options, ["full", "eps"]);
  checkShapes("gaussianNLLLoss", x, y);
  const { full = false, eps = 1e-6 } = options;
  if (!(eps > 0)) throw new RangeError(`gaussianNLLLoss: eps must be above 0, got ${eps}`);
  const given = variance.ndim === x.ndim - 1 ? variance.unsqueeze(-1) : variance;
  if (given.ndim !== x.ndim || given.shape.some((n, d) => n !== x.shape[d] && !(n === 1 && d === x.ndim - 1)))
    throw new Error(`gaussianNLLLoss: variances ${show(variance.shape)} do not fit ${show(x.shape)}`);
  const fixed = given.detach();
  const v = given.add(fixed.clamp({ min: eps }).sub(fixed));
  const losses = v.log().add(x.sub(y).square().div(v)).mul(0.5);
  return reduced(full ? losses.add(0.5 * Math.log(2 * Math.PI)) : losses, options);
}

export interface PoissonOptions extends LossOptions {
  /** x is the logarithm of the rate. Default true. */
  logInput?: boolean;
  /** Adds Stirling's approximation of log(y!) where y > 1. Default false. */
  full?: boolean;
  /** Added to the rate before its logarithm. Default 1e-8. */
  eps?: number;
}
/** e^x - y x, or x - y log(x + eps) without `logInput`, for counts y. */
export function poissonNLLLoss(x: Tensor, y: Tensor, options: PoissonOptions = {}): Tensor {
  checkLoss("poissonNLLLoss", options, ["logInput", "full", "eps"]);
  checkShapes("poissonNLLLoss", x, y);
  const { logInput = true, full = false, eps = 1e-8 } = options;
  const losses = logInput ? x.exp().sub(y.mul(x)) : x.sub(y.mul(x.add(eps).log()));
  if (!full) return reduced(losses, options);
  const large = y.gt(1);
  const safe = where(large, y, 1);
  const stirling = safe
    .mul(safe.log())
    .sub(safe)
    .add(
      safe
        .mul(2 * Math.PI)
        .log()
        .mul(0.5),
    );
  return reduced(losses.add(where(large, stirling, 0)), options);
}
