import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { cosineSimilarity, pairwiseDistance } from "./distance.ts";
import { where } from "./elementwise.ts";
import { checkLoss, checkShapes, type LossOptions, reduced } from "./loss.ts";

// Losses of pairs and triplets, which are 0 beyond a margin. All give [] unless the reduction is "none".

export interface MarginOptions extends LossOptions {
  margin?: number;
}
/** max(x, 0), with slope 1 at 0 as torch's losses have it. */
const positive = (x: Tensor): Tensor => x.clamp({ min: 0 });

/** max(0, margin - y (a - b)), y 1 where a should be larger, else -1. Default margin 0. */
export function marginRankingLoss(a: Tensor, b: Tensor, y: Tensor, options: MarginOptions = {}): Tensor {
  checkLoss("marginRankingLoss", options, ["margin"]);
  checkShapes("marginRankingLoss", a, b);
  checkShapes("marginRankingLoss", a, y);
  return reduced(
    positive(
      y
        .neg()
        .mul(a.sub(b))
        .add(options.margin ?? 0),
    ),
    options,
  );
}

/** x where y is 1, max(0, margin - x) where y is -1. Default margin 1. */
export function hingeEmbeddingLoss(x: Tensor, y: Tensor, options: MarginOptions = {}): Tensor {
  checkLoss("hingeEmbeddingLoss", options, ["margin"]);
  checkShapes("hingeEmbeddingLoss", x, y);
  return reduced(where(y.eq(1), x, positive(x.neg().add(options.margin ?? 1))), options);
}

/** 1 - cos(a, b) where y is 1, max(0, cos(a, b) - margin) where y is -1, for a and b [N, D], y [N]. Default margin 0. */
export function cosineEmbeddingLoss(a: Tensor, b: Tensor, y: Tensor, options: MarginOptions = {}): Tensor {
  checkLoss("cosineEmbeddingLoss", options, ["margin"]);
  checkShapes("cosineEmbeddingLoss", a, b);
  if (a.ndim < 1 || y.shape.join() !== a.shape.slice(0, -1).join())
    throw new Error(
      `cosineEmbeddingLoss: y ${show(y.shape)} for ${show(a.shape)}: expected ${show(a.shape.slice(0, -1))}`,
    );
  const cosine = cosineSimilarity(a, b, { dim: -1 });
  return reduced(where(y.eq(1), cosine.neg().add(1), positive(cosine.sub(options.margin ?? 0))), options);
}

export interface TripletOptions extends MarginOptions {
  /** Order of the norm. Default 2. */
  p?: number;
  /** Added to differences. Default 1e-6. */
  eps?: number;
  /** Takes the smaller of the distances from anchor and positive to negative. Default false. */
  swap?: boolean;
}
/** max(0, d(anchor, positive) - d(anchor, negative) + margin) for [N, D] or [D]. Default margin 1. */
export function tripletMarginLoss(anchor: Tensor, pos: Tensor, negative: Tensor, options: TripletOptions = {}): Tensor {
  checkLoss("tripletMarginLoss", options, ["margin", "p", "eps", "swap"]);
  checkShapes("tripletMarginLoss", anchor, pos);
  checkShapes("tripletMarginLoss", anchor, negative);
  const { margin = 1, p = 2, eps = 1e-6, swap = false } = options;
  const distance = (a: Tensor, b: Tensor): Tensor => pairwiseDistance(a, b, { p, eps });
  const far = distance(anchor, negative);
  const least = swap ? far.minimum(distance(pos, negative)) : far;
  return reduced(positive(distance(anchor, pos).sub(least).add(margin)), options);
}
