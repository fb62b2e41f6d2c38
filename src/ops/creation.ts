import { checkValue, type DType, holds } from "../graph/dtype.ts";
import type { Shape } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full as constant, iotaOp } from "./constant.ts";
import { checkShape } from "./leaf.ts";
import { positionsAlong } from "./reduce.ts";

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
