/** What a sample of an op is, and how its inputs are written. */
import type { DType } from "../../../src/graph/dtype.ts";
import type { Shape } from "../../../src/graph/shape.ts";
import type * as sg from "../../../src/index.ts";

export type Tensors = readonly sg.Tensor[];

/** A float input with values of [low, high), or one of given integers. */
export interface Input {
  readonly shape: Shape;
  readonly low: number;
  readonly high: number;
  readonly values?: readonly number[];
  readonly dtype: DType;
}

export interface Sample {
  readonly inputs: readonly Input[];
  readonly f: (...x: sg.Tensor[]) => sg.Tensor | Tensors;
  /** Why gradients are not compared with differences: the function is not smooth, or has none. */
  readonly noGradient?: string;
  /** Why the second derivative is not. */
  readonly noSecond?: string;
  /** Float inputs broadcast against each other. */
  readonly broadcasts?: boolean;
  /** Inputs of these dtypes are taken too (elementwise ops, views, reductions). */
  readonly dtypes?: readonly DType[];
  /** Largest error on the device, relative to 1 + |value|; 0 for integers. */
  readonly tolerance?: number;
}

export const of = (shape: Shape, low = -1, high = 1): Input => ({ shape, low, high, dtype: "f32" });
export const ints = (values: readonly number[], shape: Shape = [values.length], dtype: DType = "i32"): Input => ({
  shape,
  values,
  low: 0,
  high: 0,
  dtype,
});

export const every: readonly DType[] = ["f16", "i32", "u32", "bool"];
export const box: Shape = [2, 3, 4];
export const stepwise = "steps";

/** Samples of one family of ops. */
export interface Family {
  readonly given?: Readonly<Record<string, Sample | readonly Sample[]>>;
  /** Domains of elementwise ops that need one, input by input. */
  readonly domains?: Readonly<Record<string, readonly (readonly [number, number])[]>>;
  /** Elementwise ops whose derivative is 0 or jumps. */
  readonly stepped?: readonly string[];
}
