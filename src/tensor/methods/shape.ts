import type { DType } from "../../graph/dtype.ts";
import { isFloat } from "../../graph/dtype.ts";
import { broadcastShapes, listOf, type Numbers, normalizeDim, type Shape, sameShape, show } from "../../graph/shape.ts";
import { type DiagonalOptions, diag, diagEmbed, diagonal } from "../../ops/diagonal.ts";
import { expand, permute, reshape, transpose } from "../../ops/movement.ts";
import type { Dim } from "../../ops/reduce.ts";
import { repeatInterleave } from "../../ops/repeat-interleave.ts";
import {
  diff,
  fliplr,
  flipud,
  movedim,
  repeat,
  roll,
  rot90,
  tensorSplit,
  tile,
  unbind,
  unflatten,
} from "../../ops/shape.ts";
import { currentSession } from "../../runtime/session.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** All dims reversed. */
    readonly T: Tensor;
    /** The last two dims swapped: the transpose of each matrix. */
    readonly mT: Tensor;
    /** "webgpu" or "reference"; undefined before the first computation opens a device. */
    readonly device: "webgpu" | "reference" | undefined;
    /** The shape, or the size of one dim. Negative counts from the end. */
    size(): Shape;
    size(dim: number): number;
    /** Number of dims: as `ndim`. */
    dim(): number;
    /** The same values in another dtype: as `to`. */
    type(dtype: DType): Tensor;
    /** As bool: whether each element is not 0. */
    bool(): Tensor;
    /** Whether the dtype is f32 or f16. */
    isFloatingPoint(): boolean;
    /** This tensor. Every value is row-major; views are copied where a kernel needs it. */
    contiguous(): Tensor;
    /** As `reshape` to the shape of `other`. */
    viewAs(other: Tensor): Tensor;
    /** As `reshape` to the shape of `other`. */
    reshapeAs(other: Tensor): Tensor;
    /** Broadcasts to the shape of `other`. */
    expandAs(other: Tensor): Tensor;
    /** Broadcasts to sizes: as `expand`, without -1. */
    broadcastTo(...sizes: Numbers): Tensor;
    /** Repeats the tensor along each dim: `x.repeat(2, 3)`. At least as many numbers as dims; new dims come first. */
    repeat(...repeats: Numbers): Tensor;
    /** As `repeat`; numbers that are missing are 1 for the first dims. */
    tile(...repeats: Numbers): Tensor;
    /**
     * Repeats each slice of `dim` in a row: all `repeats` times, or slice i repeats[i] times. Without `dim`, the flattened elements.
     * @throws if the numbers are a tensor whose values are not on the host: they decide the shape, so `await repeats.data()` first.
     */
    repeatInterleave(repeats: number | readonly number[] | Tensor, dim?: number): Tensor;
    /** Swaps two dims: as `transpose`. */
    swapaxes(a: number, b: number): Tensor;
    /** Swaps two dims: as `transpose`. */
    swapdims(a: number, b: number): Tensor;
    /** Moves dims to new places; the others keep their order: `x.movedim(0, -1)`, `x.movedim([0, 1], [2, 0])`. */
    movedim(source: Dim, destination: Dim): Tensor;
    /** Splits a dim into `sizes` with its size as product. One may be -1. [2, 12] with (1, [3, -1]) -> [2, 3, 4] */
    unflatten(dim: number, sizes: Shape): Tensor;
    /** The slices of `dim` (default 0), which they drop. */
    unbind(dim?: number): Tensor[];
    /** Nearly equal parts (the first ones are longer), or parts that start at the given positions. */
    tensorSplit(sections: number | readonly number[], dim?: number): Tensor[];
    /** Rotates k times by 90 degrees in the plane of two dims (default [0, 1]), from the first towards the second. */
    rot90(k?: number, dims?: readonly [number, number]): Tensor;
    /** Reverses the columns (dim 1). */
    fliplr(): Tensor;
    /** Reverses the rows (dim 0). */
    flipud(): Tensor;
    /** Shifts elements cyclically: `x.roll(1, 0)`, `x.roll([1, -2], [0, 1])`. Without dims, the flattened elements. */
    roll(shifts: Dim, dims?: Dim): Tensor;
    /** A diagonal of two dims (default 0 and 1) as a new last dim: [m, n] -> [length]. */
    diagonal(options?: DiagonalOptions): Tensor;
    /** The last dim on a diagonal of two new dims (default the last): [..., n] -> [..., n + |offset|, n + |offset|]. */
    diagEmbed(options?: DiagonalOptions): Tensor;
    /** Of a vector: the matrix with it on a diagonal. Of a matrix: that diagonal. */
    diag(diagonal?: number): Tensor;
    /** Differences of neighbours along `dim` (default -1), n times. */
    diff(options?: { n?: number; dim?: number }): Tensor;
  }
}

