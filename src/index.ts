/** The whole public surface of the core. Layers and optimisers: shadegrad/nn; models: shadegrad/models; files: shadegrad/io. */
export type { PlanReport } from "./compile/compile.ts";
export * from "./functional.ts";
export type { DType, HostArray } from "./graph/dtype.ts";
export type { Shape } from "./graph/shape.ts";
export { restoreGenerator as setRngState, saveGenerator as getRngState } from "./ops/random.ts";
export type { DeviceInfo, InitOptions } from "./runtime/device.ts";
export { assign, explain, flush, init, memoryStats, setMemoryBudget, synchronize } from "./runtime/engine.ts";
export { type KernelTime, onKernelTimes } from "./runtime/profile.ts";
export { plan, trace, tune } from "./runtime/tools.ts";
export type { Trace, TraceEvent } from "./runtime/trace.ts";
export type { TuneResult } from "./runtime/tuner/tuner.ts";
export { Tensor, untracked as lazily } from "./tensor/tensor.ts";
