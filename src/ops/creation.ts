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

/** Zeros of the given sizes: `zeros(2, 3)`, or `zeros([2, 3], { dtype: "i32" })`. Default dtype f32. */
export const zeros = (...sizes: Sizes): Tensor => filled("zeros", sizes, 0);
/** Ones of the given sizes: `ones(2, 3)`, or `ones([2, 3], { dtype: "i32" })`. Default dtype f32. */
export const ones = (...sizes: Sizes): Tensor => filled("ones", sizes, 1);
/**
 * A tensor of one value. The value is part of the plan: for one that changes from step to step use `tensor`, which compiles
 * nothing anew.
 * @throws if `dtype` cannot hold the value.
 */
export const full = (shape: Shape, value: number, options?: { dtype?: DType }): Tensor =>
  filled("full", [shape, options], value);

/**
 * start, start + step, … up to but without end, as a vector. i32 if all numbers are whole, else f32.
 * @example arange(4), arange(2, 8), arange(8, 2, -2), arange(4, { dtype: "f32" })
 */
export function arange(...args: readonly (number | { dtype?: DType })[]): Tensor {
  const numbers = args.filter((a) => typeof a === "number");
  const options = args.find((a) => typeof a === "object");
  const [start, end, step = 1] = numbers.length === 1 ? [0, numbers[0]] : numbers;
  const size = Math.ceil((end - start) / step);
  if (!(size > 0) || !Number.isFinite(size))
    throw new RangeError(
      `arange: no values from ${start} to ${end} by ${step}: expected at least one, and finite ends`,
    );
  const ends = [start, step, start + step * (size - 1)];
  const whole = [...numbers, ...ends].every((n) => holds("i32", n));
  const dtype = options?.dtype ?? (whole ? "i32" : "f32");
  for (const n of ends) checkValue("arange", n, dtype);
  return apply(iotaOp, [], { start, step }, [size], dtype);
}

/** Identity matrix [n, n]. Default dtype f32. */
export const eye = (n: number, options?: { dtype?: DType }): Tensor =>
  positionsAlong(0, n, 2)
    .eq(positionsAlong(1, n, 2))
    .to(options?.dtype ?? "f32");
