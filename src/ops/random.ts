import { drawSeed } from "../graph/generator.ts";
import { listOf, type Numbers, type Shape } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { randOp } from "./constant.ts";
import { checkShape, tensor } from "./leaf.ts";
import { expand } from "./movement.ts";

const nextSeed = (): Tensor => tensor(Uint32Array.of(drawSeed()), { shape: [] });

function uniform(shape: Shape, seed: Tensor, offset: number): Tensor {
  return apply(randOp, [expand(seed, shape)], { offset }, shape, "f32");
}

/** Uniform f32 in [0, 1): `rand(2, 3)` or `rand([2, 3])`. `manualSeed` makes the numbers repeat. */
export function rand(...sizes: Numbers): Tensor {
  const shape = listOf(sizes);
  checkShape("rand", shape);
  return uniform(shape, nextSeed(), 0);
}

/** Standard normal f32, by the Box-Muller transform: `randn(2, 3)` or `randn([2, 3])`. */
export function randn(...sizes: Numbers): Tensor {
  const shape = listOf(sizes);
  checkShape("randn", shape);
  const seed = nextSeed();
  const radius = uniform(shape, seed, 0).neg().add(1).log().mul(-2).sqrt(); // log(1 - u): u may be 0
  return radius.mul(
    uniform(shape, seed, 1)
      .mul(2 * Math.PI)
      .cos(),
  );
}

/** Zeroes elements with probability p in [0, 1) and scales the others by 1 / (1 - p). Returns x if `training` is false. */
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
