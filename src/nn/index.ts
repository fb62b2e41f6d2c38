import "../tensor/methods/index.ts";

export { constant, loadParameter, normal, setParameter, truncatedNormal, uniform, withoutInit } from "./init.ts";
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
export { type ForwardHook, type Layer, Module, Sequential, type StateDict } from "./module.ts";
export { AdamW, type AdamWOptions, SGD, type SGDOptions } from "./optim.ts";
export {
  clipGradNorm,
  decayMatrices,
  Optimizer,
  type OptimizerOptions,
  type ParameterGroup,
} from "./optimizer.ts";
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
