import { noGrad, untracked } from "../graph/build.ts";
import { promote } from "../graph/dtype.ts";
import type { Op } from "../graph/op.ts";
import { sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { type CrossEntropyOptions, checkClasses, crossEntropyBackwardOp, crossEntropyOp } from "./loss.ts";
import { linear } from "./matmul.ts";
import { cat, expand } from "./movement.ts";

const MOST_LOGITS = 1 << 24; // of one part: 64 MB
const ROWS = 16; // parts are whole tiles of matmul

export interface LinearCrossEntropyOptions extends Omit<CrossEntropyOptions, "reduction"> {
  reduction?: "mean" | "sum";
  /** Rows whose logits exist at a time. Default: as many as have 2^24 logits, at least 16. */
  chunk?: number;
}

/** Sources the loss, hidden, weight; `gradients` are those of the two, ready to be scaled: null = not wanted. */
const linearCrossEntropyOp = defineOp<{ gradients: readonly (Tensor | null)[] }>({
  name: "linear_cross_entropy",
  kind: "kernel",
  keyOf: () => "",
  fallback: ([loss]) => loss,
  vjp: (g, _y, [, ...x], { gradients }) => [
    null,
    ...gradients.map((d, i) => d && g.mul(apply(gradientOp, [d, x[i]], {}, d.shape, d.dtype)).to(x[i].dtype)),
  ],
});

/** The first source; the second is what it is a gradient of. */
const gradientOp: Op = defineOp({
  name: "linear_cross_entropy_gradient",
  kind: "kernel",
  fallback: ([d]) => d,
  vjp: () => {
    throw new Error("linearCrossEntropy: no second derivatives; use crossEntropy(linear(hidden, weight), labels)");
  },
});

/**
 * crossEntropy(linear(hidden, weight), labels) without ever holding all logits: hidden [..., D], weight [V, D], labels
 * i32 [...]. Loss and gradients are made part by part while its logits exist (after Liger Kernel, arXiv 2410.10989), in
 * as many products as the plain form. The gradients are lazy: a loss that is only read costs one product.
 */
export function linearCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  labels: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean" } = options;
  const [V, D] = weight.shape;
  if (weight.ndim !== 2 || hidden.ndim === 0 || hidden.shape.at(-1) !== D)
    throw new Error(
      `linearCrossEntropy: hidden ${show(hidden.shape)} does not fit weight ${show(weight.shape)} ([classes, dim])`,
    );
  const expected = hidden.shape.slice(0, -1);
  if (!sameShape(labels.shape, expected))
    throw new Error(`linearCrossEntropy: labels ${show(labels.shape)} do not fit hidden ${show(hidden.shape)}`);
  checkClasses("linearCrossEntropy", labels, V, { ignoreIndex, labelSmoothing });
  const { chunk = Math.max(ROWS, Math.floor(MOST_LOGITS / Math.max(V, 1) / ROWS) * ROWS) } = options;
  if (!Number.isInteger(chunk) || chunk < 1)
    throw new RangeError(`linearCrossEntropy: chunk must be a positive integer, got ${chunk}`);

  const dtype = promote(hidden.dtype, weight.dtype);
  const attrs = { ignoreIndex, labelSmoothing };
  // Kernels run in the order their nodes are made in: a part's logits are dropped before the next one's come.
  const build = (): { loss: Tensor; gradients: (Tensor | null)[] } => {
    const rows = hidden.reshape([-1, D]); // [N, D]
    const targets = labels.reshape([-1]); // [N]
    const N = targets.shape[0];
    const share =
      reduction === "sum"
        ? full([1], 1, dtype)
        : full([1], 1, dtype).div(targets.ne(ignoreIndex).sum(0, true).maximum(1).to(dtype));
    let total = full([1], 0, dtype);
    const dRows: Tensor[] = [];
    let dWeight: Tensor | null = null;
    for (let start = 0; start < N; start += chunk) {
      const n = Math.min(chunk, N - start);
      const x = rows.narrow(0, start, n); // [n, D]
      const target = targets.narrow(0, start, n);
      const logits = linear(x, weight); // [n, V]
      const losses = apply(crossEntropyOp, [logits, target], attrs, [n], dtype);
      total = total.add(losses.sum(0, true));
      const sources = [expand(share, [n]), logits, target];
      if (dWeight) sources.push(dWeight); // one running sum: else all parts would wait to be added in one kernel
      const dLogits = apply(crossEntropyBackwardOp, sources, attrs, [n, V], dtype);
      if (hidden.requiresGrad) dRows.push(dLogits.matmul(weight));
      if (weight.requiresGrad) {
        const part = dLogits.t().matmul(x); // [V, D]
        dWeight = dWeight ? part.add(dWeight as Tensor) : part;
      }
    }
    const dHidden = dRows.length ? cat(dRows).reshape(hidden.shape) : null;
    return { loss: total.mul(share).reshape([]), gradients: [dHidden, dWeight] };
  };
  const { loss, gradients } = untracked(() => noGrad(build));
  return apply(linearCrossEntropyOp, [loss, hidden, weight], { gradients }, [], dtype);
}
