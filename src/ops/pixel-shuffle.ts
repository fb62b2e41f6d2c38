import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";

function check(op: string, x: Tensor, factor: number): void {
  if (!(Number.isInteger(factor) && factor > 0))
    throw new RangeError(`${op}: factor ${factor}: expected a whole number above 0`);
  if (x.ndim < 3) throw new Error(`${op}: expected [..., C, H, W], got ${show(x.shape)}`);
}

/**
 * Moves channels to space: x [..., C r², H, W] -> [..., C, H r, W r]. Channel (c, i, j) goes to row i and column j of its r x r block.
 * @throws if r² does not divide the channels
 */
export function pixelShuffle(x: Tensor, factor: number): Tensor {
  check("pixelShuffle", x, factor);
  const [C, H, W] = x.shape.slice(-3);
  const r = factor;
  if (C % (r * r) !== 0)
    throw new Error(`pixelShuffle: ${show(x.shape)} with factor ${r}: expected channels that ${r * r} divides`);
  const lead = x.shape.slice(0, -3);
  const n = lead.length;
  return x
    .reshape([...lead, C / (r * r), r, r, H, W])
    .permute([...lead.keys(), n, n + 3, n + 1, n + 4, n + 2])
    .reshape([...lead, C / (r * r), H * r, W * r]);
}

/**
 * The inverse of `pixelShuffle`: x [..., C, H r, W r] -> [..., C r², H, W].
 * @throws if r does not divide height and width
 */
export function pixelUnshuffle(x: Tensor, factor: number): Tensor {
  check("pixelUnshuffle", x, factor);
  const [C, H, W] = x.shape.slice(-3);
  const r = factor;
  if (H % r !== 0 || W % r !== 0)
    throw new Error(`pixelUnshuffle: ${show(x.shape)} with factor ${r}: expected height and width that ${r} divides`);
  const lead = x.shape.slice(0, -3);
  const n = lead.length;
  return x
    .reshape([...lead, C, H / r, r, W / r, r])
    .permute([...lead.keys(), n, n + 2, n + 4, n + 1, n + 3])
    .reshape([...lead, C * r * r, H / r, W / r]);
}
