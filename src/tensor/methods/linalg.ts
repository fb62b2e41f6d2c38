import { matmul } from "../../ops/matmul.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** Matrix product of two matrices: [M, K] x [K, N] -> [M, N]. No batch dims: `matmul` takes them. */
    mm(b: Tensor): Tensor;
  }
}

addMethods({
  mm(b: Tensor): Tensor {
    if (this.ndim !== 2 || b.ndim !== 2)
      throw new Error(`mm: expected two matrices, got ${this.ndim} and ${b.ndim} dims: matmul takes batches`);
    return matmul(this, b);
  },
});
