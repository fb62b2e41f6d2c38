import { lowest } from "../graph/dtype.ts";
import { numel, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensor } from "./leaf.ts";

/** One number for both image dims, or [vertical, horizontal]. */
export type Pair = number | readonly [number, number];
export const pair = (p: Pair): readonly [number, number] => (typeof p === "number" ? [p, p] : p);

export interface ConvOptions {
  stride?: Pair;
  padding?: Pair;
  dilation?: Pair;
  groups?: number;
}

function check4d(op: string, x: Tensor): void {
  if (x.ndim !== 4) throw new Error(`${op}: input must be [B, C, H, W], got ${show(x.shape)}`);
}

/** Padded sliding windows of the last two dims: [B, C, H, W] -> [B, C, OH, OW, kh, kw]. */
function windows(
  x: Tensor,
  kernel: readonly [number, number],
  stride: Pair,
  padding: Pair,
  dilation: Pair,
  value = 0,
): Tensor {
  const [[ph, pw], [sh, sw], [dh, dw]] = [pair(padding), pair(stride), pair(dilation)];
  return x
    .pad(
      [
        [0, 0],
        [0, 0],
        [ph, ph],
        [pw, pw],
      ],
      value,
    )
    .unfold(2, kernel[0], sh, dh)
    .unfold(3, kernel[1], sw, dw);
}

/**
 * 2-D convolution (cross-correlation, as in torch): x [B, C, H, W], weight [O, C / groups, kh, kw], bias [O] -> [B, O, OH, OW].
 * It is an unfold and one matrix product; depthwise, one weighted sum.
 * @throws if the channels of input, weight and groups do not fit, or a window is larger than the padded input.
 * @example conv2d(x, weight, bias, { stride: 2, padding: 1 })
 */
export function conv2d(x: Tensor, weight: Tensor, bias?: Tensor | null, options: ConvOptions = {}): Tensor {
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  check4d("conv2d", x);
  const [B, C] = x.shape;
  const [O, perGroup, kh, kw] = weight.shape;
  if (weight.ndim !== 4 || perGroup * groups !== C || O % groups !== 0) {
    throw new Error(
      `conv2d: input ${show(x.shape)} does not fit weight ${show(weight.shape)} with ${groups} group(s): expected input [B, in, H, W] and weight [out, in / groups, kh, kw], groups dividing out`,
    );
  }
  const patches = windows(x, [kh, kw], stride, padding, dilation);
  const [OH, OW] = patches.shape.slice(2, 4);
  if (perGroup === 1 && groups === O) {
    // Depthwise: one weighted sum per output element, which fuses with its neighbours.
    const y = patches.mul(weight.reshape([O, 1, 1, kh, kw])).sum([4, 5]);
    return bias ? y.add(bias.reshape([O, 1, 1])) : y;
  }
  const K = perGroup * kh * kw;
  // Channels innermost if they fill a vec4f: a preceding convolution stores them contiguously, so windows load as vec4f.
  const last = perGroup % 4 === 0;
  const columns = patches
    .reshape([B, groups, perGroup, OH, OW, kh, kw])
    .permute(last ? [1, 0, 3, 4, 5, 6, 2] : [1, 0, 3, 4, 2, 5, 6])
    .reshape([groups, B * OH * OW, K]);
  const filters = weight
    .reshape([groups, O / groups, perGroup, kh, kw])
    .permute(last ? [0, 3, 4, 2, 1] : [0, 2, 3, 4, 1])
    .reshape([groups, K, O / groups]);
  const product = columns.matmul(filters).reshape([groups, B, OH, OW, O / groups]);
  const y = product.permute([1, 0, 4, 2, 3]).reshape([B, O, OH, OW]);
  return bias ? y.add(bias.reshape([O, 1, 1])) : y;
}

export interface PoolOptions {
  /** Default: the kernel's size. */
  stride?: Pair;
  padding?: Pair;
}

/** Largest value of each window: x [B, C, H, W] -> [B, C, OH, OW]. Equal largest values share the gradient. */
export function maxPool2d(x: Tensor, kernel: Pair, { stride = kernel, padding = 0 }: PoolOptions = {}): Tensor {
  check4d("maxPool2d", x);
  return windows(x, pair(kernel), stride, padding, 1, lowest(x.dtype)).amax([4, 5]);
}

/** Mean of each window: x [B, C, H, W] -> [B, C, OH, OW]. Padding counts as zeros. */
export function avgPool2d(x: Tensor, kernel: Pair, { stride = kernel, padding = 0 }: PoolOptions = {}): Tensor {
  check4d("avgPool2d", x);
  return windows(x, pair(kernel), stride, padding, 1).mean([4, 5]);
}

