import { sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { positionsAlong } from "./reduce.ts";
import { splitRows } from "./split.ts";

interface CrossEntropyAttrs extends Record<string, unknown> {
  ignoreIndex: number;
  labelSmoothing: number;
}

/** Sources: logits [N, C], target i32 [N]. Output: losses [N], 0 where the target is ignored. */
export const crossEntropyOp = defineOp<CrossEntropyAttrs>({
  name: "cross_entropy",
  kind: "kernel",
  split: splitRows(),
  vjp: (g, _y, [x, target], attrs) => [apply(crossEntropyBackwardOp, [g, x, target], attrs, x.shape, x.dtype), null],
  fallback: ([x, target], { ignoreIndex, labelSmoothing }) => {
    const logits = x.logSoftmax(-1);
    const kept = target.ne(ignoreIndex);
    const chosen = logits.gather(-1, where(kept, target, 0).unsqueeze(-1)).squeeze(-1);
    const loss =
      labelSmoothing === 0 ? chosen : chosen.mul(1 - labelSmoothing).add(logits.mean(-1).mul(labelSmoothing));
    return where(kept, loss.neg(), 0);
  },
});

/**
 * Sources: gradient [N], logits [N, C], target i32 [N]. Output: gradient of the logits, without stored log-probabilities.
 * A fourth source is never read. It only orders kernels: it is computed first.
 */
export const crossEntropyBackwardOp = defineOp<CrossEntropyAttrs>({
  name: "cross_entropy_backward",
  kind: "kernel",
  split: splitRows(),
  fallback: ([g, x, target], { ignoreIndex, labelSmoothing }) => {
    const C = x.shape[1];
    const hit = positionsAlong(1, C, 2).eq(target.unsqueeze(-1)).to(x.dtype);
    const wanted = labelSmoothing === 0 ? hit : hit.mul(1 - labelSmoothing).add(labelSmoothing / C);
    const scale = where(target.ne(ignoreIndex), g, 0).unsqueeze(-1);
    return x.softmax(-1).sub(wanted).mul(scale);
  },
});

export type Reduction = "mean" | "sum" | "none";

export interface CrossEntropyOptions {
  /** Targets of this value are ignored: no loss, no gradient. Default -100. */
  ignoreIndex?: number;
  /** In [0, 1]: the share of the target distribution that is spread evenly over all classes. Default 0. */
  labelSmoothing?: number;
  /** Default `mean`: divides by the number of targets that are not ignored, and is 0 if all are. */
  reduction?: Reduction;
}

/** @throws unless targets are i32 and labelSmoothing is in [0, 1]. Targets on the host must be classes or `ignoreIndex`. */
export function checkClasses(
  op: string,
  target: Tensor,
  classes: number,
  { ignoreIndex, labelSmoothing }: CrossEntropyAttrs,
): void {
  if (target.dtype !== "i32") throw new TypeError(`${op}: targets must be i32 class indices, got ${target.dtype}`);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new RangeError(`${op}: labelSmoothing must be in [0, 1], got ${labelSmoothing}`);
  const bad = target.node.host?.find((t) => t !== ignoreIndex && (t < 0 || t >= classes));
  if (bad !== undefined)
    throw new RangeError(
      `${op}: target ${bad} is out of range for ${classes} classes: expected 0 to ${classes - 1}, or ignoreIndex ${ignoreIndex}`,
    );
}

/**
 * Cross entropy of logits [N, C] or [N, C, ...] against class indices i32 [N] or [N, ...]. The result is [], or with
 * reduction "none" the shape of the targets.
 * @throws if the shapes do not fit, or a target on the host is neither a class nor `ignoreIndex`.
 */
export function crossEntropy(logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean" } = options;
  const C = logits.shape[1];
  const expected = [logits.shape[0], ...logits.shape.slice(2)];
  if (logits.ndim < 2 || !sameShape(target.shape, expected)) {
    throw new Error(
      `crossEntropy: logits ${show(logits.shape)} ([N, C, ...]) do not fit target ${show(target.shape)} (expected ${show(expected)})`,
    );
  }
  checkClasses("crossEntropy", target, C, { ignoreIndex, labelSmoothing });
  const rows = logits.ndim === 2 ? logits : logits.flatten(2).transpose(1, 2).reshape([-1, C]);
  const flat = target.reshape([-1]);
  const losses = apply(crossEntropyOp, [rows, flat], { ignoreIndex, labelSmoothing }, flat.shape, logits.dtype);
  if (reduction === "none") return losses.reshape(target.shape);
  if (reduction === "sum") return losses.sum();
  const kept = flat.ne(ignoreIndex).sum(0, true).maximum(1).to(losses.dtype); // [1]
  return losses.sum(0, true).div(kept).reshape([]);
}

/** Mean squared error of two tensors of one shape -> []. Reduction "none" keeps the shape. Unlike torch, never broadcasts. */
export function mseLoss(x: Tensor, target: Tensor, { reduction = "mean" }: { reduction?: Reduction } = {}): Tensor {
  if (!sameShape(x.shape, target.shape))
    throw new Error(`mseLoss: shapes differ: ${show(x.shape)} and ${show(target.shape)}: expected equal shapes`);
  const error = x.sub(target).square();
  if (reduction === "none") return error;
  return reduction === "sum" ? error.sum() : error.mean();
}
