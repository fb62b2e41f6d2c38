import { isFloat } from "../graph/dtype.ts";
import type { Op } from "../graph/op.ts";
import { normalizeDim } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { transpose } from "./movement.ts";
import { splitRows } from "./split.ts";

// All ops work over the last dim.

/** Sources: gradient g, softmax y. Output: gradient of x. */
const softmaxBackwardOp = defineOp({
  name: "softmax_backward",
  kind: "kernel",
  split: splitRows({ flat: true }),
  fallback: ([g, y]) => y.mul(g.sub(g.mul(y).sum(-1, true))),
});

const softmaxOp = defineOp({
  name: "softmax",
  kind: "kernel",
  split: splitRows({ flat: true }),
  vjp: (g, y) => [apply(softmaxBackwardOp, [g, y], {}, y.shape, y.dtype)],
  fallback: ([x]) => {
    const e = x.sub(x.amax(-1, true)).exp();
    return e.div(e.sum(-1, true));
  },
});

/** Sources: gradient g, log-softmax y. Output: gradient of x. */
const logSoftmaxBackwardOp = defineOp({
  name: "log_softmax_backward",
  kind: "kernel",
  split: splitRows({ flat: true }),
  fallback: ([g, y]) => g.sub(y.exp().mul(g.sum(-1, true))),
});

const logSoftmaxOp = defineOp({
  name: "log_softmax",
  kind: "kernel",
  split: splitRows({ flat: true }),
  vjp: (g, y) => [apply(logSoftmaxBackwardOp, [g, y], {}, y.shape, y.dtype)],
  fallback: ([x]) => {
    const shifted = x.sub(x.amax(-1, true));
    return shifted.sub(shifted.exp().sum(-1, true).log());
  },
});

/** exp(x) / sum(exp(x)) along `dim`. Integers become f32. */
export const softmax = (x: Tensor, dim: number): Tensor => alongLast(softmaxOp, x, dim);
/** log(softmax(x)) along `dim`, without overflow. Integers become f32. */
export const logSoftmax = (x: Tensor, dim: number): Tensor => alongLast(logSoftmaxOp, x, dim);

function alongLast(op: Op, x: Tensor, dim: number): Tensor {
  const d = normalizeDim(op.name, dim, x.ndim);
  const values = isFloat(x.dtype) ? x : x.to("f32");
  if (x.ndim === 0) return values.sub(values).exp();
  const last = transpose(values, d, -1);
  return transpose(apply(op, [last], {}, last.shape, last.dtype), d, -1);
}
