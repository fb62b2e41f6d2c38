import * as sg from "../../../src/index.ts";
import { type Call, options } from "./call.ts";

export const losses: Record<string, Call> = {
  binary_cross_entropy: ({ x, y, weight }, attrs) => sg.binaryCrossEntropy(x, y, { weight, ...options(attrs) }),
  binary_cross_entropy_with_logits: ({ x, y, weight, pos_weight }, attrs) =>
    sg.binaryCrossEntropyWithLogits(x, y, { weight, posWeight: pos_weight, ...options(attrs) }),
  cosine_embedding_loss: ({ a, b, y }, attrs) => sg.cosineEmbeddingLoss(a, b, y, options(attrs)),
  ctc_loss: ({ x, target, input_lengths, target_lengths }, attrs) =>
    sg.ctcLoss(x.logSoftmax(-1), target, input_lengths, target_lengths, options(attrs)),
  gaussian_nll_loss: (x, attrs) => sg.gaussianNLLLoss(x.x, x.y, x.var, options(attrs)),
  hinge_embedding_loss: ({ x, y }, attrs) => sg.hingeEmbeddingLoss(x, y, options(attrs)),
  huber_loss: ({ x, y }, attrs) => sg.huberLoss(x, y, options(attrs)),
  kl_div: ({ x, target }, attrs) => sg.klDiv(x, target, options(attrs)),
  l1_loss: ({ x, y }, attrs) => sg.l1Loss(x, y, options(attrs)),
  margin_ranking_loss: ({ a, b, y }, attrs) => sg.marginRankingLoss(a, b, y, options(attrs)),
  multi_margin_loss: ({ x, target }, attrs) => sg.multiMarginLoss(x, target, options(attrs)),
  multilabel_soft_margin_loss: ({ x, y }, attrs) => sg.multilabelSoftMarginLoss(x, y, options(attrs)),
  nll_loss: ({ x, target, weight }, attrs) => sg.nllLoss(x, target, { weight, ...options(attrs) }),
  poisson_nll_loss: ({ x, y }, attrs) => sg.poissonNLLLoss(x, y, options(attrs)),
  smooth_l1_loss: ({ x, y }, attrs) => sg.smoothL1Loss(x, y, options(attrs)),
  soft_margin_loss: ({ x, y }, attrs) => sg.softMarginLoss(x, y, options(attrs)),
  triplet_margin_loss: ({ anchor, positive, negative }, attrs) =>
    sg.tripletMarginLoss(anchor, positive, negative, options(attrs)),
};
