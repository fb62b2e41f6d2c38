import { numel } from "../../../src/graph/shape.ts";
import { defineOp } from "../../../src/ops/define.ts";
import { splitReduction } from "../../../src/ops/split.ts";
import { apply, type Tensor } from "../../../src/tensor/tensor.ts";

const absMaxOp = defineOp<{ dims: readonly number[] }>({
  name: "abs_max",
  kind: "reduce",
  reducer: { init: () => 0, step: (a, b) => `max(abs(${a}), abs(${b}))` },
  reference: ([x], _attrs, { shape, dtype }) => {
    const data = new Float64Array(numel(shape));
    const width = x.data.length / data.length; // the reduced dims come last
    x.data.forEach((v, i) => (data[Math.floor(i / width)] = Math.max(data[Math.floor(i / width)], Math.abs(v))));
    return { data, shape, dtype };
  },
  vjp: (g, y, [x], { dims }) => {
    const hit = x.abs().eq(y).to(x.dtype);
    return [hit.mul(x.sign()).mul(g.div(hit.sum(dims, true)))]; // ties share
  },
  split: splitReduction((a, b) => a.abs().maximum(b.abs())),
});

/** Largest absolute value along `dim`, which stays with size 1. */
export function absMax(x: Tensor, dim: number): Tensor {
  const shape = x.shape.map((n, d) => (d === dim ? 1 : n));
  return apply(absMaxOp, [x], { dims: [dim] }, shape, x.dtype);
}
