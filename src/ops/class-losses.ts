import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { suffix } from "./constant.ts";
import { float, row, where } from "./elementwise.ts";
import {
  checkClasses,
  checkLoss,
  checkShapes,
  checkWeight,
  type LossOptions,
  type Reduction,
  reduced,
  reducedBy,
  rowsOf,
} from "./loss.ts";
import { softplusWgsl } from "./math.ts";
import { positionsAlong } from "./reduce.ts";
import * as wgsl from "./wgsl.ts";

// Losses of classes: one of several, or each true or false. All give [] unless the reduction is "none".

export interface NllOptions {
  /** f32 [C]: a factor of each class. Default 1. */
  weight?: Tensor;
  /** Targets of this class get no loss and no gradient. Default -100. */
  ignoreIndex?: number;
  /** Default "mean": divides by the sum of the weights of the targets that are not ignored, and is 0 if there are none. */
  reduction?: Reduction;
}
/** -x[target] of log-probabilities x [N, C], [N, C, ...] or [C] and class indices i32 [N], [N, ...] or []. */
export function nllLoss(x: Tensor, target: Tensor, options: NllOptions = {}): Tensor {
  checkLoss("nllLoss", options, ["weight", "ignoreIndex"]);
  const { weight, ignoreIndex = -100 } = options;
  const { rows, C, shape } = rowsOf("nllLoss", x);
  if (target.shape.join() !== shape.join())
    throw new Error(`nllLoss: x ${show(x.shape)} does not fit target ${show(target.shape)} (expected ${show(shape)})`);
  checkWeight("nllLoss", weight, C);
  checkClasses("nllLoss", target, C, { ignoreIndex, labelSmoothing: 0 });
  const flat = target.reshape([-1]);
  const kept = flat.ne(ignoreIndex);
  const classes = where(kept, flat, 0);
  const weights = where(kept, weight ? weight.indexSelect(0, classes) : 1, 0).to(x.dtype);
  const losses = rows.gather(-1, classes.unsqueeze(-1)).squeeze(-1).neg();
  return reducedBy(where(kept, losses.mul(weights), 0).reshape(shape), weights, options);
}

export interface MultiMarginOptions extends LossOptions {
  /** Power of the differences: 1 (default) or 2. */
  p?: 1 | 2;
  /** Default 1. */
  margin?: number;
  /** f32 [C]: a factor of each target class. Default 1. */
  weight?: Tensor;
}
/** Σ over j other than the target of max(0, margin - x[target] + x[j])^p / C, for scores x [N, C] or [C]. */
export function multiMarginLoss(x: Tensor, target: Tensor, options: MultiMarginOptions = {}): Tensor {
  checkLoss("multiMarginLoss", options, ["p", "margin", "weight"]);
  const { p = 1, margin = 1, weight } = options;
  if (p !== 1 && p !== 2) throw new RangeError(`multiMarginLoss: p must be 1 or 2, got ${p}`);
  const { rows, C, shape } = rowsOf("multiMarginLoss", x);
  if (x.ndim > 2 || target.shape.join() !== shape.join())
    throw new Error(
      `multiMarginLoss: x [N, C] and target [N] expected, got ${show(x.shape)} and ${show(target.shape)}`,
    );
  checkWeight("multiMarginLoss", weight, C);
  checkClasses("multiMarginLoss", target, C, { ignoreIndex: NaN, labelSmoothing: 0 });
  const classes = target.reshape([-1, 1]);
  const z = rows.sub(rows.gather(-1, classes)).add(margin);
  const others = positionsAlong(1, C, 2).ne(classes).logicalAnd(z.gt(0));
  const terms = where(others, p === 2 ? z.square() : z, 0);
  const losses = terms.sum(-1).mul(1 / C);
  const weighted = weight ? losses.mul(weight.indexSelect(0, target.reshape([-1]))) : losses;
  return reduced(weighted.reshape(shape), options);
}

