import "../tensor/methods/index.ts";

export { ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential } from "./containers.ts";
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
  type Activation,
  activation,
  Conv2d,
  type Conv2dOptions,
  Dropout,
  Embedding,
  FrozenBatchNorm2d,
  LayerNorm,
  Linear,
  RMSNorm,
} from "./layers.ts";
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
export { AdamW, type AdamWOptions, SGD, type SGDOptions } from "./optim.ts";
export {
  clipGradNorm,
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
export { LossScaler, type LossScalerOptions } from "./scaler.ts";
export { constantSchedule, cosineSchedule, linearSchedule, type Schedule, type ScheduleOptions } from "./schedule.ts";
