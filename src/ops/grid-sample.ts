import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { numel, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { where } from "./elementwise.ts";
import { cat, expand } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";

/** Positions in [-1, 1] of `n` elements: of their centres, or (`align`) with -1 and 1 at the first and the last centre. */
function normalized(n: number, align: boolean): Tensor {
  const at = positionsAlong(0, n, 1).to("f32");
  if (!align)
    return at
      .mul(2)
      .add(1 - n)
      .div(n);
  return n > 1
    ? at
        .mul(2)
        .div(n - 1)
        .sub(1)
    : at;
}

/**
 * Grid of an affine map of normalised coordinates, for `gridSample`: theta [N, 2, 3] and size [N, C, H, W] -> [N, H, W, 2];
 * theta [N, 3, 4] and size [N, C, D, H, W] -> [N, D, H, W, 3]. The last dim is (x, y) or (x, y, z).
 * @param options alignCorners (default false): -1 and 1 are the centres of corner elements, not the edges of the image
 * @throws if theta and size do not fit
 */
export function affineGrid(theta: Tensor, size: readonly number[], options: { alignCorners?: boolean } = {}): Tensor {
  checkOptions("affineGrid", options, ["alignCorners"]);
  const { alignCorners = false } = options;
  const [N, , ...spatial] = size;
  const dims = spatial.length;
  if ((dims !== 2 && dims !== 3) || theta.shape.join() !== [N, dims, dims + 1].join())
    throw new Error(
      `affineGrid: theta ${show(theta.shape)} with size ${show(size)}: expected [N, 2, 3] with [N, C, H, W], or [N, 3, 4] with [N, C, D, H, W]`,
    );
  if (!size.every((n) => Number.isInteger(n) && n > 0))
    throw new RangeError(`affineGrid: size ${show(size)}: expected whole numbers above 0`);
  const whole = [...spatial, 1];
  const axes = spatial.map((n, d) =>
    expand(normalized(n, alignCorners).reshape(whole.map((_, i) => (i === d ? n : 1))), whole),
  );
  const base = cat([...axes.reverse(), full(whole, 1)], -1).reshape([numel(spatial), dims + 1]); // x, y, (z), 1
  return base.matmul(theta.transpose(1, 2)).reshape([N, ...spatial, dims]);
}

export interface GridSampleOptions {
  /** Default bilinear (trilinear for volumes). bicubic takes images only. */
  mode?: "bilinear" | "nearest" | "bicubic";
  /** What positions outside read: zeros (default), the border element, or the image mirrored. */
  paddingMode?: "zeros" | "border" | "reflection";
  /** -1 and 1 are the centres of corner elements, not the edges of the image. Default false. */
  alignCorners?: boolean;
}

/** How positions along a dim of `size` elements are read. */
interface Axis {
  readonly size: number;
  /** Distance of this dim's elements in the flattened image. */
  readonly step: number;
}

/** An element that an output reads along one dim: its position, as a float without fraction, and its weight. */
interface Tap {
  readonly at: Tensor;
  readonly weight?: Tensor;
}

/**
 * Samples x [N, C, H, W] at grid [N, h, w, 2] of (x, y) in [-1, 1]: -> [N, C, h, w]. Volumes: x [N, C, D, H, W] at
 * grid [N, d, h, w, 3]. Differentiable in x and, but for mode nearest, in the grid.
 * @throws if x and grid do not fit
 * @example gridSample(x, affineGrid(theta, x.shape), { paddingMode: "border" })
 */
export function gridSample(x: Tensor, grid: Tensor, options: GridSampleOptions = {}): Tensor {
  checkOptions("gridSample", options, ["mode", "paddingMode", "alignCorners"]);
  const { mode = "bilinear", paddingMode = "zeros", alignCorners = false } = options;
  check(x, grid, mode, paddingMode);
  const [N, C, ...spatial] = x.shape;
  const outputs = grid.shape.slice(1, -1);
  const axes = spatial.map((size, d): Axis => ({ size, step: numel(spatial.slice(d + 1)) }));
  const P = numel(outputs);
  // Positions along each dim as [N, 1, P]. The grid names the last dim first.
  const at = axes.map(({ size }, d) => {
    const g = grid
      .select(-1, axes.length - 1 - d)
      .reshape([N, 1, P])
      .to("f32");
    const middle = alignCorners ? g.add(1).mul((size - 1) / 2) : g.add(1).mul(size).sub(1).mul(0.5);
    return mode === "bicubic" ? middle : bounded(middle, size, paddingMode, alignCorners);
  });
  const flat = x.reshape([N, C, numel(spatial)]);
  const perAxis = at.map((position, d) =>
    tapsOf(position, mode).map(({ at, weight }) => ({
      at: mode === "bicubic" ? bounded(at, axes[d].size, paddingMode, alignCorners) : at,
      weight,
    })),
  );
  const terms = combinations(perAxis).map((taps) => term(flat, taps, axes));
  return terms
    .reduce((a, b) => a.add(b))
    .to(x.dtype)
    .reshape([N, C, ...outputs]);
}

function check(x: Tensor, grid: Tensor, mode: string, paddingMode: string): void {
  const dims = x.ndim - 2;
  if ((dims !== 2 && dims !== 3) || grid.ndim !== x.ndim || grid.shape[0] !== x.shape[0] || grid.shape.at(-1) !== dims)
    throw new Error(
      `gridSample: input ${show(x.shape)} and grid ${show(grid.shape)}: expected [N, C, H, W] with [N, h, w, 2], or [N, C, D, H, W] with [N, d, h, w, 3]`,
    );
  if (!isFloat(x.dtype) || !isFloat(grid.dtype))
    throw new TypeError(`gridSample: input ${x.dtype} and grid ${grid.dtype}: cast them with float()`);
  if (numel(x.shape.slice(2)) === 0) throw new Error(`gridSample: input ${show(x.shape)} has no elements to sample`);
  if (!["bilinear", "nearest", "bicubic"].includes(mode) || (mode === "bicubic" && dims === 3))
    throw new Error(`gridSample: mode ${mode} of ${show(x.shape)}: expected bilinear, nearest or, for images, bicubic`);
  if (!["zeros", "border", "reflection"].includes(paddingMode))
    throw new Error(`gridSample: unknown paddingMode ${paddingMode}: expected zeros, border or reflection`);
}

/** Positions moved into a dim of `size` elements. Those that the border catches have no gradient. */
function bounded(at: Tensor, size: number, paddingMode: string, alignCorners: boolean): Tensor {
  if (paddingMode === "zeros") return at;
  const inner = paddingMode === "reflection" ? mirrored(at, size, alignCorners) : at;
  return clipped(inner, size - 1);
}

/** Values between 0 and `high`. NaN becomes 0, as an address must be a number. */
const clipped = (at: Tensor, high: number): Tensor => where(at.gt(0), where(at.lt(high), at, high), 0);

/** Positions mirrored at the centres (`alignCorners`) or the outer edges of the corner elements, as often as needed. */
function mirrored(at: Tensor, size: number, alignCorners: boolean): Tensor {
  const [low, span] = alignCorners ? [0, size - 1] : [-0.5, size];
  if (span === 0) return at.mul(0);
  const distance = at.sub(low).abs();
  const flips = distance.detach().div(span).floor();
  const rest = distance.sub(flips.mul(span));
  const even = flips.mul(0.5).floor().mul(2).eq(flips);
  return where(even, rest, rest.neg().add(span)).add(low);
}

function tapsOf(at: Tensor, mode: string): Tap[] {
  if (mode === "nearest") return [{ at: at.detach().round() }];
  const left = at.detach().floor();
  const t = at.sub(left);
  if (mode === "bilinear")
    return [
      { at: left, weight: t.neg().add(1) },
      { at: left.add(1), weight: t },
    ];
  const inner = (d: Tensor): Tensor => d.mul(1.25).sub(2.25).mul(d).mul(d).add(1); // Keys 1981, a = -0.75
  const outer = (d: Tensor): Tensor => d.mul(-0.75).add(3.75).mul(d).sub(6).mul(d).add(3);
  return [
    { at: left.sub(1), weight: outer(t.add(1)) },
    { at: left, weight: inner(t) },
    { at: left.add(1), weight: inner(t.neg().add(1)) },
    { at: left.add(2), weight: outer(t.neg().add(2)) },
  ];
}

/** One tap of each dim, in all combinations. */
const combinations = (perAxis: readonly Tap[][]): Tap[][] =>
  perAxis.reduce<Tap[][]>((lists, taps) => lists.flatMap((list) => taps.map((tap) => [...list, tap])), [[]]);

/** Weighted values of x [N, C, H * W] at one tap per dim, [N, C, P]. Positions outside the image give 0. */
function term(x: Tensor, taps: readonly Tap[], axes: readonly Axis[]): Tensor {
  const inside = taps
    .map(({ at }, d) => at.ge(0).logicalAnd(at.le(axes[d].size - 1)))
    .reduce((a, b) => a.logicalAnd(b));
  const index = taps
    .map(({ at }, d) =>
      clipped(at.detach(), axes[d].size - 1)
        .to("i32")
        .mul(axes[d].step),
    )
    .reduce((a, b) => a.add(b)); // [N, 1, P]
  const shape = [x.shape[0], x.shape[1], index.shape[2]];
  const value = x.gather(2, expand(index, shape)).to("f32");
  const weights = taps.flatMap(({ weight }) => (weight ? [weight] : []));
  const scaled = weights.length ? value.mul(weights.reduce((a, b) => a.mul(b))) : value;
  return where(inside, scaled, 0);
}
