import { defineOp } from "../../../src/ops/define.ts";
import { eye } from "../../../src/ops/functional.ts";
import { apply, type Tensor } from "../../../src/tensor/tensor.ts";

const mainDiagonalOp = defineOp({
  name: "main_diagonal",
  kind: "view",
  viewIndex: ([i]) => ({ index: [i, i] }), // where element i lies in the source, for GPU and reference
  vjp: (g) => [g.unsqueeze(-1).mul(eye(g.shape[0]))],
});

/** The main diagonal of a square matrix: [N, N] to [N]. */
export const mainDiagonal = (x: Tensor): Tensor => apply(mainDiagonalOp, [x], {}, [x.shape[0]], x.dtype);
