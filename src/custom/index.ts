/** Ops of your own, from outside the package: elementwise ops, WGSL kernels, differentiable functions, lowerings. */
export { floatBits as f32Bits } from "../graph/dtype.ts";
export { type BenchmarkOptions, type BenchmarkRow, type BenchmarkTable, benchmark } from "./benchmark.ts";
export type { Attributes, Gradients } from "./definition.ts";
export { defineElementwise, type ElementwiseDefinition, type ElementwiseOp } from "./elementwise.ts";
export { type DifferentiableFunction, defineFunction, type FunctionDefinition } from "./function.ts";
export {
  type Dispatch,
  defineKernel,
  defineLowering,
  type KernelBuffer,
  type KernelContext,
  type KernelDefinition,
  type KernelOp,
  type LoweringDefinition,
} from "./kernel.ts";
