import { checkOptions } from "../graph/options.ts";
import {
  type BinaryLogitOptions,
  type BinaryOptions,
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  type CrossEntropyOptions,
  type CtcOptions,
  cosineEmbeddingLoss,
  crossEntropy,
  ctcLoss,
  type GaussianOptions,
  gaussianNLLLoss,
  hingeEmbeddingLoss,
  huberLoss,
  type KlOptions,
  klDiv,
  type LossOptions,
  l1Loss,
  type MarginOptions,
  type MultilabelOptions,
  type MultiMarginOptions,
  marginRankingLoss,
  mseLoss,
  multilabelSoftMarginLoss,
  multiMarginLoss,
  type NllOptions,
  nllLoss,
  type PoissonOptions,
  poissonNLLLoss,
  smoothL1Loss,
  softMarginLoss,
  type TripletOptions,
  tripletMarginLoss,
} from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

// Losses as modules: the functions of the same names, with their options given once. Factors of classes or elements are
// buffers, as in torch.

/** Options that are buffers, by torch's name. */
const BUFFERS = { weight: "weight", posWeight: "pos_weight" } as const;

interface AnyOptions {
  reduction?: string;
  weight?: Tensor;
  posWeight?: Tensor;
}

abstract class Loss<Options extends AnyOptions> extends Module {
  /** "mean", "sum" or "none". */
  readonly reduction: string;
  readonly #options: Options;

  constructor(options: Options, known: readonly (keyof Options & string)[], reductions = ["mean", "sum", "none"]) {
    super();
    const layer = new.target.name;
    checkOptions(layer, options, ["reduction", ...known]);
    this.reduction = options.reduction ?? "mean";
    if (!reductions.includes(this.reduction))
      throw new RangeError(`${layer}: unknown reduction "${this.reduction}": expected ${reductions.join(", ")}`);
    this.#options = options;
    for (const [key, name] of Object.entries(BUFFERS) as [keyof typeof BUFFERS, string][])
      if (options[key]) this.registerBuffer(name, options[key]);
  }

