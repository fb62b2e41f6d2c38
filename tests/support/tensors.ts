import { fromHalf, toHalf } from "../../src/graph/dtype.ts";
import { numel, type Shape } from "../../src/graph/shape.ts";
import { type Tensor, tensor } from "../../src/index.ts";
import { uniform } from "./f64.ts";

/** An f32 tensor of deterministic numbers in [low, high), others for every seed. */
export const random = (shape: Shape, seed = 1, low = -1, high = 1): Tensor =>
  tensor(uniform(numel(shape), low, high, seed), { shape });

/** The nearest f16 value. */
export const half = (v: number): number => fromHalf(toHalf(v));
