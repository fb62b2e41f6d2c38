import type { Dim } from "../../ops/reduce.ts";
import * as statistics from "../../ops/statistics.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** bool: whether an element is not 0 over dims; NaN is not. False of no elements. */
    any(dim?: Dim, keepdim?: boolean): Tensor;
    /** bool: whether all elements are not 0 over dims; NaN is not. True of no elements. */
    all(dim?: Dim, keepdim?: boolean): Tensor;
    /** Number of elements over dims that are not 0, i32. NaN counts. */
    countNonzero(dim?: Dim): Tensor;
    /** Smallest and largest element over dims. Ties share the gradient; NaN wins. */
    aminmax(options?: { dim?: Dim; keepdim?: boolean }): { min: Tensor; max: Tensor };
    /** Sum over dims of the elements that are not NaN. Of only NaN: 0. */
    nansum(dim?: Dim, keepdim?: boolean): Tensor;
    /** Mean over dims of the elements that are not NaN. Of only NaN: NaN. */
    nanmean(dim?: Dim, keepdim?: boolean): Tensor;
    /** Standard deviation, divided by n - correction (default 1). Its gradient is 0 where it is 0. */
    std(options?: statistics.VarianceOptions): Tensor;
    /** Variance and mean over dims. */
    varMean(options?: statistics.VarianceOptions): { var: Tensor; mean: Tensor };
    /** Standard deviation and mean over dims. */
    stdMean(options?: statistics.VarianceOptions): { std: Tensor; mean: Tensor };
    /** Vector norm over dims, default p 2. Integers become f32. Its gradient is 0 where it is 0. */
    norm(options?: statistics.NormOptions): Tensor;
  }
}

addMethods({
  any(dim?: Dim, keepdim?: boolean): Tensor {
    return statistics.any(this, dim, keepdim);
  },
  all(dim?: Dim, keepdim?: boolean): Tensor {
    return statistics.all(this, dim, keepdim);
  },
  countNonzero(dim?: Dim): Tensor {
    return statistics.countNonzero(this, dim);
  },
  aminmax(options?: { dim?: Dim; keepdim?: boolean }): { min: Tensor; max: Tensor } {
    return statistics.aminmax(this, options);
  },
  nansum(dim?: Dim, keepdim?: boolean): Tensor {
    return statistics.nansum(this, dim, keepdim);
  },
  nanmean(dim?: Dim, keepdim?: boolean): Tensor {
    return statistics.nanmean(this, dim, keepdim);
  },
  std(options?: statistics.VarianceOptions): Tensor {
    return statistics.std(this, options);
  },
  varMean(options?: statistics.VarianceOptions): { var: Tensor; mean: Tensor } {
    return statistics.varMean(this, options);
  },
  stdMean(options?: statistics.VarianceOptions): { std: Tensor; mean: Tensor } {
    return statistics.stdMean(this, options);
  },
  norm(options?: statistics.NormOptions): Tensor {
    return statistics.norm(this, options);
  },
});