  /** The options of the function. Buffers take the place of the tensors that were given. */
  protected get options(): Options {
    const fields = this as unknown as Record<string, Tensor>;
    const own = Object.entries(BUFFERS).filter(([key]) => this.#options[key as keyof Options]);
    return { ...this.#options, ...Object.fromEntries(own.map(([key, name]) => [key, fields[name]])) };
  }
}

/** Cross entropy of logits [N, C, ...] and classes i32 [N, ...], or probabilities in the shape of the logits. */
export class CrossEntropyLoss extends Loss<CrossEntropyOptions> {
  constructor(options: CrossEntropyOptions = {}) {
    super(options, ["weight", "ignoreIndex", "labelSmoothing"]);
  }

  forward(logits: Tensor, target: Tensor): Tensor {
    return crossEntropy(logits, target, this.options);
  }
}

/** -x at the class of each row, of log-probabilities x [N, C, ...] and classes i32 [N, ...]. */
export class NLLLoss extends Loss<NllOptions> {
  constructor(options: NllOptions = {}) {
    super(options, ["weight", "ignoreIndex"]);
  }

  forward(x: Tensor, target: Tensor): Tensor {
    return nllLoss(x, target, this.options);
  }
}

/** (x - y)². */
export class MSELoss extends Loss<LossOptions> {
  constructor(options: LossOptions = {}) {
    super(options, []);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return mseLoss(x, y, this.options);
  }
}

/** |x - y|. */
export class L1Loss extends Loss<LossOptions> {
  constructor(options: LossOptions = {}) {
    super(options, []);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return l1Loss(x, y, this.options);
  }
}

/** (x - y)² / (2 beta) for differences below beta (default 1), else |x - y| - beta / 2. */
export class SmoothL1Loss extends Loss<LossOptions & { beta?: number }> {
  constructor(options: LossOptions & { beta?: number } = {}) {
    super(options, ["beta"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return smoothL1Loss(x, y, this.options);
  }
}

/** (x - y)² / 2 for differences up to delta (default 1), else delta (|x - y| - delta / 2). */
export class HuberLoss extends Loss<LossOptions & { delta?: number }> {
  constructor(options: LossOptions & { delta?: number } = {}) {
    super(options, ["delta"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return huberLoss(x, y, this.options);
  }
}

/** Binary cross entropy of probabilities x and labels y in [0, 1]. */
export class BCELoss extends Loss<BinaryOptions> {
  constructor(options: BinaryOptions = {}) {
    super(options, ["weight"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return binaryCrossEntropy(x, y, this.options);
  }
}

/** Binary cross entropy of logits x and labels y in [0, 1], without overflow. */
export class BCEWithLogitsLoss extends Loss<BinaryLogitOptions> {
  constructor(options: BinaryLogitOptions = {}) {
    super(options, ["weight", "posWeight"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return binaryCrossEntropyWithLogits(x, y, this.options);
  }
}

/** y (log(y) - x), of log-probabilities x and probabilities y; "batchmean" gives the divergence. */
export class KLDivLoss extends Loss<KlOptions> {
  constructor(options: KlOptions = {}) {
    super(options, ["logTarget"], ["mean", "batchmean", "sum", "none"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return klDiv(x, y, this.options);
  }
}

/** 1 - cos(a, b) where y is 1, max(0, cos(a, b) - margin) where y is -1. */
export class CosineEmbeddingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options, ["margin"]);
  }

  forward(a: Tensor, b: Tensor, y: Tensor): Tensor {
    return cosineEmbeddingLoss(a, b, y, this.options);
  }
}

/** max(0, -y (a - b) + margin), for y of 1 or -1. */
export class MarginRankingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options, ["margin"]);
  }

  forward(a: Tensor, b: Tensor, y: Tensor): Tensor {
    return marginRankingLoss(a, b, y, this.options);
  }
}

/** x where y is 1, max(0, margin - x) where y is -1. */
export class HingeEmbeddingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options, ["margin"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return hingeEmbeddingLoss(x, y, this.options);
  }
}

/** max(0, d(anchor, positive) - d(anchor, negative) + margin), with distances over the last dim. */
export class TripletMarginLoss extends Loss<TripletOptions> {
  constructor(options: TripletOptions = {}) {
    super(options, ["margin", "p", "eps", "swap"]);
  }

  forward(anchor: Tensor, positive: Tensor, negative: Tensor): Tensor {
    return tripletMarginLoss(anchor, positive, negative, this.options);
  }
}

/** log(1 + exp(-y x)), for y of 1 or -1. */
export class SoftMarginLoss extends Loss<LossOptions> {
  constructor(options: LossOptions = {}) {
    super(options, []);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return softMarginLoss(x, y, this.options);
  }
}

/** Hinge loss of [N, C] and classes i32 [N]. */
export class MultiMarginLoss extends Loss<MultiMarginOptions> {
  constructor(options: MultiMarginOptions = {}) {
    super(options, ["p", "margin", "weight"]);
  }

  forward(x: Tensor, target: Tensor): Tensor {
    return multiMarginLoss(x, target, this.options);
  }
}

/** Mean over the classes of the binary cross entropy of logits x and labels y: [N, C]. */
export class MultiLabelSoftMarginLoss extends Loss<MultilabelOptions> {
  constructor(options: MultilabelOptions = {}) {
    super(options, ["weight"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return multilabelSoftMarginLoss(x, y, this.options);
  }
}

/** exp(x) - y x, the Poisson loss of log-rates x; with logInput false x - y log(x + eps). */
export class PoissonNLLLoss extends Loss<PoissonOptions> {
  constructor(options: PoissonOptions = {}) {
    super(options, ["logInput", "full", "eps"]);
  }

  forward(x: Tensor, y: Tensor): Tensor {
    return poissonNLLLoss(x, y, this.options);
  }
}

/** (log v + (x - y)² / v) / 2 for variances v. */
export class GaussianNLLLoss extends Loss<GaussianOptions> {
  constructor(options: GaussianOptions = {}) {
    super(options, ["full", "eps"]);
  }

  forward(x: Tensor, y: Tensor, variance: Tensor): Tensor {
    return gaussianNLLLoss(x, y, variance, this.options);
  }
}

/** Connectionist temporal classification of log-probabilities [T, N, C] (Graves et al. 2006), as the function `ctcLoss`. */
export class CTCLoss extends Loss<CtcOptions> {
  constructor(options: CtcOptions = {}) {
    super(options, ["blank", "zeroInfinity"]);
  }

  forward(
    logProbs: Tensor,
    targets: Tensor,
    inputLengths: Tensor | readonly number[],
    targetLengths: Tensor | readonly number[],
  ): Tensor {
    return ctcLoss(logProbs, targets, inputLengths, targetLengths, this.options);
  }
}
