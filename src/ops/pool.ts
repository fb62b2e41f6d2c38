import { isFloat, lowest } from "../graph/dtype.ts";
import type { Attrs } from "../graph/node.ts";
import type { RefArray } from "../graph/op.ts";
import { checkOptions } from "../graph/options.ts";
import { numel, type Shape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { tensor } from "./leaf.ts";
import { positionsAlong } from "./reduce.ts";
import { splitRows } from "./split.ts";
import { batched, padSpatial, perDim, type Spatial, unfoldAll } from "./windows.ts";

export interface AvgPoolOptions {
  /** Default: the kernel's size. */
  stride?: Spatial;
  /** Zeros on each side, at most half of the kernel. Default 0. */
  padding?: Spatial;
  /** A last window that begins inside the input or the padding before it may end beyond. Default false. */
  ceilMode?: boolean;
  /** Whether padding counts as elements. Default true. */
  countIncludePad?: boolean;
  /** Divides the sums instead of the number of elements. */
  divisorOverride?: number;
}

export interface MaxPoolOptions {
  /** Default: the kernel's size. */
  stride?: Spatial;
  /** Elements of -∞ on each side, at most half of the kernel. Default 0. */
  padding?: Spatial;
  /** Distance between the elements of a window. Default 1. */
  dilation?: Spatial;
  /** A last window that begins inside the input or the padding before it may end beyond. Default false. */
  ceilMode?: boolean;
  /** Also returns the position of each value among the spatial elements of its channel. */
  returnIndices?: boolean;
}

/** Largest values, and their positions (i32) among the spatial elements [H * W] of the unpadded input. */
export interface Pooled {
  readonly values: Tensor;
  readonly indices: Tensor;
}

/** Windows along one spatial dim. */
export interface PoolDim {
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
  readonly dilation: number;
}

interface MaxPoolAttrs extends Attrs {
  /** One per spatial dim. Undefined: `adaptive` windows from floor(i n / m) to ceil((i + 1) n / m), of n inputs and m outputs. */
  readonly dims?: readonly PoolDim[];
}

/** First position (at or after 0) and end of window `i` along a dim of `n` elements that has `m` windows. */
function reach(
  window: PoolDim | undefined,
  i: number,
  n: number,
  m: number,
): [start: number, end: number, step: number] {
  if (!window) return [Math.floor((i * n) / m), Math.ceil(((i + 1) * n) / m), 1];
  const { kernel, stride, padding, dilation } = window;
  let start = i * stride - padding;
  const end = Math.min(start + (kernel - 1) * dilation + 1, n);
  while (start < 0) start += dilation;
  return [start, end, dilation];
}

/**
 * x [N, C, ...spatial] -> i32 [N, C, ...windows]: the position of the largest element of each window. The first of equal
 * elements wins, and the last NaN wins over all, as in torch.
 */
const maxPoolIndicesOp = defineOp<MaxPoolAttrs>({
  name: "max_pool_indices",
  kind: "kernel",
  split: splitRows(),
  reference: ([x], { dims }, { shape, dtype }) => {
    const data = new Float64Array(numel(shape));
    const [spatial, windows] = [x.shape.slice(2), shape.slice(2)];
    const [plane, count] = [numel(spatial), numel(windows)];
    for (let i = 0; i < data.length; i++) {
      const first = Math.floor(i / count) * plane;
      data[i] = largest(x, first, i % count, spatial, windows, dims);
    }
    return { data, shape, dtype };
  },
});

/** Position of the largest element of window `at` of the plane that begins at `first`. */
function largest(
  x: RefArray,
  first: number,
  at: number,
  spatial: Shape,
  windows: Shape,
  dims: readonly PoolDim[] | undefined,
): number {
  let positions = [0];
  let rest = at;
  const index = windows.map((_, d) => {
    const inner = numel(windows.slice(d + 1));
    const i = Math.floor(rest / inner);
    rest %= inner;
    return i;
  });
  spatial.forEach((n, d) => {
    const [start, end, step] = reach(dims?.[d], index[d], n, windows[d]);
    const next: number[] = [];
    for (const p of positions) for (let j = start; j < end; j += step) next.push(p * n + j);
    positions = next;
  });
  let best = positions[0];
  for (const p of positions) {
    const [value, most] = [x.data[first + p], x.data[first + best]];
    if (value > most || Number.isNaN(value)) best = p;
  }
  return best;
}

/** Values at `indices` of the spatial elements of x. Each value's gradient goes to the element that was selected. */
function pooled(x: Tensor, indices: Tensor): Tensor {
  const flat = (t: Tensor): Tensor => t.reshape([...t.shape.slice(0, 2), numel(t.shape.slice(2))]);
  return flat(x).gather(2, flat(indices)).reshape(indices.shape);
}

/** Number of windows of a dim, as in torch: with `ceil`, a window that would begin in the padding after the input is dropped. */
function poolCount(n: number, { kernel, stride, padding, dilation }: PoolDim, ceil: boolean): number {
  const span = n + 2 * padding - dilation * (kernel - 1) - 1;
  const count = (ceil ? Math.ceil(span / stride) : Math.floor(span / stride)) + 1;
  return ceil && (count - 1) * stride >= n + padding ? count - 1 : count;
}

/** Checks sizes, and returns the windows of each dim with their number. */
function poolDims(
  op: string,
  x: Tensor,
  dims: number,
  kernel: Spatial,
  options: Pick<MaxPoolOptions, "stride" | "padding" | "dilation" | "ceilMode">,
): { dims: PoolDim[]; counts: number[] } {
  const kernels = perDim(op, "kernel", kernel, dims, 1);
  const stride = perDim(op, "stride", options.stride ?? kernels, dims, 1);
  const padding = perDim(op, "padding", options.padding ?? 0, dims, 0);
  const dilation = perDim(op, "dilation", options.dilation ?? 1, dims, 1);
  const list = kernels.map((k, d) => ({ kernel: k, stride: stride[d], padding: padding[d], dilation: dilation[d] }));
  for (const { kernel: k, padding: p } of list)
    if (p > k / 2)
      throw new RangeError(`${op}: padding ${p} for a kernel of ${k}: expected at most half of the kernel`);
  const counts = list.map((dim, d) => poolCount(x.shape[d + 2], dim, options.ceilMode ?? false));
  if (!counts.every((n) => n > 0))
    throw new RangeError(
      `${op}: windows ${show(kernels)} (dilation ${show(dilation)}) are larger than input ${show(x.shape)} with padding ${show(padding)}`,
    );
  return { dims: list, counts };
}

function maxPool(dims: number, input: Tensor, kernel: Spatial, options: MaxPoolOptions): Tensor | Pooled {
  const op = `maxPool${dims}d`;
  checkOptions(op, options, ["stride", "padding", "dilation", "ceilMode", "returnIndices"]);
  const { x, restore } = batched(op, input, dims, !options.returnIndices);
  const windows = poolDims(op, x, dims, kernel, options);
  if (!isFloat(x.dtype)) return restore(largestIntegers(x, windows));
  return selected(x, restore, windows.counts, { dims: windows.dims }, options.returnIndices);
}

/** Integers are compared as integers: the kernel for positions reads f32. */
function largestIntegers(x: Tensor, { dims, counts }: ReturnType<typeof poolDims>): Tensor {
  const pads = dims.map(({ kernel, stride, padding, dilation }, d): [number, number] => [
    padding,
    (counts[d] - 1) * stride + dilation * (kernel - 1) + 1 - padding - x.shape[d + 2],
  ]);
  const [kernels, strides, dilations] = (["kernel", "stride", "dilation"] as const).map((key) =>
    dims.map((w) => w[key]),
  );
  const patches = unfoldAll(padSpatial(x, pads, lowest(x.dtype)), kernels, strides, dilations);
  return patches.amax(dims.map((_, d) => 2 + dims.length + d));
}

function selected(
  x: Tensor,
  restore: (y: Tensor) => Tensor,
  counts: readonly number[],
  attrs: MaxPoolAttrs,
  returnIndices = false,
): Tensor | Pooled {
  const shape = [...x.shape.slice(0, 2), ...counts];
  const indices = numel(shape) ? apply(maxPoolIndicesOp, [x.detach()], attrs, shape, "i32") : full(shape, 0, "i32");
  const values = restore(pooled(x, indices));
  return returnIndices ? { values, indices: restore(indices) } : values;
}

type WithIndices<O> = O & { returnIndices: true };

/**
 * Largest value of each window: x [N, C, L] -> [N, C, L']. NaN wins. Of equal values the first one gets the gradient.
 * @returns with `returnIndices`: the values, and their positions (i32)
 * @throws if a window is larger than the padded input
 */
export function maxPool1d(x: Tensor, kernel: Spatial, options: WithIndices<MaxPoolOptions>): Pooled;
export function maxPool1d(x: Tensor, kernel: Spatial, options?: MaxPoolOptions): Tensor;
export function maxPool1d(x: Tensor, kernel: Spatial, options: MaxPoolOptions = {}): Tensor | Pooled {
  return maxPool(1, x, kernel, options);
}

/**
 * Largest value of each window: x [N, C, H, W] -> [N, C, H', W']. NaN wins. Of equal values the first one gets the gradient.
 * @returns with `returnIndices`: the values, and their positions (i32) in [H * W]
 * @throws if a window is larger than the padded input
 * @example maxPool2d(x, 3, { stride: 2, padding: 1 })
 */
export function maxPool2d(x: Tensor, kernel: Spatial, options: WithIndices<MaxPoolOptions>): Pooled;
export function maxPool2d(x: Tensor, kernel: Spatial, options?: MaxPoolOptions): Tensor;
export function maxPool2d(x: Tensor, kernel: Spatial, options: MaxPoolOptions = {}): Tensor | Pooled {
  return maxPool(2, x, kernel, options);
}

/**
 * Largest value of each window: x [N, C, D, H, W] -> [N, C, D', H', W']. Otherwise as `maxPool2d`.
 * @throws if a window is larger than the padded input
 */
export function maxPool3d(x: Tensor, kernel: Spatial, options: WithIndices<MaxPoolOptions>): Pooled;
export function maxPool3d(x: Tensor, kernel: Spatial, options?: MaxPoolOptions): Tensor;
export function maxPool3d(x: Tensor, kernel: Spatial, options: MaxPoolOptions = {}): Tensor | Pooled {
  return maxPool(3, x, kernel, options);
}

function avgPool(dims: number, input: Tensor, kernel: Spatial, options: AvgPoolOptions): Tensor {
  const op = `avgPool${dims}d`;
  checkOptions(op, options, ["stride", "padding", "ceilMode", "countIncludePad", "divisorOverride"]);
  const { countIncludePad = true, divisorOverride } = options;
  if (divisorOverride !== undefined && !(Number.isFinite(divisorOverride) && divisorOverride !== 0))
    throw new RangeError(`${op}: divisorOverride ${divisorOverride}: expected a finite number other than 0`);
  const { x, restore } = batched(op, input, dims);
  const windows = poolDims(op, x, dims, kernel, options);
  const spatial = x.shape.slice(2);
  // As many zeros after the input as the last window reads; or fewer elements, where no window reads the last ones.
  const pads = windows.dims.map(({ kernel: k, stride, padding }, d): [number, number] => [
    padding,
    (windows.counts[d] - 1) * stride + k - padding - spatial[d],
  ]);
  const shape = [...x.shape.slice(0, 2), ...windows.counts];
  if (numel(shape) === 0) return restore(full(shape, 0, x.dtype));
  const one = windows.dims.map(() => 1);
  const patches = unfoldAll(
    padSpatial(x, pads),
    windows.dims.map((w) => w.kernel),
    windows.dims.map((w) => w.stride),
    one,
  );
  const axes = windows.dims.map((_, d) => 2 + dims + d);
  const exact = !options.ceilMode && (countIncludePad || windows.dims.every((w) => w.padding === 0));
  if (divisorOverride === undefined && exact) return restore(patches.mean(axes));
  const total = patches.to("f32").sum(axes);
  if (divisorOverride !== undefined) return restore(total.mul(1 / divisorOverride).to(x.dtype));
  const counts = windows.dims.map((w, d) => elementsOf(w, d, spatial[d], windows.counts[d], dims, countIncludePad));
  return restore(total.div(counts.reduce((a, b) => a.mul(b)).to("f32")).to(x.dtype));
}

/** Elements of each window along dim `d`, shaped to broadcast: those of the input or, with `padded`, of the padded input. */
function elementsOf(w: PoolDim, d: number, n: number, count: number, dims: number, padded: boolean): Tensor {
  const start = positionsAlong(d, count, dims).mul(w.stride).sub(w.padding);
  const [low, high] = padded ? [-w.padding, n + w.padding] : [0, n];
  return start.add(w.kernel).minimum(high).sub(start.maximum(low));
}

/**
 * Mean of each window: x [N, C, L] -> [N, C, L'].
 * @throws if a window is larger than the padded input
 */
export const avgPool1d = (x: Tensor, kernel: Spatial, options: AvgPoolOptions = {}): Tensor =>
  avgPool(1, x, kernel, options);

/**
 * Mean of each window: x [N, C, H, W] -> [N, C, H', W']. Padding counts as zeros unless `countIncludePad` is false.
 * @throws if a window is larger than the padded input
 * @example avgPool2d(x, 3, { stride: 2, padding: 1, countIncludePad: false })
 */
export const avgPool2d = (x: Tensor, kernel: Spatial, options: AvgPoolOptions = {}): Tensor =>
  avgPool(2, x, kernel, options);

/**
 * Mean of each window: x [N, C, D, H, W] -> [N, C, D', H', W'].
 * @throws if a window is larger than the padded input
 */
export const avgPool3d = (x: Tensor, kernel: Spatial, options: AvgPoolOptions = {}): Tensor =>
  avgPool(3, x, kernel, options);

/** Sizes of the output: a number for all dims, or one per dim, null for a dim that stays. */
export type AdaptiveSize = number | readonly (number | null)[];

function sizesOf(op: string, x: Tensor, size: AdaptiveSize, dims: number): number[] {
  const list = typeof size === "number" ? new Array<number>(dims).fill(size) : size;
  const sizes = list.map((n, d) => n ?? x.shape[d + 2]);
  if (sizes.length !== dims || !sizes.every((n) => Number.isInteger(n) && n >= 0))
    throw new RangeError(
      `${op}: size ${JSON.stringify(size)} for ${show(x.shape)}: expected ${dims} whole number(s), or null for a dim that stays`,
    );
  if (numel(x.shape.slice(1)) === 0) throw new RangeError(`${op}: input ${show(x.shape)} has empty dims to pool`);
  return sizes;
}

function adaptiveAvgPool(dims: number, input: Tensor, size: AdaptiveSize): Tensor {
  const op = `adaptiveAvgPool${dims}d`;
  const { x, restore } = batched(op, input, dims);
  const sizes = sizesOf(op, x, size, dims);
  return restore(sizes.reduce((t, m, d) => averageTo(t, d + 2, m), x));
}

/** Means along `dim` over m windows that cover it. */
export function averageTo(x: Tensor, dim: number, m: number): Tensor {
  const n = x.shape[dim];
  if (m === n) return x;
  const shape = x.shape.map((k, d) => (d === dim ? m : k));
  if (numel(shape) === 0) return full(shape, 0, x.dtype);
  if (n % m === 0) return x.reshape([...x.shape.slice(0, dim), m, n / m, ...x.shape.slice(dim + 1)]).mean(dim + 1);
  const windows = Array.from({ length: m }, (_, i) => reach(undefined, i, n, m));
  const longest = Math.max(...windows.map(([start, end]) => end - start));
  const at = windows.flatMap(([start, end]) => Array.from({ length: longest }, (_, j) => Math.min(start + j, end - 1)));
  const counts = Int32Array.from(windows, ([start, end]) => end - start);
  const tail = x.shape.slice(dim + 1).map(() => 1);
  const count = tensor(counts, { shape: [m, 1, ...tail] });
  const parts = x
    .indexSelect(dim, tensor(Int32Array.from(at)))
    .reshape([...x.shape.slice(0, dim), m, longest, ...x.shape.slice(dim + 1)]);
  const inside = positionsAlong(1, longest, 2 + tail.length).lt(count);
  const total = where(inside, parts.to("f32"), 0).sum(dim + 1);
  return total.div(count.squeeze(1).to("f32")).to(x.dtype);
}

/** Means over `size` windows that cover the input: x [N, C, L] -> [N, C, size]. */
export const adaptiveAvgPool1d = (x: Tensor, size: AdaptiveSize): Tensor => adaptiveAvgPool(1, x, size);
/**
 * Means over `size` windows that cover the image: x [N, C, H, W] -> [N, C, ...size].
 * @example adaptiveAvgPool2d(x, 1); adaptiveAvgPool2d(x, [null, 7])
 */
export const adaptiveAvgPool2d = (x: Tensor, size: AdaptiveSize): Tensor => adaptiveAvgPool(2, x, size);
/** Means over `size` windows that cover the volume: x [N, C, D, H, W] -> [N, C, ...size]. */
export const adaptiveAvgPool3d = (x: Tensor, size: AdaptiveSize): Tensor => adaptiveAvgPool(3, x, size);

interface AdaptiveMaxOptions {
  /** Also returns the position of each value among the spatial elements of its channel. */
  returnIndices?: boolean;
}

function adaptiveMaxPool(
  dims: number,
  input: Tensor,
  size: AdaptiveSize,
  options: AdaptiveMaxOptions,
): Tensor | Pooled {
  const op = `adaptiveMaxPool${dims}d`;
  checkOptions(op, options, ["returnIndices"]);
  const { x, restore } = batched(op, input, dims);
  return selected(x, restore, sizesOf(op, x, size, dims), {}, options.returnIndices);
}

/** Largest values of `size` windows that cover the input: x [N, C, L] -> [N, C, size]. NaN wins. */
export function adaptiveMaxPool1d(x: Tensor, size: AdaptiveSize, options: WithIndices<AdaptiveMaxOptions>): Pooled;
export function adaptiveMaxPool1d(x: Tensor, size: AdaptiveSize, options?: AdaptiveMaxOptions): Tensor;
export function adaptiveMaxPool1d(x: Tensor, size: AdaptiveSize, options: AdaptiveMaxOptions = {}): Tensor | Pooled {
  return adaptiveMaxPool(1, x, size, options);
}

/** Largest values of `size` windows that cover the image: x [N, C, H, W] -> [N, C, ...size]. NaN wins. */
export function adaptiveMaxPool2d(x: Tensor, size: AdaptiveSize, options: WithIndices<AdaptiveMaxOptions>): Pooled;
export function adaptiveMaxPool2d(x: Tensor, size: AdaptiveSize, options?: AdaptiveMaxOptions): Tensor;
export function adaptiveMaxPool2d(x: Tensor, size: AdaptiveSize, options: AdaptiveMaxOptions = {}): Tensor | Pooled {
  return adaptiveMaxPool(2, x, size, options);
}

/** Largest values of `size` windows that cover the volume: x [N, C, D, H, W] -> [N, C, ...size]. NaN wins. */
export function adaptiveMaxPool3d(x: Tensor, size: AdaptiveSize, options: WithIndices<AdaptiveMaxOptions>): Pooled;
export function adaptiveMaxPool3d(x: Tensor, size: AdaptiveSize, options?: AdaptiveMaxOptions): Tensor;
export function adaptiveMaxPool3d(x: Tensor, size: AdaptiveSize, options: AdaptiveMaxOptions = {}): Tensor | Pooled {
  return adaptiveMaxPool(3, x, size, options);
}
