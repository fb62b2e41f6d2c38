import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { where } from "./elementwise.ts";
import { isnan } from "./nonfinite.ts";
import { type Dim, mean, variance } from "./reduce.ts";

// Reductions made of others: truth, counts, norms, deviations, and sums without NaN.

/** bool: whether an element over dims is not 0; NaN is not. Of no elements: false. */
export const any = (x: Tensor, dim?: Dim, keepdim = false): Tensor => x.to("bool").sum(dim, keepdim).gt(0);
/** bool: whether all elements over dims are not 0; NaN is not. Of no elements: true. */
export const all = (x: Tensor, dim?: Dim, keepdim = false): Tensor => x.logicalNot().sum(dim, keepdim).eq(0);
/** Number of elements over dims that are not 0, i32. NaN counts. */
export const countNonzero = (x: Tensor, dim?: Dim): Tensor => x.to("bool").sum(dim);

interface Over {
  /** One dim, several, or all if absent. */
  dim?: Dim;
  /** Keeps reduced dims with size 1. Default false. */
  keepdim?: boolean;
}

/** Smallest and largest element over dims. Ties share the gradient; NaN wins. */
export function aminmax(x: Tensor, options: Over = {}): { min: Tensor; max: Tensor } {
  checkOptions("aminmax", options, ["dim", "keepdim"]);
  const { dim, keepdim } = options;
  return { min: x.amin(dim, keepdim), max: x.amax(dim, keepdim) };
}

/** Sum over dims of the elements that are not NaN. Of only NaN: 0. */
export const nansum = (x: Tensor, dim?: Dim, keepdim = false): Tensor =>
  (isFloat(x.dtype) ? where(isnan(x), 0, x) : x).sum(dim, keepdim);
/** Mean over dims of the elements that are not NaN. Of only NaN: NaN. */
export function nanmean(x: Tensor, dim?: Dim, keepdim = false): Tensor {
  if (!isFloat(x.dtype)) return x.mean(dim, keepdim);
  if (x.dtype === "f16") return nanmean(x.to("f32"), dim, keepdim).to("f16");
  const count = isnan(x).logicalNot().sum(dim, keepdim);
  // Not 0 / 0: a driver may know that the sum of nothing is 0, and 0 / x then.
  return where(count.eq(0), NaN, nansum(x, dim, keepdim).div(count));
}

/** √x, with slope 0 at 0. */
const root = (x: Tensor): Tensor => where(x.eq(0), 0, where(x.eq(0), 1, x).sqrt());

export interface VarianceOptions extends Over {
  /** Divides by n - correction. Default 1. */
  correction?: number;
}
const VARIANCE = ["dim", "keepdim", "correction"];

/** Standard deviation over dims: the root of the variance, divided by n - correction (default 1). Its gradient is 0 where it is 0. */
export function std(x: Tensor, options: VarianceOptions = {}): Tensor {
  checkOptions("std", options, VARIANCE);
  if (x.dtype === "f16") return root(variance(x.to("f32"), options)).to("f16");
  return root(variance(x, options));
}
/** Variance and mean over dims. */
export function varMean(x: Tensor, options: VarianceOptions = {}): { var: Tensor; mean: Tensor } {
  checkOptions("varMean", options, VARIANCE);
  return { var: variance(x, options), mean: mean(x, options.dim, options.keepdim) };
}
/** Standard deviation and mean over dims. */
export function stdMean(x: Tensor, options: VarianceOptions = {}): { std: Tensor; mean: Tensor } {
  checkOptions("stdMean", options, VARIANCE);
  return { std: std(x, options), mean: mean(x, options.dim, options.keepdim) };
}

export interface NormOptions extends Over {
  /** Order: a number, ±Infinity (largest and smallest |x|), 0 (count of non-zeros), or "fro" (2). Default 2. */
  p?: number | "fro";
}

/** Vector norm over dims: (Σ |x|^p)^(1/p). Integers become f32. Its gradient is 0 where it is 0. */
export function norm(x: Tensor, options: NormOptions = {}): Tensor {
  checkOptions("norm", options, ["p", "dim", "keepdim"]);
  const { p = 2, dim, keepdim = false } = options;
  if (x.dtype === "f16") return norm(x.to("f32"), options).to("f16");
  const y = isFloat(x.dtype) ? x : x.to("f32");
  if (p === "fro" || p === 2) return root(y.square().sum(dim, keepdim));
  if (typeof p !== "number" || Number.isNaN(p)) throw new RangeError(`norm: p must be a number or "fro", got ${p}`);
  if (p === 0) return y.ne(0).to("f32").sum(dim, keepdim);
  const size = y.abs();
  if (p === 1) return size.sum(dim, keepdim);
  if (p === Infinity) return size.amax(dim, keepdim);
  if (p === -Infinity) return size.amin(dim, keepdim);
  if (p < 0)
    return size
      .pow(p)
      .sum(dim, keepdim)
      .pow(1 / p);
  return power(power(size, p).sum(dim, keepdim), 1 / p);
}
/** x^p for x >= 0 and p > 0, with slope 0 at 0. */
const power = (x: Tensor, p: number): Tensor => where(x.eq(0), 0, where(x.eq(0), 1, x).pow(p));
