import { addKernel } from "../../../kernels/index.ts";
import { numel } from "../../../src/graph/shape.ts";
import { grid2d } from "../../../src/lowering/grid.ts";
import { addLowering } from "../../../src/lowering/index.ts";
import { defineOp } from "../../../src/ops/define.ts";
import { splitRows } from "../../../src/ops/split.ts";
import { apply, type Tensor } from "../../../src/tensor/tensor.ts";
import source from "./scaled_square.wgsl";

const scaledSquareOp = defineOp<{ scale: number }>({
  name: "scaled_square",
  kind: "kernel",
  fallback: ([x], { scale }) => x.square().mul(scale), // definition, oracle, and gradient unless there is a vjp
  split: splitRows({ flat: true }),
});

/** scale · x². */
export const scaledSquare = (x: Tensor, scale: number): Tensor =>
  apply(scaledSquareOp, [x], { scale }, x.shape, x.dtype);

// Inside the package these are a line of src/lowering/index.ts and a file of kernels/.
addKernel("scaled_square", source);
addLowering("scaled_square", (node, cx) => {
  const values = numel(node.shape);
  return [
    {
      kernel: "scaled_square",
      params: { SCALE: node.attrs.scale as number },
      dims: [values],
      bind: [cx.operand(0).buffer, cx.output()],
      grid: grid2d(Math.ceil(values / 64)),
      epilogue: { shape: [1, 1, values], type: "f32" },
    },
  ];
});
