import {
  type AtIndex,
  argwhere,
  at,
  atSet,
  indexPut,
  maskedScatter,
  maskedSelect,
  nonzero,
  type PutOptions,
} from "../../ops/at.ts";
import {
  indexCopy,
  indexFill,
  type ScatterReduction,
  scatter,
  scatterReduce,
  take,
  takeAlongDim,
} from "../../ops/scatter.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /**
     * Part of this tensor, one index per dim: a number (drops the dim), `null` (the whole dim), `[start, stop, step]` (a slice),
     * `"ellipsis"`, `"none"` (a new dim), an integer tensor (positions), or a bool tensor (a mask, over as many dims as it has).
     * Index tensors broadcast together; their dims come where the first one stands, or first if others lie between them.
     * Positions on the host are checked; those on the device read 0 where out of range. A mask must be on the host
     * (`await mask.data()` first), because it decides the shape: see also `maskedSelect`.
     * @example x.at(0, [1, 3]); x.at("ellipsis", -1); x.at(null, [null, null, 2]); x.at(rows, columns); x.at(mask)
     */
    at(...index: readonly AtIndex[]): Tensor;
    /**
     * A copy whose part at `index` (a list as in `at`) is `values`: a number, or a tensor that broadcasts to the part. Of
     * repeated positions the last one stays; with `accumulate` values are added, in a fixed order.
     * @example x.atSet([0, [1, 3]], 0); x.atSet([mask], -1); x.atSet([rows], updates, { accumulate: true })
     */
    atSet(index: readonly AtIndex[], values: Tensor | number, options?: PutOptions): Tensor;
    /** As `atSet` with index tensors alone, or null for a whole dim: `x.indexPut([rows, columns], values)`. */
    indexPut(indices: readonly (Tensor | null)[], values: Tensor | number, options?: PutOptions): Tensor;
    /**
     * A copy with out[index[i][j]][j] = source[i][j] (for dim 0); source may be one number. `index` has equal rank, and no other
     * dim larger than here or in source. Of repeated positions the last one stays.
     */
    scatter(dim: number, index: Tensor, source: Tensor | number): Tensor;
    /** As `scatter`, but combines: "sum", "prod", "mean", "amax" or "amin". includeSelf false: old elements do not take part. */
    scatterReduce(
      dim: number,
      index: Tensor,
      source: Tensor,
      reduce: ScatterReduction,
      options?: { includeSelf?: boolean },
    ): Tensor;
    /** A copy whose slices at the 1-D `index` of `dim` are those of `source`. Of repeated positions the last one stays. */
    indexCopy(dim: number, index: Tensor, source: Tensor): Tensor;
    /** A copy whose slices at the 1-D `index` of `dim` are `value`. */
    indexFill(dim: number, index: Tensor, value: number): Tensor;
    /** Elements of the flattened tensor at `index`, in its shape. Negative positions count from the end. */
    take(index: Tensor): Tensor;
    /** As `gather`, but the other dims broadcast. Without `dim`, of the flattened tensor. */
    takeAlongDim(index: Tensor, dim?: number): Tensor;
    /** The elements where `mask` is true, as a vector. A promise: it reads the mask, because the number of elements is data. */
    maskedSelect(mask: Tensor): Promise<Tensor>;
    /** A copy whose elements where `mask` is true are, in row-major order, the first elements of `source`. */
    maskedScatter(mask: Tensor, source: Tensor): Tensor;
    /** Positions of the elements that are not 0: i32 [n, ndim]. A promise: it reads this tensor, because n is data. */
    nonzero(): Promise<Tensor>;
    /** As `nonzero`. */
    argwhere(): Promise<Tensor>;
  }
}

addMethods({
  at(...index: readonly AtIndex[]): Tensor {
    return at(this, ...index);
  },
  atSet(index: readonly AtIndex[], values: Tensor | number, options?: PutOptions): Tensor {
    return atSet(this, index, values, options);
  },
  indexPut(indices: readonly (Tensor | null)[], values: Tensor | number, options?: PutOptions): Tensor {
    return indexPut(this, indices, values, options);
  },
  scatter(dim: number, index: Tensor, source: Tensor | number): Tensor {
    return scatter(this, dim, index, source);
  },
  scatterReduce(
    dim: number,
    index: Tensor,
    source: Tensor,
    reduce: ScatterReduction,
    options?: { includeSelf?: boolean },
  ): Tensor {
    return scatterReduce(this, dim, index, source, reduce, options);
  },
  indexCopy(dim: number, index: Tensor, source: Tensor): Tensor {
    return indexCopy(this, dim, index, source);
  },
  indexFill(dim: number, index: Tensor, value: number): Tensor {
    return indexFill(this, dim, index, value);
  },
  take(index: Tensor): Tensor {
    return take(this, index);
  },
  takeAlongDim(index: Tensor, dim?: number): Tensor {
    return takeAlongDim(this, index, dim);
  },
  maskedSelect(mask: Tensor): Promise<Tensor> {
    return maskedSelect(this, mask);
  },
  maskedScatter(mask: Tensor, source: Tensor): Tensor {
    return maskedScatter(this, mask, source);
  },
  nonzero(): Promise<Tensor> {
    return nonzero(this);
  },
  argwhere(): Promise<Tensor> {
    return argwhere(this);
  },
});
