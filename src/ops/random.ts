import type { Shape } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { randOp } from "./constant.ts";
import { checkShape, tensor } from "./leaf.ts";
import { mix } from "./math.ts";
import { expand } from "./movement.ts";

/** Every call draws its own seed from this pair; the seed is data, so equal graphs keep equal keys. */
let state = { seed: 0, calls: 0 };

/** Restarts the random numbers: the same calls after it give the same values. */
export function manualSeed(seed: number): void {
  if (!Number.isInteger(seed)) throw new RangeError(`manualSeed: an integer expected, got ${seed}`);
  state = { seed: seed >>> 0, calls: 0 };
}

export const saveGenerator = (): typeof state => ({ ...state });
export const restoreGenerator = (saved: typeof state): void => void (state = { ...saved });

/** A u32 seed that no other call has. */
export const drawSeed = (): number => mix(mix(state.seed + 0x9e3779b9) ^ state.calls++);

const nextSeed = (): Tensor => tensor(Uint32Array.of(drawSeed()), { shape: [] });

function uniform(shape: Shape, seed: Tensor, offset: number): Tensor {
  return apply(randOp, [expand(seed, shape)], { offset }, shape, "f32");
}

/** Uniform in [0, 1). */
export function rand(...sizes: readonly number[] | readonly [Shape]): Tensor {
  const shape = sizes.flat();
  checkShape("rand", shape);
  return uniform(shape, nextSeed(), 0);
}

/** Standard normal, by Box and Muller's transform of two uniform numbers. */
export function randn(...sizes: readonly number[] | readonly [Shape]): Tensor {
  const shape = sizes.flat();
  checkShape("randn", shape);
  const seed = nextSeed();
  const radius = uniform(shape, seed, 0).neg().add(1).log().mul(-2).sqrt(); // log(1 - u): u may be 0
  return radius.mul(
    uniform(shape, seed, 1)
      .mul(2 * Math.PI)
      .cos(),
  );
}

/** Zeroes elements with probability p and scales the others by 1 / (1 - p); the identity unless `training`. */
export function dropout(x: Tensor, p: number, { training = true }: { training?: boolean } = {}): Tensor {
  if (!(p >= 0 && p < 1)) throw new RangeError(`dropout: p must be in [0, 1), got ${p}`);
  return training && p > 0
    ? x.mul(
        rand(x.shape)
          .ge(p)
          .to(x.dtype)
          .mul(1 / (1 - p)),
      )
    : x;
}