addMethods({
  get T(): Tensor {
    return permute(
      this,
      this.shape.map((_, d) => this.ndim - 1 - d),
    );
  },
  get mT(): Tensor {
    if (this.ndim < 2) throw new Error(`mT: expected at least two dims, got ${show(this.shape)}`);
    return transpose(this, -2, -1);
  },
  get device(): "webgpu" | "reference" | undefined {
    const session = currentSession();
    return session && (session.device ? "webgpu" : "reference");
  },
  size: sizeOf as Tensor["size"],
  dim(): number {
    return this.ndim;
  },
  type(dtype: DType): Tensor {
    return this.to(dtype);
  },
  bool(): Tensor {
    return this.to("bool");
  },
  isFloatingPoint(): boolean {
    return isFloat(this.dtype);
  },
  contiguous(): Tensor {
    return this;
  },
  viewAs(other: Tensor): Tensor {
    return reshape(this, other.shape);
  },
  reshapeAs(other: Tensor): Tensor {
    return reshape(this, other.shape);
  },
  expandAs(other: Tensor): Tensor {
    return broadcastTo(this, other.shape);
  },
  broadcastTo(...sizes: Numbers): Tensor {
    return broadcastTo(this, listOf(sizes));
  },
  repeat(...repeats: Numbers): Tensor {
    return repeat(this, ...repeats);
  },
  tile(...repeats: Numbers): Tensor {
    return tile(this, ...repeats);
  },
  repeatInterleave(repeats: number | readonly number[] | Tensor, dim?: number): Tensor {
    return repeatInterleave(this, repeats, dim);
  },
  swapaxes(a: number, b: number): Tensor {
    return transpose(this, a, b);
  },
  swapdims(a: number, b: number): Tensor {
    return transpose(this, a, b);
  },
  movedim(source: Dim, destination: Dim): Tensor {
    return movedim(this, source, destination);
  },
  unflatten(dim: number, sizes: Shape): Tensor {
    return unflatten(this, dim, sizes);
  },
  unbind(dim?: number): Tensor[] {
    return unbind(this, dim);
  },
  tensorSplit(sections: number | readonly number[], dim?: number): Tensor[] {
    return tensorSplit(this, sections, dim);
  },
  rot90(k?: number, dims?: readonly [number, number]): Tensor {
    return rot90(this, k, dims);
  },
  fliplr(): Tensor {
    return fliplr(this);
  },
  flipud(): Tensor {
    return flipud(this);
  },
  roll(shifts: Dim, dims?: Dim): Tensor {
    return roll(this, shifts, dims);
  },
  diagonal(options?: DiagonalOptions): Tensor {
    return diagonal(this, options);
  },
  diagEmbed(options?: DiagonalOptions): Tensor {
    return diagEmbed(this, options);
  },
  diag(diagonalAt?: number): Tensor {
    return diag(this, diagonalAt);
  },
  diff(options?: { n?: number; dim?: number }): Tensor {
    return diff(this, options);
  },
});

function sizeOf(this: Tensor, dim?: number): Shape | number {
  if (dim === undefined) return this.shape;
  const d = normalizeDim("size", dim, this.ndim);
  if (this.ndim === 0) throw new RangeError("size: a scalar has no dims");
  return this.shape[d];
}

/** Broadcasts x to `shape`, without -1. */
function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (!sameShape(broadcastShapes("broadcastTo", x.shape, shape), shape))
    throw new Error(`broadcastTo: ${show(x.shape)} does not broadcast to ${show(shape)}: only dims of size 1 can grow`);
  return expand(x, shape);
}
