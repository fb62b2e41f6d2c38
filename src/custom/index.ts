/** Ops of your own, from outside the package: elementwise ops, WGSL kernels, differentiable functions, lowerings. */
import "../tensor/methods/index.ts";

export { floatBits as f32Bits } from "../graph/dtype.ts";
export type { Arguments, Attributes } from "./attributes.ts";
export { type BenchmarkOptions, type BenchmarkRow, type BenchmarkTable, benchmark } from "./benchmark.ts";
export type { Gradients } from "./definition.ts";
export type { Dispatch, KernelBuffer, KernelContext, PlanDispatches } from "./dispatch.ts";
export { defineElementwise, type ElementwiseDefinition, type ElementwiseOp } from "./elementwise.ts";
export { type DifferentiableFunction, defineFunction, type FunctionDefinition } from "./function.ts";
export {
  defineKernel,
  defineLowering,
  type KernelDefinition,
  type KernelOp,
  type LoweringDefinition,
} from "./kernel.ts";
export type { Wgsl } from "./wgsl-file.ts";
