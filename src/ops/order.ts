import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { normalizeDim, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { where } from "./elementwise.ts";
import { tensor } from "./leaf.ts";
import { reshape } from "./movement.ts";
import { isnan } from "./nonfinite.ts";
import type { Extremum } from "./reduce.ts";
import { argsort, searchsorted, sort } from "./sort.ts";

// Order statistics. All sort first.

/** The elements at `indices` [..., 1, ...] along `dim`, which is dropped unless `keepdim`. */
function pick(x: Tensor, dim: number, indices: Tensor, keepdim: boolean): Extremum {
  const values = x.gather(dim, indices);
  return keepdim ? { values, indices } : { values: drop(values, dim), indices: drop(indices, dim) };
}

const drop = (x: Tensor, dim: number): Tensor =>
  reshape(
    x,
    x.shape.filter((_, d) => d !== dim),
  );

/** Size of the dim. @throws if it is 0. */
function sizeOf(op: string, x: Tensor, dim: number): number {
  if (x.shape[dim] === 0) throw new RangeError(`${op}: dim ${dim} of ${show(x.shape)} is empty: expected an element`);
  return x.shape[dim];
}

/** 0-d tensors as one element. */
const atLeast1d = (x: Tensor): Tensor => (x.ndim === 0 ? reshape(x, [1]) : x);
const like = (x: Tensor, { values, indices }: Extremum): Extremum =>
  x.ndim > 0 ? { values, indices } : { values: reshape(values, []), indices: reshape(indices, []) };

/**
 * The k-th smallest element along a dim, from 1, and its i32 position. NaN counts as the largest.
 * @throws if k is not between 1 and the size of the dim.
 */
export function kthvalue(x: Tensor, k: number, dim = -1, keepdim = false): Extremum {
  const d = normalizeDim("kthvalue", dim, x.ndim);
  const rows = atLeast1d(x);
  const n = rows.shape[d];
  if (!Number.isInteger(k) || k < 1 || !(k <= n))
    throw new RangeError(`kthvalue: k = ${k} of ${show(x.shape)}: expected 1 to ${n}, the size of dim ${d}`);
  return like(x, pick(rows, d, argsort(rows, { dim: d }).narrow(d, k - 1, 1), keepdim));
}

/** Number of elements along `dim` that are not NaN, i32, kept with size 1. */
const countNumbers = (x: Tensor, dim: number): Tensor => isnan(x).logicalNot().sum(dim, true);

function middle(op: string, x: Tensor, dim: number, keepdim: boolean, skipNaN: boolean): Extremum {
  const d = normalizeDim(op, dim, x.ndim);
  const rows = atLeast1d(x);
  const n = sizeOf(op, rows, d);
  const half = (count: Tensor): Tensor => count.sub(1).mul(0.5).floor().maximum(0).to("i32");
  const order = argsort(rows, { dim: d });
  const count = countNumbers(rows, d);
  const at = skipNaN ? half(count) : where(count.lt(n), count, (n - 1) >> 1); // sorted, the first NaN is at `count`
  return like(x, pick(rows, d, order.gather(d, at), keepdim));
}

/** As torch: without a dim the median of all elements alone. */
export type Median = {
  (x: Tensor): Tensor;
  (x: Tensor, dim: number, keepdim?: boolean): Extremum;
};

function medianOf(op: string, skipNaN: boolean): Median {
  function find(x: Tensor): Tensor;
  function find(x: Tensor, dim: number, keepdim?: boolean): Extremum;
  function find(x: Tensor, dim?: number, keepdim = false): Tensor | Extremum {
    return dim === undefined
      ? middle(op, reshape(x, [-1]), 0, false, skipNaN).values
      : middle(op, x, dim, keepdim, skipNaN);
  }
  return find;
}

/** The middle element, of an even number the lower one; with a dim also its i32 position. NaN if any element is. */
export const median = medianOf("median", false);
/** `median` of the elements that are not NaN. NaN if all are. */
export const nanmedian = medianOf("nanmedian", true);

/** The most frequent element along a dim, of equally frequent ones the smallest, and the i32 position of its last occurrence. */
export function mode(x: Tensor, dim = -1, keepdim = false): Extremum {
  const d = normalizeDim("mode", dim, x.ndim);
  const rows = atLeast1d(x);
  sizeOf("mode", rows, d);
  const sorted = sort(rows.transpose(d, -1).detach());
  const [first, end] = [false, true].map((right) => searchsorted(sorted.values, sorted.values, { right }));
  const at = end.sub(first).argmax(-1, true);
  const last = sorted.indices.gather(-1, end.gather(-1, at).sub(1));
  return like(x, pick(rows, d, last.transpose(d, -1), keepdim));
}

export interface QuantileOptions {
  /** Default: all elements. */
  dim?: number;
  keepdim?: boolean;
  /** How a position between two elements is read; nearest: half to even. Default linear. */
  interpolation?: "linear" | "lower" | "higher" | "nearest" | "midpoint";
}

const interpolations = ["linear", "lower", "higher", "nearest", "midpoint"] as const;

function quantileOf(
  op: string,
  x: Tensor,
  q: number | readonly number[],
  options: QuantileOptions,
  skipNaN: boolean,
): Tensor {
  checkOptions(op, options, ["dim", "keepdim", "interpolation"]);
  const { dim, keepdim = false, interpolation = "linear" } = options;
  const levels = typeof q === "number" ? [q] : q;
  const bad = levels.find((level) => !(level >= 0 && level <= 1));
  if (bad !== undefined || levels.length === 0)
    throw new RangeError(`${op}: q = ${bad ?? "[]"}: expected numbers from 0 to 1`);
  if (!isFloat(x.dtype)) throw new TypeError(`${op}: a float tensor is expected, got ${x.dtype}: cast it with float()`);
  if (!interpolations.includes(interpolation))
    throw new RangeError(`${op}: unknown interpolation ${interpolation}: expected ${interpolations.join(", ")}`);
  const d = dim === undefined ? 0 : normalizeDim(op, dim, x.ndim);
  const rows = (dim === undefined || x.ndim === 0 ? reshape(x, [-1]) : x).transpose(d, -1); // [..., n]
  const n = sizeOf(op, rows, rows.ndim - 1);
  const values = sort(rows).values;
  const count = countNumbers(rows, rows.ndim - 1);
  const ranks = count
    .sub(1)
    .maximum(0)
    .float()
    .mul(tensor([...levels])); // [..., Q]
  const result = read(values, skipNaN ? ranks : where(count.lt(n), n - 1, ranks), interpolation); // [..., Q]
  const kept = x.shape.map((size, i) => (dim === undefined || i === d ? 1 : size));
  const each = result.transpose(d === rows.ndim - 1 ? -1 : d, -1); // Q at the place of the dim
  const shape = keepdim ? kept : dim === undefined ? [] : kept.filter((_, i) => i !== d);
  if (typeof q === "number") return reshape(each, shape);
  const first = [d, ...each.shape.map((_, i) => i).filter((i) => i !== d)];
  return reshape(each.permute(first), [levels.length, ...shape]);
}

/** Sorted rows [..., n] at fractional positions [..., Q]. */
function read(sorted: Tensor, at: Tensor, interpolation: string): Tensor {
  if (interpolation === "nearest") return sorted.gather(-1, at.round().to("i32"));
  const low = at.floor();
  const [below, above] = [low, at.ceil()].map((i) => sorted.gather(-1, i.to("i32")));
  if (interpolation === "lower") return below;
  if (interpolation === "higher") return above;
  const weight = interpolation === "midpoint" ? 0.5 : at.sub(low).to(sorted.dtype);
  return where(at.eq(low), below, below.add(above.sub(below).mul(weight)));
}

/**
 * Quantiles over a dim, or over all elements: x [..., n] -> [...], with a list of q [Q, ...]. q lies in [0, 1]; the position
 * q (n - 1) among the sorted elements is interpolated. NaN if any element is.
 */
export const quantile = (x: Tensor, q: number | readonly number[], options: QuantileOptions = {}): Tensor =>
  quantileOf("quantile", x, q, options, false);
/** `quantile` of the elements that are not NaN. NaN if all are. */
export const nanquantile = (x: Tensor, q: number | readonly number[], options: QuantileOptions = {}): Tensor =>
  quantileOf("nanquantile", x, q, options, true);
