import { type DType, isFloat } from "../graph/dtype.ts";
import { drawSeed, mix } from "../graph/generator.ts";
import { checkOptions } from "../graph/options.ts";
import { broadcastShapes, type Shape, sameShape, show } from "../graph/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { where } from "./elementwise.ts";
import { checkShape, tensor } from "./leaf.ts";
import { rand, randn } from "./random.ts";
import { topk } from "./topk.ts";

// Random numbers of other distributions. `manualSeed` makes them repeat.

interface TypeOption {
  dtype?: DType;
}

const floatLike = (x: Tensor, dtype: DType | undefined): DType => dtype ?? (isFloat(x.dtype) ? x.dtype : "f32");

/** Uniform numbers in [0, 1) in the shape and dtype of x (f32 for integers). */
export function randLike(x: Tensor, options: TypeOption = {}): Tensor {
  checkOptions("randLike", options, ["dtype"]);
  return rand(x.shape).to(floatLike(x, options.dtype));
}

/** Standard normal numbers in the shape and dtype of x (f32 for integers). */
export function randnLike(x: Tensor, options: TypeOption = {}): Tensor {
  checkOptions("randnLike", options, ["dtype"]);
  return randn(x.shape).to(floatLike(x, options.dtype));
}

const EXACT = 2 ** 24; // random bits of `rand`

/**
 * i32 whole numbers, each of [low, high) equally likely: `randint(10, [2, 3])` or `randint(-5, 5, [2, 3])`.
 * @throws unless low < high and both fit i32.
 */
export function randint(high: number, shape: Shape): Tensor;
export function randint(low: number, high: number, shape: Shape): Tensor;
export function randint(...args: readonly [number, Shape] | readonly [number, number, Shape]): Tensor {
  const [low, high, shape] = args.length === 2 ? [0, ...args] : args;
  const count = high - low;
  if (![low, high].every(Number.isInteger) || !(count > 0) || low < -(2 ** 31) || high > 2 ** 31)
    throw new RangeError(`randint: from ${low} to ${high}: expected whole numbers of i32 with low < high`);
  checkShape("randint", shape);
  if (count <= EXACT)
    return rand(shape)
      .mul(count)
      .floor()
      .minimum(count - 1)
      .to("i32")
      .add(low);
  // 32 bits from two draws.
  const bits = rand(shape).mul(EXACT).to("u32").mul(256).add(rand(shape).mul(256).to("u32"));
  const below = count === 2 ** 32 ? bits : bits.mod(count);
  const half = below.ge(2 ** 31); // two halves, each of which fits i32
  const inHalf = where(half, below.sub(2 ** 31), below).to("i32");
  return where(half, inHalf.add(Math.min(low, -1) + 2 ** 31), inHalf.add(low));
}

