import { isFloat, promote } from "../graph/dtype.ts";
import type { Attrs } from "../graph/node.ts";
import { checkOptions } from "../graph/options.ts";
import { numel, type Shape, sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { fold } from "./movement.ts";
import { pad } from "./pad.ts";
import { splitRows } from "./split.ts";
import { batched, padSpatial, perDim, type Spatial, unfoldAll, windowCount } from "./windows.ts";

export interface ConvOptions {
  /** Distance between windows. Default 1. */
  stride?: Spatial;
  /** Amount on both sides; "same": the output has the size of the input (stride 1); "valid": none. Default 0. */
  padding?: Spatial | "same" | "valid";
  /** What the padding holds: zeros (default), or elements of the input as in `pad`. */
  paddingMode?: "zeros" | "reflect" | "replicate" | "circular";
  /** Distance between the elements of a window. Default 1. */
  dilation?: Spatial;
  /** Groups of channels that do not see each other. Default 1. */
  groups?: number;
}

export interface ConvTransposeOptions {
  /** Default 1. */
  stride?: Spatial;
  /** Rows and columns that are cut off on each side. Default 0. */
  padding?: Spatial;
  /** Rows and columns more at the end. Less than the stride, or than the dilation. Default 0. */
  outputPadding?: Spatial;
  dilation?: Spatial;
  groups?: number;
}

/** Of a convolution without padding, per spatial dim. */
interface WindowAttrs extends Attrs {
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly groups: number;
}

interface ConvAttrs extends WindowAttrs {
  /** Zeros before and after. */
  readonly padding: readonly (readonly [number, number])[];
}

// A convolution is linear in its input and in its weight. The derivatives of y = conv(x, w) are
//   conv_input(g, w), the gradient of x, and conv_weight(x, g), the gradient of w.
// Each of the three ops has the other two as derivatives, so gradients of any order are convolutions again.
// Shapes: x [N, C, ...spatial], w [O, C / groups, ...kernel], y and g [N, O, ...windows].

/** Windows of x as columns: [groups, N * windows, K], with K = C / groups * kernel. Channels come last if they fill a vec4f. */
function columnsOf(x: Tensor, kernel: Shape, { stride, dilation, groups }: WindowAttrs): Tensor {
  const patches = unfoldAll(x, kernel, stride, dilation); // [N, C, ...windows, ...kernel]
  const [N, C] = x.shape;
  const dims = kernel.length;
  const windows = patches.shape.slice(2, 2 + dims);
  const perGroup = C / groups;
  const grouped = patches.reshape([N, groups, perGroup, ...windows, ...kernel]);
  const at = (first: number): number[] => kernel.map((_, d) => first + d);
  const [w, k] = [at(3), at(3 + dims)];
  return grouped
    .permute(perGroup % 4 === 0 ? [1, 0, ...w, ...k, 2] : [1, 0, ...w, 2, ...k])
    .reshape([groups, N * numel(windows), perGroup * numel(kernel)]);
}

/** Weight as [groups, K, O / groups], K in the order of `columnsOf`. */
function filtersOf(w: Tensor, groups: number): Tensor {
  const [O, perGroup, ...kernel] = w.shape;
  const k = kernel.map((_, d) => 3 + d);
  return w
    .reshape([groups, O / groups, perGroup, ...kernel])
    .permute(perGroup % 4 === 0 ? [0, ...k, 2, 1] : [0, 2, ...k, 1])
    .reshape([groups, perGroup * numel(kernel), O / groups]);
}

/** The inverse of `filtersOf`. */
function unfilters(filters: Tensor, shape: Shape, groups: number): Tensor {
  const [O, perGroup, ...kernel] = shape;
  const last = perGroup % 4 === 0;
  const dims = kernel.length;
  const inner = last ? [...kernel, perGroup] : [perGroup, ...kernel];
  const k = kernel.map((_, d) => (last ? 1 : 2) + d);
  return filters
    .reshape([groups, ...inner, O / groups])
    .permute([0, dims + 2, last ? dims + 1 : 1, ...k])
    .reshape(shape);
}

/** g [N, O, ...windows] as [groups, N * windows, O / groups]. */
function rowsOf(g: Tensor, groups: number): Tensor {
  const [N, O, ...windows] = g.shape;
  const dims = windows.map((_, d) => 3 + d);
  return g
    .reshape([N, groups, O / groups, ...windows])
    .permute([1, 0, ...dims, 2])
    .reshape([groups, N * numel(windows), O / groups]);
}

/** Sources: x, w. A convolution without padding: what a kernel computes. */
const convWindowsOp = defineOp<WindowAttrs>({
  name: "conv_windows",
  kind: "kernel",
  split: splitRows({ sources: [0] }),
  fallback: ([x, w], attrs) => {
    const { groups } = attrs;
    const [O, perGroup, ...kernel] = w.shape;
    const N = x.shape[0];
    const dims = kernel.length;
    const windows = windowsOf(x.shape, w.shape, attrs);
    if (perGroup === 1) {
      // Depthwise: one weighted sum per output element, which fuses with its neighbours.
      const patches = unfoldAll(x, kernel, attrs.stride, attrs.dilation);
      const ones = kernel.map(() => 1);
      return patches
        .reshape([N, groups, 1, ...windows, ...kernel])
        .mul(w.reshape([groups, O / groups, ...ones, ...kernel]))
        .sum(kernel.map((_, d) => 3 + dims + d))
        .reshape([N, O, ...windows]);
    }
    return columnProduct(x, w, attrs);
  },
});

/** The convolution as a product of its windows as columns with the weight. */
function columnProduct(x: Tensor, w: Tensor, attrs: WindowAttrs): Tensor {
  const { groups } = attrs;
  const [O, , ...kernel] = w.shape;
  const windows = windowsOf(x.shape, w.shape, attrs);
  const product = columnsOf(x, kernel, attrs).matmul(filtersOf(w, groups)); // [groups, N * windows, O / groups]
  return product
    .reshape([groups, x.shape[0], ...windows, O / groups])
    .permute([1, 0, 2 + kernel.length, ...windows.map((_, d) => 2 + d)])
    .reshape([x.shape[0], O, ...windows]);
}

/** y of x [N, C, ...spatial] without padding. A kernel of one element is a product of matrices. */
function convWindows(x: Tensor, w: Tensor, { stride, dilation, groups }: WindowAttrs): Tensor {
  const [O, perGroup, ...kernel] = w.shape;
  const windows = windowsOf(x.shape, w.shape, { stride, dilation });
  const shape = [x.shape[0], O, ...windows];
  if (numel(kernel) === 1 && perGroup > 1) {
    const [N, C] = x.shape;
    const used = x.slice([[], [], ...stride.map((s) => [0, null, s] as const)]);
    return w
      .reshape([groups, O / groups, perGroup])
      .matmul(used.reshape([N, groups, C / groups, numel(windows)]))
      .reshape(shape);
  }
  return apply(convWindowsOp, [x, w], { stride, dilation, groups }, shape, typeOf(x, w));
}

/** Sources: x, w. */
const convOp = defineOp<ConvAttrs>({
  name: "conv",
  kind: "kernel",
  fallback: ([x, w], attrs) => convWindows(padSpatial(x, attrs.padding), w, attrs),
  vjp: (g, _y, [x, w], attrs) => [
    x.requiresGrad ? convInput(g, w, x.shape, attrs).to(x.dtype) : null,
    w.requiresGrad ? convWeight(x, g, w.shape, attrs).to(w.dtype) : null,
  ],
});

/** Sources: g, w. The gradient of x [N, C, ...spatial]: `spatial` is an attribute, as several sizes have the same windows. */
const convInputOp = defineOp<ConvAttrs & { spatial: Shape }>({
  name: "conv_input",
  kind: "kernel",
  fallback: ([g, w], attrs) => {
    const { groups, stride, dilation, padding, spatial } = attrs;
    if (stride.every((s) => s === 1)) return convReversed(g, w, attrs);
    const [, perGroup, ...kernel] = w.shape;
    const [N, , ...windows] = g.shape;
    const dims = kernel.length;
    const last = perGroup % 4 === 0;
    const inner = last ? [...kernel, perGroup] : [perGroup, ...kernel];
    const columns = rowsOf(g, groups).matmul(filtersOf(w, groups).transpose(1, 2)); // [groups, N * windows, K]
    const at = (first: number): number[] => kernel.map((_, d) => first + d);
    const k = at(last ? 2 + dims : 3 + dims);
    const patches = columns
      .reshape([groups, N, ...windows, ...inner])
      .permute([1, 0, last ? 2 + 2 * dims : 2 + dims, ...at(2), ...k])
      .reshape([N, groups * perGroup, ...windows, ...kernel]);
    const sizes = spatial.map((n, d) => n + padding[d][0] + padding[d][1]);
    let t = patches;
    for (let d = dims - 1; d >= 0; d--) {
      const shape = [N, groups * perGroup, ...windows.slice(0, d), ...sizes.slice(d), ...kernel.slice(0, d)];
      t = fold(t, { shape }, { dim: 2 + d, size: kernel[d], step: stride[d], dilation: dilation[d] });
    }
    return padSpatial(
      t,
      padding.map(([before, after]) => [-before, -after]),
    );
  },
  vjp: (g, _y, [x, w], attrs) => [
    x.requiresGrad ? convAt(g, w, x.shape, attrs).to(x.dtype) : null,
    w.requiresGrad ? convWeight(g, x, w.shape, attrs).to(w.dtype) : null,
  ],
});

/** The gradient of the input of a convolution of stride 1: a convolution of g with the reversed weight. */
function convReversed(
  g: Tensor,
  w: Tensor,
  { groups, dilation, padding, spatial }: ConvAttrs & { spatial: Shape },
): Tensor {
  const [O, perGroup, ...kernel] = w.shape;
  const dims = kernel.map((_, d) => d);
  const reversed = w
    .reshape([groups, O / groups, perGroup, ...kernel])
    .flip(dims.map((d) => 3 + d))
    .permute([0, 2, 1, ...dims.map((d) => 3 + d)])
    .reshape([groups * perGroup, O / groups, ...kernel]);
  // An element is in the windows from `reach` before it up to its own.
  const pads = kernel.map((k, d): [number, number] => {
    const reach = dilation[d] * (k - 1);
    return [reach - padding[d][0], spatial[d] + padding[d][0] - g.shape[2 + d]];
  });
  return conv(g, reversed, { stride: dims.map(() => 1), dilation, groups, padding: pads });
}

/** Sources: x, g. The gradient of w [O, C / groups, ...kernel] of a convolution without padding: what a kernel computes. */
const convWeightWindowsOp = defineOp<WindowAttrs & { kernel: Shape }>({
  name: "conv_weight_windows",
  kind: "kernel",
  fallback: ([x, g], attrs) => {
    const { groups, kernel, stride, dilation } = attrs;
    const [N, O, ...windows] = g.shape;
    // Windows that the gradient does not cover take no part.
    const sizes = windows.map((n, d) => (n - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1);
    const used = x.slice([[], [], ...sizes.map((n) => [0, n] as const)]);
    const perGroup = x.shape[1] / groups;
    if (perGroup === 1) {
      const patches = unfoldAll(used, kernel, stride, dilation).reshape([N, groups, 1, ...windows, ...kernel]);
      const weights = g.reshape([N, groups, O / groups, ...windows, ...kernel.map(() => 1)]);
      return patches
        .mul(weights)
        .sum([0, ...windows.map((_, d) => 3 + d)])
        .reshape([O, 1, ...kernel]);
    }
    const filters = columnsOf(used, kernel, attrs).transpose(1, 2).matmul(rowsOf(g, groups)); // [groups, K, O / groups]
    return unfilters(filters, [O, perGroup, ...kernel], groups);
  },
  split: (node, [x, g], cx) => {
    if (!cx.large || x.shape[0] < 2) return undefined;
    const parts = cx.stretches(x.shape[0], Math.ceil(Math.max(cx.bytesOf(x), cx.bytesOf(g)) / cx.limit));
    const sums = parts.map(({ start, size }) =>
      apply(node.op, [x.narrow(0, start, size), g.narrow(0, start, size)], node.attrs, node.shape, node.dtype),
    );
    return [sums.reduce((a, b) => a.add(b))];
  },
});

/** Sources: x, g. The gradient of w. */
const convWeightOp = defineOp<ConvAttrs & { kernel: Shape }>({
  name: "conv_weight",
  kind: "kernel",
  fallback: ([x, g], { padding, stride, dilation, groups, kernel }) => {
    const padded = padSpatial(x, padding);
    const shape = [g.shape[1], x.shape[1] / groups, ...kernel];
    return apply(convWeightWindowsOp, [padded, g], { stride, dilation, groups, kernel }, shape, typeOf(x, g));
  },
  vjp: (g, _y, [x, y], attrs) => [
    x.requiresGrad ? convInput(y, g, x.shape, attrs).to(x.dtype) : null,
    y.requiresGrad ? convAt(x, g, y.shape, attrs).to(y.dtype) : null,
  ],
});

/** Numbers of windows of x [N, C, ...spatial] for a weight [O, C / groups, ...kernel]. */
const windowsOf = (
  x: Shape,
  w: Shape,
  { stride, dilation, padding }: Pick<WindowAttrs, "stride" | "dilation"> & { padding?: ConvAttrs["padding"] },
): number[] =>
  x.slice(2).map((n, d) => {
    const padded = padding ? padding[d][0] + padding[d][1] : 0;
    return windowCount(n, w[d + 2], stride[d], dilation[d], padded);
  });

const plain = ({ stride, padding, dilation, groups }: ConvAttrs): ConvAttrs => ({ stride, padding, dilation, groups });
const typeOf = (a: Tensor, b: Tensor) => promote(a.dtype, b.dtype);

function conv(x: Tensor, w: Tensor, attrs: ConvAttrs): Tensor {
  const shape = [x.shape[0], w.shape[0], ...windowsOf(x.shape, w.shape, attrs)];
  const dtype = typeOf(x, w);
  // Sums of nothing are 0. The product by 0 keeps the gradients, which are 0 too.
  if (x.numel === 0 || w.numel === 0) return full(shape, 0, dtype).add(x.sum().add(w.sum()).mul(0).to(dtype));
  if (areTiles(w.shape, attrs)) return columnProduct(x, w, attrs);
  return apply(convOp, [x, w], plain(attrs), shape, dtype);
}

/**
 * Whether windows lie side by side without overlap, as in a patch embedding. Such columns are a view of x; the product of
 * matrices keeps them for the gradient of the weight.
 */
const areTiles = ([, perGroup, ...kernel]: Shape, { stride, dilation, padding }: ConvAttrs): boolean =>
  perGroup > 1 &&
  kernel.every((k, d) => k > 1 && k === stride[d] && dilation[d] === 1 && padding[d].every((n) => n === 0));

/** As `conv`, for the first windows only: `shape` is the output's. */
function convAt(x: Tensor, w: Tensor, shape: Shape, attrs: ConvAttrs): Tensor {
  const y = conv(x, w, attrs);
  return sameShape(y.shape, shape) ? y : y.slice(shape.map((n) => [0, n] as const));
}

function convInput(g: Tensor, w: Tensor, shape: Shape, attrs: ConvAttrs): Tensor {
  return apply(convInputOp, [g, w], { ...plain(attrs), spatial: shape.slice(2) }, shape, typeOf(g, w));
}

function convWeight(x: Tensor, g: Tensor, shape: Shape, attrs: ConvAttrs): Tensor {
  return apply(convWeightOp, [x, g], { ...plain(attrs), kernel: shape.slice(2) }, shape, typeOf(x, g));
}

/** Adds a bias [O] to y [N, O, ...]. */
const biased = (y: Tensor, bias: Tensor | null | undefined): Tensor =>
  bias ? y.add(bias.reshape([bias.numel, ...y.shape.slice(2).map(() => 1)])) : y;

function checkBias(op: string, bias: Tensor | null | undefined, size: number): void {
  if (bias && (bias.ndim !== 1 || bias.shape[0] !== size))
    throw new Error(`${op}: bias must be [${size}], got ${show(bias.shape)}`);
}

function convolve(
  dims: number,
  input: Tensor,
  weight: Tensor,
  bias: Tensor | null | undefined,
  options: ConvOptions,
): Tensor {
  const op = `conv${dims}d`;
  checkOptions(op, options, ["stride", "padding", "paddingMode", "dilation", "groups"]);
  const { groups = 1, padding = 0, paddingMode = "zeros" } = options;
  const { x, restore } = batched(op, input, dims);
  checkWeight(op, input, weight, groups, x.shape[1] / groups, "[out, in / groups, ...kernel]", 0);
  checkBias(op, bias, weight.shape[0]);
  const kernel = weight.shape.slice(2);
  const stride = perDim(op, "stride", options.stride ?? 1, dims, 1);
  const dilation = perDim(op, "dilation", options.dilation ?? 1, dims, 1);
  const pads = paddingOf(op, padding, kernel, stride, dilation);
  const modes = ["zeros", "reflect", "replicate", "circular"];
  if (!modes.includes(paddingMode))
    throw new Error(`${op}: unknown paddingMode ${paddingMode}: expected ${modes.join(", ")}`);
  const zeros = paddingMode === "zeros";
  const source = zeros ? x : pad(x, [...pads].reverse().flat(), { mode: paddingMode });
  const attrs = { stride, dilation, groups, padding: zeros ? pads : pads.map((): [number, number] => [0, 0]) };
  if (!windowsOf(source.shape, weight.shape, attrs).every((n) => n > 0))
    throw new RangeError(
      `${op}: windows ${show(kernel)} (dilation ${show(dilation)}) are larger than input ${show(input.shape)} with padding ${JSON.stringify(pads)}`,
    );
  return restore(biased(conv(source, weight, attrs), bias));
}

function paddingOf(
  op: string,
  padding: Spatial | "same" | "valid",
  kernel: Shape,
  stride: readonly number[],
  dilation: readonly number[],
): [number, number][] {
  if (typeof padding === "string") {
    if (padding !== "same" && padding !== "valid")
      throw new Error(`${op}: unknown padding ${padding}: expected numbers, "same" or "valid"`);
    if (padding === "valid") return kernel.map(() => [0, 0]);
    if (stride.some((s) => s !== 1)) throw new Error(`${op}: padding "same" needs stride 1, got ${show(stride)}`);
    return kernel.map((k, d) => {
      const total = dilation[d] * (k - 1);
      return [total >> 1, total - (total >> 1)];
    });
  }
  return perDim(op, "padding", padding, kernel.length, 0).map((p) => [p, p]);
}

/** @throws unless the weight has `channels` channels in dim 1 - `of`, and `groups` divides both its sizes. */
function checkWeight(
  op: string,
  input: Tensor,
  weight: Tensor,
  groups: number,
  channels: number,
  layout: string,
  of: 0 | 1,
): void {
  const dims = Number(op.at(-2));
  const fits =
    weight.ndim === dims + 2 &&
    Number.isInteger(groups) &&
    groups > 0 &&
    (of === 0
      ? weight.shape[1] === channels && weight.shape[0] % groups === 0
      : weight.shape[0] === channels && channels % groups === 0);
  if (!fits)
    throw new Error(
      `${op}: input ${show(input.shape)} does not fit weight ${show(weight.shape)} with ${groups} group(s): expected weight ${layout} of ${dims} kernel dims, groups dividing in and out`,
    );
  if (!isFloat(weight.dtype))
    throw new TypeError(`${op}: weight ${show(weight.shape)} is ${weight.dtype}: cast it with float()`);
}

/**
 * 1-D convolution (cross-correlation, as in torch): x [N, C, L], weight [O, C / groups, k], bias [O] -> [N, O, L'].
 * The batch dim may be absent.
 * @throws if the channels of input, weight and groups do not fit, or a window is larger than the padded input.
 * @example conv1d(x, weight, bias, { padding: "same" })
 */
export const conv1d = (x: Tensor, weight: Tensor, bias?: Tensor | null, options: ConvOptions = {}): Tensor =>
  convolve(1, x, weight, bias, options);

/**
 * 2-D convolution (cross-correlation, as in torch): x [N, C, H, W], weight [O, C / groups, kh, kw], bias [O] -> [N, O, H', W'].
 * The batch dim may be absent.
 * @throws if the channels of input, weight and groups do not fit, or a window is larger than the padded input.
 * @example conv2d(x, weight, bias, { stride: 2, padding: 1 })
 */
export const conv2d = (x: Tensor, weight: Tensor, bias?: Tensor | null, options: ConvOptions = {}): Tensor =>
  convolve(2, x, weight, bias, options);

/**
 * 3-D convolution: x [N, C, D, H, W], weight [O, C / groups, kd, kh, kw], bias [O] -> [N, O, D', H', W'].
 * The batch dim may be absent.
 * @throws if the channels of input, weight and groups do not fit, or a window is larger than the padded input.
 */
export const conv3d = (x: Tensor, weight: Tensor, bias?: Tensor | null, options: ConvOptions = {}): Tensor =>
  convolve(3, x, weight, bias, options);

function transposed(
  dims: number,
  input: Tensor,
  weight: Tensor,
  bias: Tensor | null | undefined,
  options: ConvTransposeOptions,
): Tensor {
  const op = `convTranspose${dims}d`;
  checkOptions(op, options, ["stride", "padding", "outputPadding", "dilation", "groups"]);
  const { groups = 1 } = options;
  const { x, restore } = batched(op, input, dims);
  checkWeight(op, input, weight, groups, x.shape[1], "[in, out / groups, ...kernel]", 1);
  const [, perGroup, ...kernel] = weight.shape;
  checkBias(op, bias, perGroup * groups);
  const stride = perDim(op, "stride", options.stride ?? 1, dims, 1);
  const dilation = perDim(op, "dilation", options.dilation ?? 1, dims, 1);
  const padding = perDim(op, "padding", options.padding ?? 0, dims, 0);
  const extra = perDim(op, "outputPadding", options.outputPadding ?? 0, dims, 0);
  extra.forEach((n, d) => {
    if (n >= Math.max(stride[d], dilation[d]))
      throw new RangeError(
        `${op}: outputPadding ${n} of dim ${d}: expected less than the stride ${stride[d]} or the dilation ${dilation[d]}`,
      );
  });
  const spatial = x.shape
    .slice(2)
    .map((n, d) => (n - 1) * stride[d] - 2 * padding[d] + dilation[d] * (kernel[d] - 1) + extra[d] + 1);
  if (!spatial.every((n) => n > 0))
    throw new RangeError(
      `${op}: padding ${show(padding)} leaves output ${show(spatial)} of input ${show(input.shape)} and kernel ${show(kernel)}: expected positive sizes`,
    );
  const shape = [x.shape[0], perGroup * groups, ...spatial];
  const attrs = { stride, dilation, groups, padding: padding.map((p) => [p, p] as const) };
  const y =
    x.numel * weight.numel > 0
      ? convInput(x, weight, shape, attrs)
      : full(shape, 0, typeOf(x, weight)).add(x.sum().add(weight.sum()).mul(0).to(typeOf(x, weight)));
  return restore(biased(y, bias));
}

/**
 * Transposed 1-D convolution, the gradient of `conv1d`: x [N, C, L], weight [C, O / groups, k], bias [O] -> [N, O, L'], with
 * L' = (L - 1) * stride - 2 * padding + dilation * (k - 1) + outputPadding + 1. The batch dim may be absent.
 * @throws if the channels do not fit, or the output would be empty.
 */
export const convTranspose1d = (
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: ConvTransposeOptions = {},
): Tensor => transposed(1, x, weight, bias, options);

/**
 * Transposed 2-D convolution, the gradient of `conv2d`: x [N, C, H, W], weight [C, O / groups, kh, kw] -> [N, O, H', W'].
 * Sizes as in `convTranspose1d`.
 * @throws if the channels do not fit, or the output would be empty.
 * @example convTranspose2d(x, weight, bias, { stride: 2, padding: 1, outputPadding: 1 }) // doubles a 3 x 3 kernel's image
 */
export const convTranspose2d = (
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: ConvTransposeOptions = {},
): Tensor => transposed(2, x, weight, bias, options);

/**
 * Transposed 3-D convolution, the gradient of `conv3d`: x [N, C, D, H, W], weight [C, O / groups, kd, kh, kw] ->
 * [N, O, D', H', W']. Sizes as in `convTranspose1d`.
 * @throws if the channels do not fit, or the output would be empty.
 */
export const convTranspose3d = (
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: ConvTransposeOptions = {},
): Tensor => transposed(3, x, weight, bias, options);
