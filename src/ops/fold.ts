import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { fold as foldDim, permute, reshape } from "./movement.ts";

type Pair = number | readonly [number, number];

export interface WindowOptions {
  /** Distance between windows. Default 1. */
  stride?: Pair;
  /** Zeros on each side. Default 0. */
  padding?: Pair;
  /** Distance between the elements of a window. Default 1. */
  dilation?: Pair;
}

interface Windows {
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
  /** Number of windows along each dim. */
  readonly count: readonly [number, number];
}

function pairOf(op: string, what: string, value: Pair, least: number): [number, number] {
  const [a, b] = typeof value === "number" ? [value, value] : value;
  if (![a, b].every((n) => Number.isInteger(n) && n >= least))
    throw new RangeError(`${op}: ${what} ${show([a, b])}: expected whole numbers of at least ${least}`);
  return [a, b];
}

function windowsOf(op: string, size: readonly [number, number], kernelGiven: Pair, options: WindowOptions): Windows {
  checkOptions(op, options, ["stride", "padding", "dilation"]);
  const kernel = pairOf(op, "kernel", kernelGiven, 1);
  const stride = pairOf(op, "stride", options.stride ?? 1, 1);
  const padding = pairOf(op, "padding", options.padding ?? 0, 0);
  const dilation = pairOf(op, "dilation", options.dilation ?? 1, 1);
  const along = (d: 0 | 1): number =>
    Math.floor((size[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d]) + 1;
  const count = [along(0), along(1)] as const;
  if (!(count[0] > 0 && count[1] > 0))
    throw new RangeError(
      `${op}: windows ${show(kernel)} do not fit a plane ${show(size)} with padding ${show(padding)}`,
    );
  return { kernel, stride, padding, dilation, count };
}

/**
 * The windows of a plane as columns (im2col): [N, C, H, W] -> [N, C kh kw, L]. Windows come in row-major order.
 * Windows of one dim: the method `x.unfold`.
 */
export function unfold(x: Tensor, kernel: Pair, options: WindowOptions = {}): Tensor {
  if (x.ndim !== 4) throw new Error(`unfold: expected [N, C, H, W], got ${show(x.shape)}`);
  const [N, C, H, W] = x.shape;
  const w = windowsOf("unfold", [H, W], kernel, options);
  const [p, q] = w.padding;
  const padded = x.pad([
    [0, 0],
    [0, 0],
    [p, p],
    [q, q],
  ]);
  const windows = padded
    .unfold(2, w.kernel[0], w.stride[0], w.dilation[0]) // [N, C, rows, W, kh]
    .unfold(3, w.kernel[1], w.stride[1], w.dilation[1]); // [N, C, rows, columns, kh, kw]
  return reshape(permute(windows, [0, 1, 4, 5, 2, 3]), [N, C * w.kernel[0] * w.kernel[1], w.count[0] * w.count[1]]);
}

/** Adds windows back into a plane (col2im), the transpose of `unfold`: [N, C kh kw, L] -> [N, C, H, W] for size [H, W]. */
export function fold(x: Tensor, size: Pair, kernel: Pair, options: WindowOptions = {}): Tensor {
  const [H, W] = pairOf("fold", "size", size, 1);
  const { kernel: k, stride, padding, dilation, count } = windowsOf("fold", [H, W], kernel, options);
  const area = k[0] * k[1];
  if (x.ndim !== 3 || x.shape[1] % area !== 0 || x.shape[2] !== count[0] * count[1])
    throw new Error(
      `fold: ${show(x.shape)} for size ${show([H, W])} and windows ${show(k)}: expected [N, a multiple of ${area}, ${count[0] * count[1]}]`,
    );
  const [N, C] = [x.shape[0], x.shape[1] / area];
  const windows = permute(reshape(x, [N, C, k[0], k[1], count[0], count[1]]), [0, 1, 4, 5, 2, 3]);
  const [h, w] = [H + 2 * padding[0], W + 2 * padding[1]];
  const wide = foldDim(
    windows,
    { shape: [N, C, count[0], w, k[0]] },
    { dim: 3, size: k[1], step: stride[1], dilation: dilation[1] },
  );
  const plane = foldDim(wide, { shape: [N, C, h, w] }, { dim: 2, size: k[0], step: stride[0], dilation: dilation[0] });
  return plane.slice([[], [], [padding[0], padding[0] + H], [padding[1], padding[1] + W]]);
}
