import "../tensor/methods/index.ts";

export {
  type Activation,
  activation,
  GELU,
  LogSoftmax,
  ReLU,
  Sigmoid,
  SiLU,
  Softmax,
  Tanh,
} from "./activation.ts";
export {
  Adadelta,
  type AdadeltaOptions,
  Adagrad,
  type AdagradOptions,
  Adam,
  Adamax,
  type AdamOptions,
  type AdaptiveOptions,
  Lion,
  type LionOptions,
  type MomentOptions,
  NAdam,
  type NAdamOptions,
  RAdam,
  RMSprop,
  type RMSpropOptions,
  Rprop,
  type RpropOptions,
} from "./adaptive.ts";
export { type AttendOptions, MultiheadAttention, type MultiheadAttentionOptions } from "./attention.ts";
export { ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential } from "./containers.ts";
export { Conv2d, type Conv2dOptions } from "./convolution.ts";
export { EMA } from "./ema.ts";
export { Embedding, EmbeddingBag } from "./embedding.ts";
export {
  calculateGain,
  constant,
  dirac,
  eye,
  type FanOptions,
  type GainName,
  kaimingNormal,
  kaimingUniform,
  normal,
  ones,
  orthogonal,
  truncatedNormal,
  uniform,
  withoutInit,
  xavierNormal,
  xavierUniform,
  zeros,
} from "./init.ts";
export {
  Bilinear,
  Dropout,
  Dropout1d,
  Dropout2d,
  Dropout3d,
  Flatten,
  Identity,
  Linear,
  Unflatten,
} from "./layers.ts";
export { LBFGS, type LBFGSOptions } from "./lbfgs.ts";
export {
  adaptableLayers,
  adaptedLayers,
  adapterNames,
  addAdapter,
  addLoRA,
  DEFAULT_ADAPTER,
  deleteAdapter,
  LoRA,
  type LoRAHost,
  LoRALayer,
  type LoRAOptions,
  loraStateDict,
  mergeLoRA,
  setAdapter,
  unmergeLoRA,
} from "./lora.ts";
export {
  type ForwardArgs,
  type ForwardHook,
  type ForwardOutput,
  type ForwardPreHook,
  type HookHandle,
  type Layer,
  Module,
  type StateDict,
  type StateDifference,
} from "./module.ts";
export { Muon, type MuonOptions } from "./muon.ts";
export {
  FrozenBatchNorm2d,
  GroupNorm,
  LayerNorm,
  type LayerNormOptions,
  RMSNorm,
} from "./norm.ts";
export { AdamW, type AdamWOptions, SGD, type SGDOptions } from "./optim.ts";
export {
  clipGradNorm,
  clipGradValue,
  decayMatrices,
  Optimizer,
  type OptimizerOptions,
  type ParameterGroup,
} from "./optimizer.ts";
export { loadParameter, parameter, setParameter } from "./parameter.ts";
export {
  dequantize,
  type QuantFormat,
  QuantizedLinear,
  QuantizedWeight,
  type QuantOptions,
  quantize,
  quantizedLinear,
  quantizeLinears,
} from "./quantized.ts";
export {
  GRU,
  GRUCell,
  LSTM,
  LSTMCell,
  type LSTMOptions,
  type RecurrentOptions,
  RNN,
  RNNCell,
  type RNNOptions,
} from "./recurrent.ts";
export { LossScaler, type LossScalerOptions } from "./scaler.ts";
export {
  type CyclicOptions,
  chainedSchedule,
  constantSchedule,
  cosineRestarts,
  cosineSchedule,
  cyclicSchedule,
  exponentialSchedule,
  lambdaSchedule,
  linearSchedule,
  multiplicativeSchedule,
  multiStepSchedule,
  type OneCycleOptions,
  oneCycleMomentum,
  oneCycleSchedule,
  type PlateauOptions,
  type PlateauSchedule,
  type PlateauState,
  polynomialSchedule,
  rampSchedule,
  reducedSchedule,
  reduceOnPlateau,
  type Schedule,
  type ScheduleOptions,
  sequentialSchedule,
  stepSchedule,
} from "./schedule.ts";
export {
  type DecoderMasks,
  type EncoderMasks,
  Transformer,
  TransformerDecoder,
  TransformerDecoderLayer,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerLayerOptions,
  type TransformerMasks,
  type TransformerOptions,
} from "./transformer.ts";
