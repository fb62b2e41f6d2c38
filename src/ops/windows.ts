import { isFloat } from "../graph/dtype.ts";
import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";

// Sizes of sliding windows over the spatial dims of x [N, C, ...spatial]: what convolutions and pools share.

/** One number for all spatial dims, or one per dim. */
export type Spatial = number | readonly number[];
/** One number for both image dims, or [vertical, horizontal]. */
export type Pair = number | readonly [number, number];
export const pair = (p: Pair): readonly [number, number] => (typeof p === "number" ? [p, p] : p);

/** `value` for each of `dims` spatial dims. @throws unless all are whole numbers of at least `least`. */
export function perDim(op: string, what: string, value: Spatial, dims: number, least: number): number[] {
  const list = typeof value === "number" ? new Array<number>(dims).fill(value) : [...value];
  if (list.length !== dims || !list.every((n) => Number.isInteger(n) && n >= least))
    throw new RangeError(
      `${op}: ${what} ${JSON.stringify(value)}: expected ${dims === 1 ? "a whole number" : `one whole number, or ${dims}`} of at least ${least}`,
    );
  return list;
}

const letters = ["L", "H, W", "D, H, W"];

/** Adds the batch dim that an input may lack. @throws unless x is float (or `integers` are allowed), with `dims` spatial dims. */
export function batched(
  op: string,
  x: Tensor,
  dims: number,
  integers = false,
): { x: Tensor; restore: (y: Tensor) => Tensor } {
  if (x.ndim !== dims + 2 && x.ndim !== dims + 1)
    throw new Error(
      `${op}: input must be [N, C, ${letters[dims - 1]}] or [C, ${letters[dims - 1]}], got ${show(x.shape)}`,
    );
  if (!isFloat(x.dtype) && !(integers && x.dtype !== "bool"))
    throw new TypeError(`${op}: input ${show(x.shape)} is ${x.dtype}: cast it with float()`);
  if (x.ndim === dims + 2) return { x, restore: (y) => y };
  return { x: x.unsqueeze(0), restore: (y) => y.squeeze(0) };
}

/** Number of windows along a dim of `size` elements that has `padding` added in total. */
export const windowCount = (size: number, kernel: number, stride: number, dilation: number, padding: number): number =>
  Math.floor((size + padding - dilation * (kernel - 1) - 1) / stride) + 1;

/** Windows of all spatial dims: [N, C, ...spatial] -> [N, C, ...windows, ...kernel]. */
export function unfoldAll(
  x: Tensor,
  kernel: readonly number[],
  stride: readonly number[],
  dilation: readonly number[],
): Tensor {
  return kernel.reduce((t, k, d) => t.unfold(d + 2, k, stride[d], dilation[d]), x);
}

/** `pads` of the spatial dims, and none of the others. */
export const padSpatial = (x: Tensor, pads: readonly (readonly [number, number])[], value = 0): Tensor =>
  x.pad([[0, 0], [0, 0], ...pads], value);
