import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { normalizeDim, numel, show } from "../graph/shape.ts";
import { flush } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { arange } from "./creation.ts";
import { where } from "./elementwise.ts";
import { cat, reshape } from "./movement.ts";
import { argsort, searchsorted, sort } from "./sort.ts";

// Distinct elements and counts. Their shapes depend on values, so that some functions wait for the device.

export interface Unique {
  /** The distinct elements [U], or along a dim the distinct slices. */
  readonly values: Tensor;
  /** i32: which value each element is. Shape of x; along a dim [n]. */
  readonly inverse: Tensor;
  /** i32 [U]: how often each value occurs. */
  readonly counts: Tensor;
}

export interface UniqueOptions {
  /** Compares the slices along this dim. Default: all elements of the flattened tensor. */
  dim?: number;
}

/** x as rows [n, m] that are compared, and the way back from rows. */
function rowsOf(op: string, x: Tensor, options: UniqueOptions) {
  checkOptions(op, options, ["dim"]);
  if (options.dim === undefined) {
    const back = (rows: Tensor): Tensor => reshape(rows, [-1]);
    return { rows: reshape(x, [x.numel, 1]), back, shape: x.shape };
  }
  const d = normalizeDim(op, options.dim, x.ndim);
  const moved = x.ndim === 0 ? reshape(x, [1]) : x.transpose(0, d);
  const [n, ...rest] = moved.shape;
  if (numel(rest) === 0) throw new Error(`${op}: slices of ${show(x.shape)} along dim ${d} are empty`);
  const back = (rows: Tensor): Tensor => reshape(rows, [rows.shape[0], ...rest]).transpose(0, d);
  return { rows: reshape(moved, [n, numel(rest)]), back, shape: [n] };
}

/** Positions that sort rows [n, m] in lexicographic order: by each column, the last first, as each sort is stable. */
function lexicographic(rows: Tensor): Tensor {
  const [, m] = rows.shape;
  let order = argsort(rows.select(1, m - 1));
  for (let c = m - 2; c >= 0; c--) order = order.indexSelect(0, argsort(rows.select(1, c).indexSelect(0, order)));
  return order;
}

/** Runs of equal rows: the number of each row's run, and for each run its first row and its length. */
async function runsOf(rows: Tensor): Promise<{ run: Tensor; starts: Tensor; counts: Tensor }> {
  const n = rows.shape[0];
  const differs = rows
    .narrow(0, 1, n - 1)
    .ne(rows.narrow(0, 0, n - 1))
    .sum(1)
    .gt(0); // [n - 1]
  const run = cat([full([1], 0, "i32"), differs.to("i32")]).cumsum(0);
  await flush(run, rows);
  const count = 1 + (await run.narrow(0, n - 1, 1).item());
  const starts = searchsorted(run, arange(count));
  return { run, starts, counts: cat([starts.narrow(0, 1, count - 1), full([1], n, "i32")]).sub(starts) };
}

const none = (x: Tensor, shape: readonly number[]): Unique => ({
  values: x.detach(),
  inverse: full(shape, 0, "i32"),
  counts: full([0], 0, "i32"),
});

/**
 * The distinct elements in ascending order, where each element of x is among them, and how often each occurs. With a dim the
 * distinct slices along it, in lexicographic order, at the cost of a sort per element of a slice. Waits for the number of
 * values. NaN differs from NaN. No gradient.
 * @example const { values, counts } = await unique(tensor([3, 1, 3])) // values 1, 3; counts 1, 2
 */
export async function unique(x: Tensor, options: UniqueOptions = {}): Promise<Unique> {
  const { rows, back, shape } = rowsOf("unique", x.detach(), options);
  if (rows.shape[0] === 0) return none(x, shape);
  const order = lexicographic(rows);
  const sorted = rows.indexSelect(0, order);
  await flush(order, sorted);
  const { run, starts, counts } = await runsOf(sorted);
  const inverse = run.indexSelect(0, argsort(order));
  return { values: back(sorted.indexSelect(0, starts)), inverse: reshape(inverse, shape), counts };
}

