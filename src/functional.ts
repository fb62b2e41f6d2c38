import { checkValue, type DType, holds } from "./graph/dtype.ts";
import type { Shape } from "./graph/shape.ts";
import { full as constant, iotaOp } from "./ops/constant.ts";
import { where as select } from "./ops/elementwise.ts";
import { checkShape } from "./ops/leaf.ts";
import { positionsAlong } from "./ops/reduce.ts";
import { apply, type Tensor } from "./tensor/tensor.ts";

export { adamw, adamwInt8, STATE_BLOCK } from "./ops/adamw.ts";
export { scaledDotProductAttention } from "./ops/attention.ts";
export { adaptiveAvgPool2d, avgPool2d, conv2d, interpolate, maxPool2d } from "./ops/conv.ts";
export { embedding } from "./ops/indexing.ts";
export { tensor } from "./ops/leaf.ts";
export { linearCrossEntropy } from "./ops/linear-loss.ts";
export { crossEntropy, mseLoss } from "./ops/loss.ts";
export { linear, matmul } from "./ops/matmul.ts";
export { cat, stack } from "./ops/movement.ts";
export { groupNorm, layerNorm, rmsNorm } from "./ops/norm.ts";
export { pack, packOffsets } from "./ops/pack.ts";
export { dropout, manualSeed, rand, randn } from "./ops/random.ts";
export { applyRope, rope } from "./ops/rope.ts";
export { sample } from "./ops/sample.ts";
export { writeAt } from "./ops/write.ts";
// Free functions: creation here, the others where their ops live.
export { checkpoint, grad, isGradEnabled, noGrad } from "./tensor/autograd.ts";

/** Sizes as numbers or as one shape: `zeros(2, 3)`, `zeros([2, 3])`, `zeros([2, 3], { dtype: "i32" })`. */
export type Sizes = readonly number[] | readonly [shape: Shape, options?: { dtype?: DType }];

function filled(op: string, sizes: Sizes, value: number): Tensor {
  const [shape, options] =
    typeof sizes[0] === "object" ? (sizes as [Shape, { dtype?: DType }?]) : [sizes as readonly number[]];
  checkShape(op, shape);
  return constant([...shape], value, options?.dtype ?? "f32");
}

export const zeros = (...sizes: Sizes): Tensor => filled("zeros", sizes, 0);
export const ones = (...sizes: Sizes): Tensor => filled("ones", sizes, 1);
/** A constant of the graph: for values that change from step to step use `tensor`. */
export const full = (shape: Shape, value: number, options?: { dtype?: DType }): Tensor =>
  filled("full", [shape, options], value);

/** start, start + step, … below end: `arange(end)`, `arange(start, end)`, `arange(start, end, step)`. i32 when all are whole, else f32. */
export function arange(...args: readonly (number | { dtype?: DType })[]): Tensor {
  const numbers = args.filter((a) => typeof a === "number");
  const options = args.find((a) => typeof a === "object");
  const [start, end, step = 1] = numbers.length === 1 ? [0, numbers[0]] : numbers;
  const size = Math.ceil((end - start) / step);
  if (!(size > 0) || !Number.isFinite(size))
    throw new RangeError(`arange: no values from ${start} to ${end} by ${step}`);
  const ends = [start, step, start + step * (size - 1)];
  const whole = [...numbers, ...ends].every((n) => holds("i32", n));
  const dtype = options?.dtype ?? (whole ? "i32" : "f32");
  for (const n of ends) checkValue("arange", n, dtype);
  return apply(iotaOp, [], { start, step }, [size], dtype);
}

/** Identity matrix [n, n]. */
export const eye = (n: number, options?: { dtype?: DType }): Tensor =>
  positionsAlong(0, n, 2)
    .eq(positionsAlong(1, n, 2))
    .to(options?.dtype ?? "f32");

/**
 * a where cond, else b; all broadcast. Two numbers give i32 if both are whole (and i32 has them), else f32; a boolean
 * tensor and a number likewise.
 */
export const where = (cond: Tensor, a: Tensor | number, b: Tensor | number): Tensor => select(cond, a, b);
