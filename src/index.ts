/** The whole public surface of the core. Layers and optimisers: shadegrad/nn; models: shadegrad/models; files: shadegrad/io. */
export type { PlanReport } from "./compile/build.ts";
export type { DType, HostArray } from "./dtype.ts";
export { assign, explain, flush, init, memoryStats, plan, synchronize } from "./engine.ts";
export * from "./functional.ts";
export { type KernelTime, onKernelTimes } from "./runtime/debug.ts";
export type { DeviceInfo, InitOptions } from "./runtime/device.ts";
export type { Trace, TraceEvent } from "./runtime/trace.ts";
export type { TuneResult } from "./runtime/tune.ts";
export type { Shape } from "./shape.ts";
export { Tensor } from "./tensor.ts";
export { trace, tune } from "./tools.ts";
