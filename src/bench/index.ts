/** For people who time and study kernels: the device, its measured peaks, fusion and variants on request, kernels without a GPU. */
import "../tensor/methods/index.ts";

export { type BenchmarkOptions, type BenchmarkRow, type BenchmarkTable, benchmark } from "../custom/benchmark.ts";
export { onReplay } from "../runtime/profile.ts";
export type { Roofline } from "../runtime/roofline.ts";
export { setFusion } from "../runtime/session.ts";
export type { TunedEntry } from "../runtime/tuner/tuner.ts";
export { adapterFamily, gpuDevice, measureRoofline, setChoices } from "./device.ts";
export { type KernelReport, kernelsOf, specializeKernel } from "./kernels.ts";
