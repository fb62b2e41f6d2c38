import { checkDType, checkValue, type DType, holds } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import type { Shape } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full as constant, iotaOp } from "./constant.ts";
import { where } from "./elementwise.ts";
import { triangle } from "./indexing.ts";
import { checkShape, tensor } from "./leaf.ts";
import { positionsAlong } from "./reduce.ts";

interface TypeOption {
  /** Default f32; of the functions `…Like` the dtype of their tensor. */
  dtype?: DType;
}

/** Sizes as numbers or as one shape: `zeros(2, 3)`, `zeros([2, 3])`, `zeros([2, 3], { dtype: "i32" })`. */
export type Sizes =
  | readonly number[]
  | readonly [...sizes: number[], options: TypeOption]
  | readonly [shape: Shape, options?: TypeOption];

/** The shape and options that sizes stand for. */
export function sizesOf(op: string, sizes: Sizes): { shape: readonly number[]; dtype?: DType } {
  const [first, second] = sizes;
  const list = Array.isArray(first);
  const last = list ? second : sizes.at(-1);
  const given = typeof last === "object" && last !== null && !Array.isArray(last);
  const options = given ? (last as TypeOption) : {};
  checkOptions(op, options, ["dtype"]);
  if (options.dtype !== undefined) checkDType(op, options.dtype);
  const shape = list ? (first as Shape) : ((given ? sizes.slice(0, -1) : sizes) as number[]);
  checkShape(op, shape);
  return { shape: [...shape], dtype: options.dtype };
}

function filled(op: string, sizes: Sizes, value: number): Tensor {
  const { shape, dtype = "f32" } = sizesOf(op, sizes);
  return constant(shape, value, dtype);
}

/** Zeros of the given sizes: `zeros(2, 3)`, or `zeros([2, 3], { dtype: "i32" })`. Default dtype f32. Sizes may be 0. */
export const zeros = (...sizes: Sizes): Tensor => filled("zeros", sizes, 0);
/** Ones of the given sizes: `ones(2, 3)`, or `ones([2, 3], { dtype: "i32" })`. Default dtype f32. */
export const ones = (...sizes: Sizes): Tensor => filled("ones", sizes, 1);
/**
 * A tensor of one value. The value is part of the plan: for one that changes from step to step use `tensor`, which compiles
 * nothing anew.
 * @throws if `dtype` cannot hold the value.
 */
export function full(shape: Shape, value: number, options?: TypeOption): Tensor {
  if (typeof value !== "number") throw new TypeError(`full: the value must be a number, got ${typeof value}`);
  return filled("full", [shape, options], value);
}

/** Zeros in the shape and dtype of x. */
export const zerosLike = (x: Tensor, options: TypeOption = {}): Tensor =>
  zeros(x.shape, { dtype: x.dtype, ...options });
/** Ones in the shape and dtype of x. */
export const onesLike = (x: Tensor, options: TypeOption = {}): Tensor => ones(x.shape, { dtype: x.dtype, ...options });
/** One value in the shape and dtype of x. */
export const fullLike = (x: Tensor, value: number, options: TypeOption = {}): Tensor =>
  full(x.shape, value, { dtype: x.dtype, ...options });

/**
 * start, start + step, … up to but without end, as a vector. i32 if all numbers are whole, else f32.
 * @example arange(4), arange(2, 8), arange(8, 2, -2), arange(4, { dtype: "f32" })
 */
export function arange(...args: readonly (number | TypeOption)[]): Tensor {
  const numbers = args.filter((a) => typeof a === "number");
  const options = args.find((a) => typeof a === "object") ?? {};
  checkOptions("arange", options, ["dtype"]);
  if (options.dtype !== undefined) checkDType("arange", options.dtype);
  const [start, end, step = 1] = numbers.length === 1 ? [0, numbers[0]] : numbers;
  const size = Math.ceil((end - start) / step);
  if (!(size >= 0) || !Number.isFinite(size))
    throw new RangeError(
      `arange: no values from ${start} to ${end} by ${step}: expected finite ends, and a step from start towards end`,
    );
  const ends = [start, step, start + step * Math.max(0, size - 1)];
  const whole = [...numbers, ...ends].every((n) => holds("i32", n));
  const dtype = options.dtype ?? (whole ? "i32" : "f32");
  for (const n of ends) checkValue("arange", n, dtype);
  return apply(iotaOp, [], { start, step }, [size], dtype);
}

function checkSteps(op: string, start: number, end: number, steps: number): void {
  if (![start, end].every(Number.isFinite) || !Number.isInteger(steps) || steps < 0)
    throw new RangeError(
      `${op}: ${steps} steps from ${start} to ${end}: expected finite ends and a whole number of steps`,
    );
}

/** `steps` f32 values from start to end, both included; one step gives start. Counted from both ends, so that both are exact. */
export function linspace(start: number, end: number, steps: number): Tensor {
  checkSteps("linspace", start, end, steps);
  if (steps < 2) return constant([steps], start);
  const step = (end - start) / (steps - 1);
  const at = positionsAlong(0, steps, 1);
  const fromStart = at.to("f32").mul(step).add(start);
  const fromEnd = at
    .neg()
    .add(steps - 1)
    .to("f32")
    .mul(-step)
    .add(end);
  return where(at.lt(steps / 2), fromStart, fromEnd);
}

/** `steps` f32 values base^start … base^end, both included. Default base 10. */
export function logspace(start: number, end: number, steps: number, options: { base?: number } = {}): Tensor {
  checkOptions("logspace", options, ["base"]);
  checkSteps("logspace", start, end, steps);
  const { base = 10 } = options;
  const step = steps > 1 ? (end - start) / (steps - 1) : 0;
  return tensor(Float32Array.from({ length: steps }, (_, i) => base ** (start + step * i)));
}

/** Ones on the main diagonal, zeros elsewhere: `eye(3)` is [3, 3], `eye(2, 3)` is [2, 3]. Default dtype f32. */
export function eye(rows: number, columns?: number | TypeOption, options?: TypeOption): Tensor {
  const given = typeof columns === "object" ? columns : (options ?? {});
  const shape = [rows, typeof columns === "number" ? columns : rows];
  checkOptions("eye", given, ["dtype"]);
  checkShape("eye", shape);
  return positionsAlong(0, shape[0], 2)
    .eq(positionsAlong(1, shape[1], 2))
    .to(given.dtype ?? "f32");
}

/** Zeroes elements above a diagonal of the last two dims; 0 (default) is the main diagonal. */
export const tril = (x: Tensor, diagonal = 0): Tensor => triangle(x, diagonal, "lower");
/** Zeroes elements below a diagonal of the last two dims; 0 (default) is the main diagonal. */
export const triu = (x: Tensor, diagonal = 0): Tensor => triangle(x, diagonal, "upper");
