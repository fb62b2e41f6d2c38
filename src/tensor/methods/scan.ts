import type { Extremum } from "../../ops/reduce.ts";
import * as scan from "../../ops/scan.ts";
import type {} from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** Running product along `dim`. Integers and booleans are multiplied as i32. */
    cumprod(dim: number): Tensor;
    /** Largest elements so far along `dim`, and their i32 positions: of equal ones the last. NaN wins and stays. */
    cummax(dim: number): Extremum;
    /** Smallest elements so far along `dim`, and their i32 positions: of equal ones the last. NaN wins and stays. */
    cummin(dim: number): Extremum;
    /** log of the running sum of exp along `dim`, without overflow. Integers are converted to f32. */
    logcumsumexp(dim: number): Tensor;
  }
}

addMethods({
  cumprod(dim: number) {
    return scan.cumprod(this, dim);
  },
  cummax(dim: number) {
    return scan.cummax(this, dim);
  },
  cummin(dim: number) {
    return scan.cummin(this, dim);
  },
  logcumsumexp(dim: number) {
    return scan.logcumsumexp(this, dim);
  },
});