/** i32: the numbers 0 … n - 1 in random order, drawn on the host. */
export function randperm(n: number): Tensor {
  checkShape("randperm", [n]);
  const order = Int32Array.from({ length: n }, (_, i) => i);
  const seed = drawSeed();
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor((mix((seed + Math.imul(i, 0x9e3779b9)) >>> 0) / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return tensor(order);
}

/** 1 with the probability that x holds, else 0, in the shape and dtype of x. No gradient. @throws for probabilities on the host outside [0, 1]. */
export function bernoulli(x: Tensor): Tensor {
  if (!isFloat(x.dtype))
    throw new TypeError(`bernoulli: probabilities must be floats, got ${x.dtype} ${show(x.shape)}`);
  const bad = x.node.host?.find((p) => !(p >= 0 && p <= 1));
  if (bad !== undefined) throw new RangeError(`bernoulli: probability ${bad} in ${show(x.shape)}: expected 0 to 1`);
  return rand(x.shape).lt(x.detach()).to(x.dtype);
}

/**
 * Normal numbers of a mean and a standard deviation: numbers or tensors, which broadcast. Two numbers need a shape.
 * Gradients reach the tensors.
 * @example normal(0, 0.02, [4, 4]); normal(means, deviations)
 */
export function normal(mean: Tensor | number, std: Tensor | number, shape?: Shape): Tensor {
  const tensors = [mean, std].filter((t) => t instanceof Tensor);
  const drawn = tensors.reduce((s: Shape, t) => broadcastShapes("normal", s, t.shape), []);
  if (tensors.length === 0 && !shape) throw new Error("normal: two numbers need a shape: normal(0, 1, [2, 3])");
  if (tensors.length > 0 && shape && !sameShape(shape, drawn))
    throw new Error(`normal: shape ${show(shape)} for tensors of ${show(drawn)}: leave it out`);
  const lowest = std instanceof Tensor ? std.node.host?.find((s) => !(s >= 0)) : std >= 0 ? undefined : std;
  if (lowest !== undefined) throw new RangeError(`normal: standard deviation ${lowest}: expected at least 0`);
  return randn(shape ?? drawn)
    .mul(std)
    .add(mean);
}

/**
 * i32 positions drawn with probabilities in proportion to the last dim of `weights` (f32 [V] or [B, V], at least 0):
 * -> [count] or [B, count].
 * @param options replacement (default false): a position may be drawn again
 * @throws for weights on the host that are negative or not finite, for rows without weight, and if without replacement a row has
 *   fewer than `count` positions of weight above 0.
 */
export function multinomial(weights: Tensor, count: number, options: { replacement?: boolean } = {}): Tensor {
  checkOptions("multinomial", options, ["replacement"]);
  const { replacement = false } = options;
  const classes = weights.shape[weights.ndim - 1];
  if ((weights.ndim !== 1 && weights.ndim !== 2) || !isFloat(weights.dtype))
    throw new TypeError(`multinomial: expected floats [V] or [B, V], got ${weights.dtype} ${show(weights.shape)}`);
  if (!Number.isInteger(count) || count < 1 || (!replacement && count > classes))
    throw new RangeError(
      `multinomial: ${count} draws from ${show(weights.shape)}: expected at least 1${replacement ? "" : `, and at most ${classes} without replacement`}`,
    );
  checkWeights(weights, replacement ? 1 : count);
  const w = weights.detach().to("f32");
  if (!replacement) return topk(gumbel(w), count).indices;
  const cumulative = w.cumsum(-1); // [..., V]
  const total = cumulative.narrow(-1, classes - 1, 1); // [..., 1]
  const drawn = rand([...w.shape.slice(0, -1), count]).mul(total); // [..., count]
  const below = cumulative.unsqueeze(-2).le(drawn.unsqueeze(-1)); // [..., count, V]
  const lastOfWeight = where(w.gt(0), 1, 0).mul(positions(classes)).amax(-1, true); // rounding may reach the total
  return below.sum(-1).minimum(lastOfWeight);
}

const positions = (n: number): Tensor => tensor(Int32Array.from({ length: n }, (_, i) => i));

/** log(w) plus Gumbel noise: its k largest are k draws without replacement (https://arxiv.org/abs/1903.06059). */
function gumbel(w: Tensor): Tensor {
  const u = rand(w.shape).add(2 ** -25); // above 0
  return where(w.gt(0), w.log().sub(u.log().neg().log()), -Infinity);
}

function checkWeights(weights: Tensor, least: number): void {
  const { host } = weights.node;
  if (!host) return;
  const V = weights.shape[weights.ndim - 1];
  const bad = host.find((w) => !(w >= 0 && w < Infinity));
  if (bad !== undefined)
    throw new RangeError(`multinomial: weight ${bad} in ${show(weights.shape)}: expected finite numbers of at least 0`);
  for (let row = 0; row < host.length; row += V) {
    const some = host.subarray(row, row + V).filter((w) => w > 0).length;
    if (some < least)
      throw new RangeError(
        `multinomial: row ${row / V} of ${show(weights.shape)} has ${some} weights above 0: expected at least ${least}`,
      );
  }
}