/** Means over `size` windows that cover the image: x [B, C, H, W] -> [B, C, ...size], as in torch. */
export function adaptiveAvgPool2d(x: Tensor, size: Pair): Tensor {
  check4d("adaptiveAvgPool2d", x);
  return resample(x, pair(size), (input, output) =>
    matrix(output, input, (i, put) => {
      const [start, end] = [Math.floor((i * input) / output), Math.ceil(((i + 1) * input) / output)];
      for (let j = start; j < end; j++) put(j, 1 / (end - start));
    }),
  );
}

export interface InterpolateOptions {
  /** New height and width. */
  size: Pair;
  /** Default nearest. */
  mode?: "nearest" | "bilinear" | "bicubic";
  /** Maps the centres of corner pixels, not the edges of the image, onto each other. */
  alignCorners?: boolean;
  /** Bilinear and bicubic: widens the filter when the image shrinks. */
  antialias?: boolean;
}

/**
 * Resizes x [B, C, H, W] to [B, C, ...size], as torch's `interpolate` does.
 * @example interpolate(x, { size: [24, 24], mode: "bilinear" })
 */
export function interpolate(
  x: Tensor,
  { size, mode = "nearest", alignCorners = false, antialias = false }: InterpolateOptions,
): Tensor {
  check4d("interpolate", x);
  if (mode === "nearest") {
    const [h, w] = pair(size);
    const rows = (input: number, output: number) =>
      tensor(Int32Array.from({ length: output }, (_, i) => Math.min(Math.floor((i * input) / output), input - 1)));
    return x.indexSelect(2, rows(x.shape[2], h)).indexSelect(3, rows(x.shape[3], w));
  }
  if (mode !== "bilinear" && mode !== "bicubic")
    throw new Error(`interpolate: unknown mode ${mode}: expected nearest, bilinear or bicubic`);
  const filter = mode === "bilinear" ? triangle : antialias ? cubic(-0.5) : cubic(-0.75);
  const support = mode === "bilinear" ? 1 : 2;
  return resample(x, pair(size), (input, output) => {
    const scale = alignCorners ? (output > 1 ? (input - 1) / (output - 1) : 0) : input / output;
    return antialias
      ? antialiased(input, output, scale, filter, support)
      : pointwise(input, output, scale, filter, support, alignCorners);
  });
}

const triangle = (t: number): number => Math.max(0, 1 - Math.abs(t));
/** Cubic convolution kernel (Keys 1981). */
const cubic =
  (a: number) =>
  (t: number): number => {
    const d = Math.abs(t);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
  };

/** Resampling matrix [output, input] of a filter of fixed width. Positions outside read the border pixel. */
function pointwise(
  input: number,
  output: number,
  scale: number,
  filter: (t: number) => number,
  support: number,
  alignCorners: boolean,
): Tensor {
  return matrix(output, input, (i, put) => {
    let at = alignCorners ? scale * i : scale * (i + 0.5) - 0.5;
    if (support === 1) at = Math.max(at, 0);
    const left = Math.floor(at) - support + 1;
    for (let j = left; j < left + 2 * support; j++) put(Math.min(Math.max(j, 0), input - 1), filter(at - j));
  });
}

/** Resampling matrix [output, input] of a filter that widens as the image shrinks. Each row sums to 1 inside the image. */
function antialiased(
  input: number,
  output: number,
  scale: number,
  filter: (t: number) => number,
  support: number,
): Tensor {
  const stretch = Math.max(scale, 1);
  return matrix(output, input, (i, put) => {
    const centre = scale * (i + 0.5);
    const start = Math.max(Math.trunc(centre - support * stretch + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support * stretch + 0.5), input);
    const taps = Array.from({ length: end - start }, (_, j) => filter((j + start - centre + 0.5) / stretch));
    const total = taps.reduce((a, b) => a + b, 0);
    taps.forEach((t, j) => put(start + j, t / total));
  });
}

/** A matrix [rows, columns] in which fill(row, put) adds amounts with put(column, amount). */
function matrix(
  rows: number,
  columns: number,
  fill: (row: number, put: (column: number, amount: number) => void) => void,
): Tensor {
  const data = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) fill(i, (j, amount) => void (data[i * columns + j] += amount));
  return tensor(data, { shape: [rows, columns] });
}

/** Multiplies both image dims by constant matrices [output, input]. */
function resample(
  x: Tensor,
  [h, w]: readonly [number, number],
  weights: (input: number, output: number) => Tensor,
): Tensor {
  const [B, C, H, W] = x.shape;
  if (!(Number.isInteger(h) && Number.isInteger(w) && h > 0 && w > 0))
    throw new RangeError(`interpolate: size must be positive integers, got [${h},${w}]`);
  const wide = x.reshape([numel([B, C, H]), W]).matmul(weights(W, w).t()); // [B C H, w]
  return weights(H, h)
    .matmul(wide.reshape([B * C, H, w]))
    .reshape([B, C, h, w]);
}
