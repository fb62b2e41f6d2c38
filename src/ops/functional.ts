import type { Tensor } from "../tensor/tensor.ts";
import { where as select } from "./elementwise.ts";

// The free functions of the public API. Each comes from the file of its op.
export { manualSeed } from "../graph/generator.ts";
export { enableGrad, isGradEnabled, noGrad, setGradEnabled } from "../graph/recording.ts";
export { checkpoint, type GradientHook, type GradOptions, grad } from "../tensor/autograd.ts";
export { type DerivativeOptions, hessian, hvp, jacobian, jvp, vjp } from "../tensor/derivatives.ts";
export {
  celu,
  elu,
  type GumbelOptions,
  gelu,
  glu,
  gumbelSoftmax,
  hardshrink,
  hardsigmoid,
  hardswish,
  hardtanh,
  leakyRelu,
  logSoftmax,
  logsigmoid,
  mish,
  prelu,
  relu,
  relu6,
  type SoftplusOptions,
  selu,
  sigmoid,
  silu,
  softmax,
  softmin,
  softplus,
  softshrink,
  softsign,
  tanh,
  tanhshrink,
  threshold,
} from "./activation.ts";
export {
  type AtIndex,
  argwhere,
  at,
  atSet,
  indexPut,
  maskedScatter,
  maskedSelect,
  nonzero,
  type PutOptions,
} from "./at.ts";
export { scaledDotProductAttention } from "./attention.ts";
export {
  type BinaryLogitOptions,
  type BinaryOptions,
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  type MultilabelOptions,
  type MultiMarginOptions,
  multilabelSoftMarginLoss,
  multiMarginLoss,
  type NllOptions,
  nllLoss,
  softMarginLoss,
} from "./class-losses.ts";
export {
  type ConvOptions,
  type ConvTransposeOptions,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
} from "./conv.ts";
export {
  arange,
  eye,
  full,
  fullLike,
  linspace,
  logspace,
  ones,
  onesLike,
  type Sizes,
  tril,
  triu,
  zeros,
  zerosLike,
} from "./creation.ts";
export { type CtcOptions, ctcLoss } from "./ctc.ts";
export { type DiagonalOptions, diag, diagEmbed, diagonal, trilIndices, triuIndices } from "./diagonal.ts";
export { cdist, cosineSimilarity, normalize, pairwiseDistance } from "./distance.ts";
export { bernoulli, multinomial, normal, randint, randLike, randnLike, randperm } from "./draw.ts";
export {
  alphaDropout,
  type DropoutOptions,
  dropout1d,
  dropout2d,
  dropout3d,
  featureAlphaDropout,
} from "./dropout.ts";
export { einsum } from "./einsum.ts";
export { type EmbeddingBagOptions, type EmbeddingOptions, embedding, embeddingBag } from "./embedding.ts";
export { fold, unfold, type WindowOptions } from "./fold.ts";
export { affineGrid, type GridSampleOptions, gridSample } from "./grid-sample.ts";
export { type InterpolateOptions, interpolate } from "./interpolate.ts";
export { tensor } from "./leaf.ts";
export {
  addbmm,
  addmm,
  addmv,
  addr,
  baddbmm,
  bilinear,
  bmm,
  cholesky,
  cross,
  det,
  dot,
  eigh,
  eigvalsh,
  inner,
  inverse,
  kron,
  matrixPower,
  mm,
  mv,
  outer,
  pinv,
  qr,
  type Scales,
  type Svd,
  slogdet,
  solve,
  solveTriangular,
  svd,
  svdvals,
  tensordot,
  trace,
} from "./linalg.ts";
export { linearCrossEntropy } from "./linear-loss.ts";
export { type CrossEntropyOptions, crossEntropy, type LossOptions, mseLoss, type Reduction } from "./loss.ts";
export {
  cosineEmbeddingLoss,
  hingeEmbeddingLoss,
  type MarginOptions,
  marginRankingLoss,
  type TripletOptions,
  tripletMarginLoss,
} from "./margin-losses.ts";
export { linear, matmul } from "./matmul.ts";
export { cat, stack } from "./movement.ts";
export { isfinite, isinf, isnan } from "./nonfinite.ts";
export {
  type BatchNormOptions,
  batchNorm,
  groupNorm,
  type InstanceNormOptions,
  instanceNorm,
  layerNorm,
  type Normalized,
  rmsNorm,
} from "./norm.ts";
export type { QuantileOptions } from "./order.ts";
export { type PadOptions, pad } from "./pad.ts";
export { pixelShuffle, pixelUnshuffle } from "./pixel-shuffle.ts";
export {
  type AdaptiveSize,
  type AvgPoolOptions,
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveAvgPool3d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  adaptiveMaxPool3d,
  avgPool1d,
  avgPool2d,
  avgPool3d,
  type MaxPoolOptions,
  maxPool1d,
  maxPool2d,
  maxPool3d,
  type Pooled,
} from "./pool.ts";
export { dropout, rand, randn } from "./random.ts";
export {
  type GaussianOptions,
  gaussianNLLLoss,
  huberLoss,
  type KlOptions,
  klDiv,
  l1Loss,
  type PoissonOptions,
  poissonNLLLoss,
  smoothL1Loss,
} from "./regression-losses.ts";
export { repeatInterleave } from "./repeat-interleave.ts";
export { applyRope, rope } from "./rope.ts";
export { sample } from "./sample.ts";
export {
  indexCopy,
  indexFill,
  oneHot,
  type ScatterReduction,
  scatter,
  scatterReduce,
  take,
  takeAlongDim,
} from "./scatter.ts";
export {
  diff,
  dstack,
  fliplr,
  flipud,
  hstack,
  meshgrid,
  movedim,
  repeat,
  roll,
  rot90,
  tensorSplit,
  tile,
  unbind,
  unflatten,
  vstack,
} from "./shape.ts";
export { type SearchOptions, type SortOptions, searchsorted } from "./sort.ts";
export type { NormOptions, VarianceOptions } from "./statistics.ts";
export type { TopkOptions } from "./topk.ts";
export type { BincountOptions, Unique, UniqueOptions } from "./unique.ts";
export type { Spatial } from "./windows.ts";
export { writeAt } from "./write.ts";

/**
 * a where cond, else b. All three broadcast. Two numbers give i32 if both are whole and fit, else f32. So do a boolean tensor
 * and a number.
 * @example where(x.gt(0), x, 0)
 */
export const where = (cond: Tensor, a: Tensor | number, b: Tensor | number): Tensor => select(cond, a, b);