/** -(y log x + (1 - y) log(1 - x)), with logarithms of -100 at least. */
const binaryEntropy = row({
  name: "binary_cross_entropy",
  rule: float,
  wgsl: ([x, y], _, type) => `binary_entropy_${suffix(type)}(${x}, ${y})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.logarithm(type),
      wgsl.logOnePlus(type),
      `fn binary_entropy_${s}(x: ${type}, y: ${type}) -> ${type} {
  let least = ${type}(-100.0);
  let a = logarithm_${s}(x);
  let b = log_one_plus_${s}(-x);
  return -(y * select(a, least, a < least) + (1.0 - y) * select(b, least, b < least));
}`,
    ];
  },
  js: (x, y) => -(y * Math.max(Math.log(x), -100) + (1 - y) * Math.max(Math.log1p(-x), -100)),
  vjp: (g, _y, [x, y]) => {
    const slope = x.sub(y).div(x.neg().add(1).mul(x).clamp({ min: 1e-12 }));
    const least = (t: Tensor): Tensor => t.clamp({ min: -100 });
    const other = y.requiresGrad ? g.mul(least(x.neg().log1p()).sub(least(x.log()))) : null;
    return [g.mul(slope), other];
  },
  cost: 40,
});

export interface BinaryOptions extends LossOptions {
  /** A factor of each loss; broadcasts. The mean divides by the number of elements all the same. */
  weight?: Tensor;
}
const weigh = (losses: Tensor, weight: Tensor | undefined): Tensor => (weight ? losses.mul(weight) : losses);

/** -(y log x + (1 - y) log(1 - x)) of probabilities x and targets y, both in [0, 1]. Outside the result is NaN. */
export function binaryCrossEntropy(x: Tensor, y: Tensor, options: BinaryOptions = {}): Tensor {
  checkLoss("binaryCrossEntropy", options, ["weight"]);
  checkShapes("binaryCrossEntropy", x, y);
  return reduced(weigh(binaryEntropy(x, y), options.weight), options);
}

/** max(x, 0) - x y + log(1 + e^-|x|) */
const logitEntropy = row({
  name: "logit_cross_entropy",
  rule: float,
  wgsl: ([x, y], _, type) => `(max(${x}, ${type}()) - ${x} * ${y} + softplus_${type}(-abs(${x})))`,
  helpers: softplusWgsl,
  js: (x, y) => Math.max(x, 0) - x * y + Math.log1p(Math.exp(-Math.abs(x))),
  vjp: (g, _y, [x, y]) => [g.mul(x.sigmoid().sub(y)), g.mul(x).neg()],
  cost: 24,
});

export interface BinaryLogitOptions extends BinaryOptions {
  /** A factor of the loss of y = 1; broadcasts, [C] for classes in the last dim. */
  posWeight?: Tensor;
}
/** binaryCrossEntropy(sigmoid(x), y) of logits x, without overflow or loss of digits. */
export function binaryCrossEntropyWithLogits(x: Tensor, y: Tensor, options: BinaryLogitOptions = {}): Tensor {
  checkLoss("binaryCrossEntropyWithLogits", options, ["weight", "posWeight"]);
  checkShapes("binaryCrossEntropyWithLogits", x, y);
  const { weight, posWeight } = options;
  if (!posWeight) return reduced(weigh(logitEntropy(x, y), weight), options);
  const positive = posWeight.sub(1).mul(y).add(1);
  return reduced(weigh(y.neg().add(1).mul(x).add(positive.mul(x.neg().softplus())), weight), options);
}

/** log(1 + e^(-y x)), y -1 or 1. */
export function softMarginLoss(x: Tensor, y: Tensor, options: LossOptions = {}): Tensor {
  checkLoss("softMarginLoss", options);
  checkShapes("softMarginLoss", x, y);
  return reduced(y.mul(x).neg().softplus(), options);
}

export interface MultilabelOptions extends LossOptions {
  /** f32 [C]: a factor of each class. Default 1. */
  weight?: Tensor;
}
/** Mean over the classes (the last dim) of the binary cross entropy of logits x and labels y in [0, 1]: [N, C] -> [N]. */
export function multilabelSoftMarginLoss(x: Tensor, y: Tensor, options: MultilabelOptions = {}): Tensor {
  checkLoss("multilabelSoftMarginLoss", options, ["weight"]);
  checkShapes("multilabelSoftMarginLoss", x, y);
  if (x.ndim === 0) throw new Error("multilabelSoftMarginLoss: expected [N, C] or [C], got a scalar");
  return reduced(weigh(logitEntropy(x, y), options.weight).mean(-1), options);
}
