import { type DType, isFloat } from "../graph/dtype.ts";
import { drawSeed } from "../graph/generator.ts";
import { type Shape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { randOp } from "./constant.ts";
import { type Sizes, sizesOf } from "./creation.ts";
import { tensor } from "./leaf.ts";
import { expand } from "./movement.ts";

const nextSeed = (): Tensor => tensor(Uint32Array.of(drawSeed()), { shape: [] });

function uniform(shape: Shape, seed: Tensor, offset: number): Tensor {
  return apply(randOp, [expand(seed, shape)], { offset }, shape, "f32");
}

/** Uniform numbers in [0, 1): `rand(2, 3)` or `rand([2, 3], { dtype: "f16" })`. Default f32. `manualSeed` makes them repeat. */
export function rand(...sizes: Sizes): Tensor {
  const { shape, dtype } = floatSizes("rand", sizes);
  return uniform(shape, nextSeed(), 0).to(dtype);
}

/** Standard normal numbers, by the Box-Muller transform: `randn(2, 3)` or `randn([2, 3], { dtype: "f16" })`. Default f32. */
export function randn(...sizes: Sizes): Tensor {
  const { shape, dtype } = floatSizes("randn", sizes);
  const seed = nextSeed();
  const radius = uniform(shape, seed, 0).neg().add(1).log().mul(-2).sqrt(); // log(1 - u): u may be 0
  return radius
    .mul(
      uniform(shape, seed, 1)
        .mul(2 * Math.PI)
        .cos(),
    )
    .to(dtype);
}

function floatSizes(op: string, sizes: Sizes): { shape: Shape; dtype: DType } {
  const { shape, dtype = "f32" } = sizesOf(op, sizes);
  if (!isFloat(dtype))
    throw new TypeError(`${op}: dtype ${dtype} of ${show(shape)}: expected f32 or f16; randint draws integers`);
  return { shape, dtype };
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