/** Runs of equal neighbours reduced to one element each: as `unique`, without sorting. */
export async function uniqueConsecutive(x: Tensor, options: UniqueOptions = {}): Promise<Unique> {
  const { rows, back, shape } = rowsOf("uniqueConsecutive", x.detach(), options);
  if (rows.shape[0] === 0) return none(x, shape);
  const { run, starts, counts } = await runsOf(rows);
  return { values: back(rows.indexSelect(0, starts)), inverse: reshape(run, shape), counts };
}

export interface BincountOptions {
  /** Added up instead of 1, one per element of x. */
  weights?: Tensor;
  /** The least number of results. Default 0. */
  minlength?: number;
}

/**
 * How often each of 0, 1, 2, … occurs in integers x [N], or the sums of `weights` [N]: [max(x) + 1] values, at least
 * `minlength`; i32, or f32 with weights. Waits for the largest element.
 * @throws if x is not a vector of integers, an element is negative, or the shapes differ.
 */
export async function bincount(x: Tensor, options: BincountOptions = {}): Promise<Tensor> {
  checkOptions("bincount", options, ["weights", "minlength"]);
  const { weights, minlength = 0 } = options;
  if (x.ndim !== 1 || isFloat(x.dtype))
    throw new TypeError(`bincount: x is ${x.dtype} ${show(x.shape)}: expected a vector of integers`);
  if (!Number.isInteger(minlength) || minlength < 0)
    throw new RangeError(`bincount: minlength ${minlength}: expected a whole number from 0`);
  if (weights && (weights.ndim !== 1 || weights.shape[0] !== x.shape[0]))
    throw new Error(`bincount: weights ${show(weights.shape)} do not fit x ${show(x.shape)}: expected equal shapes`);
  const ids = x.detach().to("i32");
  const dtype = weights ? "f32" : "i32";
  if (x.shape[0] === 0) return full([minlength], 0, dtype);
  const [low, high] = await cat([ids.amin(0, true), ids.amax(0, true)]).data();
  if (low < 0) throw new RangeError(`bincount: ${low} in x ${show(x.shape)}: expected numbers from 0`);
  const size = Math.max(high + 1, minlength);
  if (weights) return full([size], 0, "f32").indexAdd(0, ids, weights.to("f32"));
  return steps(searchsorted(sort(ids).values, arange(size), { right: true }));
}

/** Differences of neighbours, the first to 0. */
const steps = (ends: Tensor): Tensor => ends.sub(cat([full([1], 0, "i32"), ends.narrow(0, 0, ends.shape[0] - 1)]));

/**
 * Counts (f32 [bins]) of the elements of x in equal bins from `min` to `max`, which belongs to the last bin. Others are left
 * out. If both are 0, the smallest and largest element.
 */
export function histc(x: Tensor, bins = 100, min = 0, max = 0): Tensor {
  if (!Number.isInteger(bins) || bins < 1) throw new RangeError(`histc: ${bins} bins: expected a whole number from 1`);
  if (!(Number.isFinite(min) && Number.isFinite(max) && min <= max))
    throw new RangeError(`histc: from ${min} to ${max}: expected finite numbers, the smaller first`);
  const values = reshape(x.detach().to("f32"), [-1]);
  const given = min !== 0 || max !== 0;
  if (values.shape[0] === 0) return full([bins], 0);
  const ends = given ? [full([1], min), full([1], max)] : [values.amin(0, true), values.amax(0, true)];
  const flat = ends[0].eq(ends[1]);
  const [low, high] = [where(flat, ends[0].sub(1), ends[0]), where(flat, ends[1].add(1), ends[1])];
  const at = arange(bins + 1, { dtype: "f32" }).div(bins);
  const edges = low.mul(at.neg().add(1)).add(high.mul(at)); // exact at both ends
  const sorted = sort(values).values;
  const first = searchsorted(sorted, edges.narrow(0, 0, bins));
  const end = cat([first.narrow(0, 1, bins - 1), searchsorted(sorted, edges.narrow(0, bins, 1), { right: true })]);
  return end.sub(first).float();
}
