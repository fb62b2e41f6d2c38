import { untracked } from "../graph/build.ts";
import { type DType, promote } from "../graph/dtype.ts";
import type { Op } from "../graph/op.ts";
import { withRecording } from "../graph/recording.ts";
import { sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { type CrossEntropyOptions, checkClasses, crossEntropyBackwardOp, crossEntropyOp } from "./loss.ts";
import { linear } from "./matmul.ts";
import { cat, expand } from "./movement.ts";

const MAX_LOGITS = 1 << 24; // of one chunk: 64 MB
const ROWS = 16; // chunks are whole tiles of matmul

export interface LinearCrossEntropyOptions extends Omit<CrossEntropyOptions, "reduction"> {
  reduction?: "mean" | "sum";
  /** Number of rows whose logits exist at a time. Default: as many as have 2^24 logits, at least 16. */
  chunk?: number;
}

/** Sources: loss, hidden, weight. `gradients`: those of hidden and weight for a loss gradient of 1; null if not required. */
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

/** The value of its first source: the gradient of its second source. It exists to refuse second derivatives. */
const gradientOp: Op = defineOp({
  name: "linear_cross_entropy_gradient",
  kind: "kernel",
  fallback: ([d]) => d,
  vjp: () => {
    throw new Error("linearCrossEntropy: no second derivatives; use crossEntropy(linear(hidden, weight), labels)");
  },
});

/**
 * crossEntropy(linear(hidden, weight), labels) that never stores all logits, for hidden [..., D], weight [V, D] and labels
 * i32 [...] -> loss [] (after Liger Kernel, arXiv 2410.10989). It computes loss and gradients chunk by chunk, in as many
 * products as the plain form. The gradients are lazy: reading only the loss costs one product per chunk.
 * @throws on a second derivative, or if a label on the host is neither in [0, V) nor `ignoreIndex`.
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
    throw new Error(
      `linearCrossEntropy: labels ${show(labels.shape)} do not fit hidden ${show(hidden.shape)}: expected ${show(expected)}`,
    );
  checkClasses("linearCrossEntropy", labels, V, { ignoreIndex, labelSmoothing });
  const { chunk = Math.max(ROWS, Math.floor(MAX_LOGITS / Math.max(V, 1) / ROWS) * ROWS) } = options;
  if (!Number.isInteger(chunk) || chunk < 1)
    throw new RangeError(`linearCrossEntropy: chunk must be a positive integer, got ${chunk}`);

  const dtype = promote(hidden.dtype, weight.dtype);
  const { loss, gradients } = untracked(() =>
    withRecording(false, () =>
      lossByChunks(hidden, weight, labels, { ignoreIndex, labelSmoothing }, { reduction, chunk, dtype }),
    ),
  );
  return apply(linearCrossEntropyOp, [loss, hidden, weight], { gradients }, [], dtype);
}

/** Loss [] and the gradients of hidden and weight. Kernels run in the order of their nodes: each chunk frees its logits. */
function lossByChunks(
  hidden: Tensor, // [..., D]
  weight: Tensor, // [V, D]
  labels: Tensor, // [...]
  attrs: { ignoreIndex: number; labelSmoothing: number },
  { reduction, chunk, dtype }: { reduction: "mean" | "sum"; chunk: number; dtype: DType },
): { loss: Tensor; gradients: (Tensor | null)[] } {
  const [V, D] = weight.shape;
  const rows = hidden.reshape([-1, D]); // [N, D]
  const targets = labels.reshape([-1]); // [N]
  const N = targets.shape[0];
  const share =
    reduction === "sum"
      ? full([1], 1, dtype)
      : full([1], 1, dtype).div(targets.ne(attrs.ignoreIndex).sum(0, true).maximum(1).to(dtype));
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
    if (dWeight) sources.push(dWeight); // orders the chunks: otherwise all their gradients would wait for one kernel that adds them
    const dLogits = apply(crossEntropyBackwardOp, sources, attrs, [n, V], dtype);
    if (hidden.requiresGrad) dRows.push(dLogits.matmul(weight));
    if (weight.requiresGrad) {
      const part = dLogits.t().matmul(x); // [V, D]
      dWeight = dWeight ? part.add(dWeight as Tensor) : part;
    }
  }
  const dHidden = dRows.length ? cat(dRows).reshape(hidden.shape) : null;
  return { loss: total.mul(share).reshape([]), gradients: [dHidden, dWeight] };
}
