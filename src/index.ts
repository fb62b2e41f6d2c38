/** The core of the public API. Layers and optimizers: shadegrad/nn; models: shadegrad/models; files: shadegrad/io. */
import "./tensor/methods/index.ts";

export type { PlanReport } from "./compile/compile.ts";
export { untracked as lazily } from "./graph/build.ts";
export type { DeviceInfo } from "./graph/device-info.ts";
export type { DType, HostArray } from "./graph/dtype.ts";
export { restoreGenerator as setRngState, saveGenerator as getRngState } from "./graph/generator.ts";
export type { Shape } from "./graph/shape.ts";
export * from "./ops/functional.ts";
export type { InitOptions } from "./runtime/device.ts";
export { init, synchronize } from "./runtime/engine.ts";
export { type KernelTime, onKernelTimes } from "./runtime/profile.ts";
export { type EngineOptions, setMemoryBudget } from "./runtime/session.ts";
export { type MemoryStats, memoryStats } from "./runtime/statistics.ts";
export type { Trace, TraceEvent } from "./runtime/trace.ts";
export { trace } from "./runtime/trace-work.ts";
export { tune } from "./runtime/tune.ts";
export type { TuneResult } from "./runtime/tuner/tuner.ts";
export { assign, detectAnomaly, explain, flush, plan } from "./tensor/engine.ts";
export type { FormatOptions } from "./tensor/format.ts";
export { Tensor } from "./tensor/tensor.ts";
