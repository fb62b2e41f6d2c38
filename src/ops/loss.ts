import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
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

/** Options of a loss of elements. */
export interface LossOptions {
  /** Default "mean": of all elements. "none" keeps the shape. */
  reduction?: Reduction;
}

/** @throws for an option that is not in `known` or "reduction", and for an unknown reduction. */
export function checkLoss(op: string, options: { reduction?: string }, known: readonly string[] = []): void {
  checkOptions(op, options, [...known, "reduction"]);
  const { reduction = "mean" } = options;
  if (!["mean", "sum", "none"].includes(reduction))
    throw new RangeError(`${op}: reduction must be "mean", "sum" or "none", got ${reduction}`);
}

/** @throws unless the shapes are equal. Unlike torch, losses never broadcast: a mistake there trains the wrong thing. */
export function checkShapes(op: string, x: Tensor, y: Tensor): void {
  if (!sameShape(x.shape, y.shape))
    throw new Error(`${op}: shapes differ: ${show(x.shape)} and ${show(y.shape)}: expected equal shapes`);
}

/** Losses of elements as the reduction asks. */
export function reduced(losses: Tensor, { reduction = "mean" }: LossOptions): Tensor {
  if (reduction === "none") return losses;
  return reduction === "sum" ? losses.sum() : losses.mean();
}

/** Losses of rows; the mean divides by the sum of the rows' weights, and is 0 if that is. */
export function reducedBy(losses: Tensor, weights: Tensor, { reduction = "mean" }: LossOptions): Tensor {
  if (reduction !== "mean") return reduced(losses, { reduction });
  const total = weights.sum(undefined, true).to(losses.dtype); // keeps its dims: 0-d values are read back
  const mean = losses.sum(undefined, true).div(where(total.eq(0), 1, total));
  return mean.reshape([]);
}

export interface CrossEntropyOptions {
  /** f32 [C]: a factor of each class. Default 1. */
  weight?: Tensor;
  /** Targets of this class get no loss and no gradient. Default -100. */
  ignoreIndex?: number;
  /** In [0, 1]: the share of the target distribution that is spread evenly over all classes. Default 0. */
  labelSmoothing?: number;
  /**
   * Default `mean`: divides by the sum of the weights of the targets that are not ignored, and is 0 if there are none. With
   * probabilities as targets it divides by the number of rows.
   */
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

/** @throws unless the weight is [classes]. */
export function checkWeight(op: string, weight: Tensor | undefined, classes: number): void {
  if (weight && !sameShape(weight.shape, [classes]))
    throw new Error(`${op}: weight must be [${classes}], one factor a class, got ${show(weight.shape)}`);
}

/** Logits [C], [N, C] or [N, C, ...] as rows [R, C], and the shape of one value per row. */
export function rowsOf(op: string, x: Tensor): { rows: Tensor; C: number; shape: number[] } {
  if (x.ndim === 0) throw new Error(`${op}: expected [C], [N, C] or [N, C, ...], got a scalar`);
  const C = x.shape[x.ndim === 1 ? 0 : 1];
  const shape = x.ndim === 1 ? [] : [x.shape[0], ...x.shape.slice(2)];
  const rows = x.ndim === 1 ? x.reshape([1, C]) : x.ndim === 2 ? x : x.flatten(2).transpose(1, 2).reshape([-1, C]);
  return { rows, C, shape };
}

/**
 * Cross entropy of logits [N, C], [N, C, ...] or [C] against class indices i32 [N], [N, ...] or [], or against probabilities
 * in the shape of the logits. The result is [], or with reduction "none" has one value per row.
 * @throws if the shapes do not fit, or a target on the host is neither a class nor `ignoreIndex`.
 */
export function crossEntropy(logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  checkLoss("crossEntropy", options, ["weight", "ignoreIndex", "labelSmoothing"]);
  const { weight, ignoreIndex = -100, labelSmoothing = 0 } = options;
  const { rows, C, shape } = rowsOf("crossEntropy", logits);
  const soft = isFloat(target.dtype) && sameShape(target.shape, logits.shape);
  if (!soft && !sameShape(target.shape, shape)) {
    throw new Error(
      `crossEntropy: logits ${show(logits.shape)} ([N, C, ...]) do not fit target ${show(target.shape)} (expected ${show(shape)})`,
    );
  }
  checkWeight("crossEntropy", weight, C);
  const attrs = { ignoreIndex, labelSmoothing };
  if (soft) return softCrossEntropy(rows, rowsOf("crossEntropy", target).rows, shape, options);
  checkClasses("crossEntropy", target, C, attrs);
  const flat = target.reshape([-1]);
  if (weight) return weightedCrossEntropy(rows, flat, weight, shape, options);
  const losses = apply(crossEntropyOp, [rows, flat], attrs, flat.shape, logits.dtype);
  if (options.reduction === "none") return losses.reshape(shape);
  return reducedBy(losses, flat.ne(ignoreIndex), options);
}

/** Targets are probabilities [R, C]. */
function softCrossEntropy(
  rows: Tensor,
  target: Tensor,
  shape: readonly number[],
  options: CrossEntropyOptions,
): Tensor {
  const { weight, labelSmoothing = 0, reduction } = options;
  const C = rows.shape[1];
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new RangeError(`crossEntropy: labelSmoothing must be in [0, 1], got ${labelSmoothing}`);
  const wanted = labelSmoothing === 0 ? target : target.mul(1 - labelSmoothing).add(labelSmoothing / C);
  const terms = rows.logSoftmax(-1).mul(weight ? wanted.mul(weight) : wanted);
  return reduced(terms.sum(-1).neg().reshape(shape), { reduction });
}

/** The loss of a target, and the evenly spread part, are weighted by class. */
function weightedCrossEntropy(
  rows: Tensor,
  target: Tensor,
  weight: Tensor,
  shape: readonly number[],
  { ignoreIndex = -100, labelSmoothing = 0, reduction }: CrossEntropyOptions,
): Tensor {
  const kept = target.ne(ignoreIndex);
  const classes = where(kept, target, 0);
  const weights = where(kept, weight.indexSelect(0, classes), 0);
  const logits = rows.logSoftmax(-1);
  const chosen = logits.gather(-1, classes.unsqueeze(-1)).squeeze(-1).mul(weights);
  const even = where(kept, logits.mul(weight).mean(-1), 0);
  const losses =
    labelSmoothing === 0
      ? chosen.neg()
      : chosen
          .mul(1 - labelSmoothing)
          .add(even.mul(labelSmoothing))
          .neg();
  return reducedBy(losses.reshape(shape), weights, { reduction });
}

/** Mean squared error of two tensors of one shape -> []. Reduction "none" keeps the shape. Unlike torch, never broadcasts. */
export function mseLoss(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  checkLoss("mseLoss", options);
  checkShapes("mseLoss", x, target);
  return reduced(x.sub(target).square(), options);
}
