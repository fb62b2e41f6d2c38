import * as order from "../../ops/order.ts";
import type { Extremum } from "../../ops/reduce.ts";
import * as sorting from "../../ops/sort.ts";
import { type TopkOptions, topk } from "../../ops/topk.ts";
import * as distinct from "../../ops/unique.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** This sorted along a dim (default -1), and the i32 positions. Stable, also when descending. NaN is the largest. */
    sort(options?: sorting.SortOptions): Extremum;
    /** Positions (i32) that sort this along a dim (default -1). Stable, also when descending. NaN is the largest. */
    argsort(options?: sorting.SortOptions): Tensor;
    /** The k largest elements along a dim (default -1), or the k smallest, best first, and their i32 positions. */
    topk(k: number, options?: TopkOptions): Extremum;
    /** Index (i32) of the bucket of each element between ascending `boundaries` [L]. */
    bucketize(boundaries: Tensor, options?: sorting.SearchOptions): Tensor;
    /** The k-th smallest element along a dim, from 1, and its i32 position. NaN is the largest. */
    kthvalue(k: number, dim?: number, keepdim?: boolean): Extremum;
    /** The middle of all elements, of an even number the lower one. NaN if any element is. */
    median(): Tensor;
    /** The middle element along a dim and its i32 position. */
    median(dim: number, keepdim?: boolean): Extremum;
    /** `median` of the elements that are not NaN. */
    nanmedian(): Tensor;
    nanmedian(dim: number, keepdim?: boolean): Extremum;
    /** The most frequent element along a dim, of equally frequent ones the smallest, and its last i32 position. */
    mode(dim?: number, keepdim?: boolean): Extremum;
    /** Quantiles q, in [0, 1], over a dim or all elements. A list of q gives a new first dim. NaN if any element is. */
    quantile(q: number | readonly number[], options?: order.QuantileOptions): Tensor;
    /** `quantile` of the elements that are not NaN. */
    nanquantile(q: number | readonly number[], options?: order.QuantileOptions): Tensor;
    /** The distinct elements, ascending, with `inverse` and `counts`. Waits for their number. */
    unique(options?: distinct.UniqueOptions): Promise<distinct.Unique>;
    /** Runs of equal neighbours reduced to one element each, with `inverse` and `counts`. Waits for their number. */
    uniqueConsecutive(options?: distinct.UniqueOptions): Promise<distinct.Unique>;
    /** How often each of 0, 1, 2, … occurs in integers [N], or the sums of `weights`. Waits for the largest element. */
    bincount(options?: distinct.BincountOptions): Promise<Tensor>;
    /** Counts (f32 [bins]) in equal bins from `min` to `max`; if both are 0, from the smallest to the largest element. */
    histc(bins?: number, min?: number, max?: number): Tensor;
  }
}

addMethods({
  sort(options?: sorting.SortOptions) {
    return sorting.sort(this, options);
  },
  argsort(options?: sorting.SortOptions) {
    return sorting.argsort(this, options);
  },
  topk(k: number, options?: TopkOptions) {
    return topk(this, k, options);
  },
  bucketize(boundaries: Tensor, options?: sorting.SearchOptions) {
    return sorting.bucketize(this, boundaries, options);
  },
  kthvalue(k: number, dim?: number, keepdim?: boolean) {
    return order.kthvalue(this, k, dim, keepdim);
  },
  median(dim?: number, keepdim?: boolean): any {
    return dim === undefined ? order.median(this) : order.median(this, dim, keepdim);
  },
  nanmedian(dim?: number, keepdim?: boolean): any {
    return dim === undefined ? order.nanmedian(this) : order.nanmedian(this, dim, keepdim);
  },
  mode(dim?: number, keepdim?: boolean) {
    return order.mode(this, dim, keepdim);
  },
  quantile(q: number | readonly number[], options?: order.QuantileOptions) {
    return order.quantile(this, q, options);
  },
  nanquantile(q: number | readonly number[], options?: order.QuantileOptions) {
    return order.nanquantile(this, q, options);
  },
  unique(options?: distinct.UniqueOptions) {
    return distinct.unique(this, options);
  },
  uniqueConsecutive(options?: distinct.UniqueOptions) {
    return distinct.uniqueConsecutive(this, options);
  },
  bincount(options?: distinct.BincountOptions) {
    return distinct.bincount(this, options);
  },
  histc(bins?: number, min?: number, max?: number) {
    return distinct.histc(this, bins, min, max);
  },
});
