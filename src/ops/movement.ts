import { checkValue, promote } from "../graph/dtype.ts";
import { add, constant, type Index, reshapeIndex, scale } from "../graph/index-map.ts";
import type { Attrs } from "../graph/node.ts";
import type { Op } from "../graph/op.ts";
import type { Shape } from "../graph/shape.ts";
import { broadcastShapes, normalizeDim, normalizeDims, numel, sameShape, show } from "../graph/shape.ts";
import { apply, Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";

// Views: index maps from the elements of a node to the elements of its only source. Attributes hold only what the two
// shapes do not say.

export interface PermuteAttrs extends Attrs {
  /** Result dim i is source dim dims[i]. */
  dims: readonly number[];
}
export interface SliceAttrs extends Attrs {
  /** Per dim: first index, and distance (positive) between the elements taken. The node's shape is their number. */
  starts: readonly number[];
  steps: readonly number[];
}
export interface FlipAttrs extends Attrs {
  dims: readonly number[];
}
export interface PadAttrs extends Attrs {
  /** Per dim: number of elements of `value` before and after. */
  pads: readonly (readonly [number, number])[];
  value: number;
}
export interface UnfoldAttrs extends Attrs {
  /** Windows start every `step` elements of `dim`. Each has `size` elements, `dilation` apart, in a new last dim. */
  dim: number;
  size: number;
  step: number;
  dilation: number;
}

interface ViewFacts<A> extends Pick<Op<A>, "viewIndex" | "keepsOrder" | "repeats" | "keyOf"> {
  vjp: (g: Tensor, x: Tensor, attrs: A) => Tensor;
}

const view = <A extends Attrs>(name: string, { vjp, ...facts }: ViewFacts<A>): Op<A, Tensor> =>
  defineOp<A>({ name, kind: "view", vjp: (g, _y, [x], attrs) => [vjp(g, x, attrs)], ...facts });

/** The same elements in row-major order, with another shape. */
export const reshapeOp = view("reshape", {
  keepsOrder: true,
  viewIndex: (index, _attrs, { from, to }) => ({ index: reshapeIndex(index, to, from) }),
  vjp: (g, x) => g.reshape(x.shape),
});
const permuteOp = view<PermuteAttrs>("permute", {
  viewIndex: (index, { dims }) => {
    const inner = new Array<Index>(dims.length);
    dims.forEach((d, i) => (inner[d] = index[i]));
    return { index: inner };
  },
  vjp: (g, _x, { dims }) => {
    const inverse = new Array<number>(dims.length);
    dims.forEach((d, i) => (inverse[d] = i));
    return g.permute(inverse);
  },
});
/** Repeats dims of size 1. Source and result have equal rank. */
const expandOp = view("expand", {
  repeats: true,
  viewIndex: (index, _attrs, { from }) => ({ index: from.map((size, d) => (size === 1 ? constant(0) : index[d])) }),
  vjp: (g, x) => {
    const dims = x.shape.flatMap((d, i) => (d !== g.shape[i] ? [i] : []));
    return g.sum(dims, true);
  },
});
const sliceOp = view<SliceAttrs>("slice", {
  viewIndex: (index, { starts, steps }) => ({
    index: index.map((ix, d) => add(scale(ix, steps[d]), constant(starts[d]))),
  }),
  vjp: (g, x, { starts, steps }) => spreadSlice(g, x.shape, starts, steps),
});
const flipOp = view<FlipAttrs>("flip", {
  viewIndex: (index, { dims }, { from }) => ({
    index: index.map((ix, d) => (dims.includes(d) ? add(scale(ix, -1), constant(from[d] - 1)) : ix)),
  }),
  vjp: (g, _x, { dims }) => g.flip(dims),
});
const padOp = view<PadAttrs>("pad", {
  viewIndex: (index, { pads, value }, { from }) => {
    const inner = index.map((ix, d) => add(ix, constant(-pads[d][0])));
    const padded = (_: unknown, d: number): boolean => pads[d][0] !== 0 || pads[d][1] !== 0;
    return { index: inner, ranges: inner.map((ix, d) => ({ index: ix, size: from[d] })).filter(padded), fill: value };
  },
  vjp: (g, x, { pads }) =>
    slice(
      g,
      x.shape.map((n, i) => [pads[i][0], pads[i][0] + n]),
    ),
  keyOf: ({ pads, value }) => `${JSON.stringify(pads)}${value}`, // JSON has no -Infinity
});
/** [..., L, ...] -> [..., windows, ..., size]: position = window * step + offset * dilation. */
const unfoldOp = view<UnfoldAttrs>("unfold", {
  repeats: true,
  viewIndex: (index, { dim, step, dilation }, { from }) => {
    const inner = index.slice(0, from.length);
    inner[dim] = add(scale(index[dim], step), scale(index[from.length], dilation));
    return { index: inner };
  },
  vjp: fold,
});

/** The same elements in row-major order as `shape`. One size may be -1: it follows from the others. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const total = numel(x.shape);
  const full = [...shape];
  const hole = full.indexOf(-1);
  if (hole >= 0) full[hole] = -total / numel(full);
  if (numel(full) !== total || !full.every((d) => Number.isInteger(d) && d >= 0)) {
    throw new Error(
      `reshape: ${show(x.shape)} (${total} elements) does not fit ${show(shape)}: expected whole sizes with product ${total}, at most one -1`,
    );
  }
  return sameShape(full, x.shape) ? x : apply(reshapeOp, [x], {}, full, x.dtype);
}

/** Reorders dims: dim i of the result is dim dims[i] of x. */
export function permute(x: Tensor, dims: readonly number[]): Tensor {
  const order = dims.map((d) => normalizeDim("permute", d, x.ndim));
  if (order.length !== x.ndim || order.some((d, i) => order.indexOf(d) !== i)) {
    throw new Error(`permute: ${show(dims)} is not an order of the dims of ${show(x.shape)}: expected each dim once`);
  }
  if (order.every((d, i) => d === i)) return x;
  const { op, attrs, src, realized, requiresGrad } = x.node;
  if (op === permuteOp && !realized && src[0].requiresGrad === requiresGrad) {
    const before = (attrs as PermuteAttrs).dims;
    // The inverse of x's own permute. Returning its source avoids a copy that a reshape between the two would cause.
    if (order.every((d, i) => before[d] === i)) return new Tensor(src[0]);
  }
  return apply(
    permuteOp,
    [x],
    { dims: order },
    order.map((d) => x.shape[d]),
    x.dtype,
  );
}

/** Swaps the dims of a matrix; a vector or scalar as is. */
export function matrixTranspose(x: Tensor): Tensor {
  if (x.ndim > 2)
    throw new Error(
      `t: expected at most 2 dims, got ${show(x.shape)}: mT swaps the last two, transpose(a, b) any two, permute orders all`,
    );
  return x.ndim === 2 ? permute(x, [1, 0]) : x;
}

/** Swaps dims a and b. */
export function transpose(x: Tensor, a: number, b: number): Tensor {
  const [i, j] = [normalizeDim("transpose", a, x.ndim), normalizeDim("transpose", b, x.ndim)];
  if (i === j) return x;
  const dims = x.shape.map((_, i) => i);
  [dims[i], dims[j]] = [dims[j], dims[i]];
  return permute(x, dims);
}

/** Whether x [B, H, T, D] comes from a permute of [B, T, H, D]. Then results in that layout save a transpose. */
export function tokensFirst(x: Tensor): boolean {
  let n = x.node;
  while (!n.realized && n.op.kind === "elementwise" && n.src.length > 0) n = n.src[0];
  return !n.realized && n.op.name === "permute" && (n.attrs as PermuteAttrs).dims.join() === "0,2,1,3";
}

/** Broadcasts to `shape`; -1 keeps a size. New dims come first. */
export function expand(x: Tensor, shape: Shape): Tensor {
  const lead = shape.length - x.ndim;
  const full = shape.map((d, i) => (d === -1 && i >= lead ? x.shape[i - lead] : d));
  if (sameShape(full, x.shape)) return x;
  if (lead < 0 || !sameShape(broadcastShapes("expand", x.shape, full), full)) {
    throw new Error(`expand: ${show(x.shape)} does not broadcast to ${show(shape)}: only dims of size 1 can grow`);
  }
  const aligned = lead > 0 ? reshape(x, [...new Array<number>(lead).fill(1), ...x.shape]) : x;
  return sameShape(full, aligned.shape) ? aligned : apply(expandOp, [aligned], {}, full, x.dtype);
}

/** As `expand`, for sizes that a user gives: whole numbers, and no dim of size 1 shrinks to 0. */
export function expandTo(x: Tensor, shape: Shape): Tensor {
  const lead = shape.length - x.ndim;
  const bad = shape.some((n, i) => !Number.isInteger(n) || n < -1 || (n === 0 && x.shape[i - lead] === 1));
  if (bad)
    throw new RangeError(
      `expand: ${show(x.shape)} to ${show(shape)}: expected whole sizes, and -1 for a size that stays; a dim of size 1 does not shrink to 0`,
    );
  return expand(x, shape);
}

/** Per dim [start, stop, step], as in Python: negative counts from the end, null is open. Missing dims stay whole. */
export type SliceSpec = readonly (readonly [start?: number | null, stop?: number | null, step?: number | null])[];

/** A slice as first positions, distances and sizes. */
function resolveSlice(of: Shape, spec: SliceSpec): SliceAttrs & { shape: number[] } {
  if (spec.length > of.length)
    throw new Error(`slice: ${spec.length} slices for a tensor of shape ${show(of)}: expected at most ${of.length}`);
  const starts: number[] = [];
  const steps: number[] = [];
  const shape = of.map((n, i) => {
    const [from, to, by] = spec[i] ?? [];
    const at = (v: number | null | undefined, open: number) =>
      v == null ? open : Math.min(Math.max(v < 0 ? v + n : v, 0), n);
    starts[i] = at(from, 0);
    steps[i] = by ?? 1;
    if (![from ?? 0, to ?? 0, steps[i]].every(Number.isInteger) || steps[i] < 1)
      throw new RangeError(
        `slice: [${spec[i]}] of dim ${i} of ${show(of)}: expected whole numbers, and a step above 0 (flip reverses a dim)`,
      );
    const size = Math.max(0, Math.ceil((at(to, n) - starts[i]) / steps[i]));
    if (size <= 1) steps[i] = 1;
    return size;
  });
  return { starts, steps, shape };
}

/** Part of x per dim. Steps are positive. Bounds outside the dim are cut to it, so a part may be empty. */
export function slice(x: Tensor, spec: SliceSpec): Tensor {
  const { starts, steps, shape } = resolveSlice(x.shape, spec);
  return sameShape(shape, x.shape) ? x : apply(sliceOp, [x], { starts, steps }, shape, x.dtype);
}

/** The transpose of `slice`: x at its place in a tensor of `shape`, zeros elsewhere. */
export function unslice(x: Tensor, shape: Shape, spec: SliceSpec): Tensor {
  const { starts, steps } = resolveSlice(shape, spec);
  return spreadSlice(x, shape, starts, steps);
}

function spreadSlice(x: Tensor, shape: Shape, starts: readonly number[], steps: readonly number[]): Tensor {
  const spread = x.shape.reduce((t, n, i) => dilate(t, i, n, steps[i]), x);
  return spread.pad(spread.shape.map((n, i) => [starts[i], shape[i] - starts[i] - n]));
}

/** Reverses the order of elements along dims. */
export function flip(x: Tensor, dims: number | readonly number[]): Tensor {
  const list = normalizeDims("flip", dims, x.ndim).filter((d) => x.shape[d] > 1);
  return list.length ? apply(flipOp, [x], { dims: list }, x.shape, x.dtype) : x;
}

/** Constant padding: [before, after] per dim. Negative amounts crop. */
export function pad(x: Tensor, pads: readonly (readonly [number, number])[], value = 0): Tensor {
  if (pads.length !== x.ndim)
    throw new Error(
      `pad: ${pads.length} pairs for a tensor of shape ${show(x.shape)}: expected ${x.ndim}, one [before, after] per dim`,
    );
  if (!pads.flat().every(Number.isInteger))
    throw new RangeError(`pad: ${JSON.stringify(pads)} for ${show(x.shape)}: expected whole numbers`);
  const cropped = slice(
    x,
    pads.map(([a, b], i) => [Math.max(0, -a), x.shape[i] - Math.max(0, -b)]),
  );
  const grown = pads.map(([a, b]) => [Math.max(0, a), Math.max(0, b)] as const);
  const shape = cropped.shape.map((n, i) => n + grown[i][0] + grown[i][1]);
  if (sameShape(shape, cropped.shape)) return cropped;
  checkValue("pad", value, x.dtype);
  const fill = x.dtype === "bool" ? Number(value !== 0) : value;
  return apply(padOp, [cropped], { pads: grown, value: fill }, shape, x.dtype);
}

/** Sliding windows of `dim` as a new last dim: [..., n, ...] -> [..., windows, ..., size]. */
export function unfold(x: Tensor, dim: number, size: number, step: number, dilation = 1): Tensor {
  const d = normalizeDim("unfold", dim, x.ndim);
  const windows = Math.floor((x.shape[d] - (size - 1) * dilation - 1) / step) + 1;
  if (!(windows > 0) || ![size, step, dilation].every((n) => Number.isInteger(n) && n > 0)) {
    throw new RangeError(
      `unfold: windows of ${size} (step ${step}, dilation ${dilation}) do not fit dim ${dim} of ${show(x.shape)}`,
    );
  }
  const shape = [...x.shape.map((n, i) => (i === d ? windows : n)), size];
  return apply(unfoldOp, [x], { dim: d, size, step, dilation }, shape, x.dtype);
}

/** Transpose of unfold: adds every window to the elements of `x` it was read from. Only the shape of `x` matters. */
export function fold(g: Tensor, x: { readonly shape: Shape }, { dim, size, step, dilation }: UnfoldAttrs): Tensor {
  const n = x.shape[dim];
  const rank = x.shape.length;
  const windows = g.shape[dim];
  const fit = (t: Tensor, before: number) =>
    t.pad(t.shape.map((m, i) => (i === dim ? [before, n - before - m] : [0, 0])));
  if (dilation === 1 && step >= size) {
    const order = x.shape.flatMap((_, i) => (i === dim ? [i, rank] : [i]));
    const apart = g.permute(order).pad(order.map((_, i) => (i === dim + 1 ? [0, step - size] : [0, 0])));
    return fit(apart.reshape(x.shape.map((m, i) => (i === dim ? windows * step : m))), 0);
  }
  const parts = Array.from({ length: size }, (_, k) => fit(dilate(g.select(-1, k), dim, windows, step), k * dilation));
  return parts.reduce((sum, part) => sum.add(part));
}

/** Puts step - 1 zeros between the n elements of a dim: [n] -> [(n - 1) * step + 1]. */
function dilate(x: Tensor, dim: number, n: number, step: number): Tensor {
  if (step === 1 || n <= 1) return x;
  const apart = x.unsqueeze(dim + 1).pad([...x.shape, 0].map((_, i) => (i === dim + 1 ? [0, step - 1] : [0, 0])));
  const long = apart.reshape(x.shape.map((m, i) => (i === dim ? n * step : m)));
  return long.narrow(dim, 0, (n - 1) * step + 1);
}

/** Inserts a dim of size 1 before dim `dim`. */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  const d = normalizeDim("unsqueeze", dim, x.ndim + 1);
  return reshape(x, [...x.shape.slice(0, d), 1, ...x.shape.slice(d)]);
}

/** Drops dim `dim` if its size is 1; without `dim`, every dim of size 1. */
export function squeeze(x: Tensor, dim?: number): Tensor {
  const d = dim === undefined ? -1 : normalizeDim("squeeze", dim, x.ndim);
  return reshape(
    x,
    x.shape.filter((n, i) => n !== 1 || (dim !== undefined && i !== d)),
  );
}

/** Joins dims `start` to `end` (inclusive) into one. A scalar becomes a vector of one element. */
export function flatten(x: Tensor, start: number, end: number): Tensor {
  if (x.ndim === 0) return reshape(x, [1]);
  const [a, b] = [normalizeDim("flatten", start, x.ndim), normalizeDim("flatten", end, x.ndim)];
  if (a > b)
    throw new RangeError(`flatten: dim ${start} comes after dim ${end} in ${show(x.shape)}: expected start <= end`);
  return reshape(x, [...x.shape.slice(0, a), numel(x.shape.slice(a, b + 1)), ...x.shape.slice(b + 1)]);
}

/** Elements `start` to `start + length - 1` of one dim. */
export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  const d = normalizeDim("narrow", dim, x.ndim);
  const from = start < 0 ? start + x.shape[d] : start;
  if (
    x.ndim === 0 ||
    ![from, length].every(Number.isInteger) ||
    !(from >= 0 && length >= 0 && from + length <= x.shape[d])
  ) {
    throw new RangeError(
      `narrow: ${length} elements from ${start} do not lie in dim ${dim} of ${show(x.shape)}${x.ndim ? `: expected whole numbers with start + length <= ${x.shape[d]}` : ": a scalar has no dims"}`,
    );
  }
  return slice(
    x,
    x.shape.map((_, i) => (i === d ? [from, from + length] : [])),
  );
}

/** Element `i` of one dim, which is dropped. */
export function select(x: Tensor, dim: number, i: number): Tensor {
  const d = normalizeDim("select", dim, x.ndim);
  if (x.ndim === 0 || !Number.isInteger(i) || !(i >= -x.shape[d] && i < x.shape[d]))
    throw new RangeError(
      `select: index ${i} is out of range for dim ${dim} of ${show(x.shape)}${x.ndim ? `: expected ${-x.shape[d]} to ${x.shape[d] - 1}` : ""}`,
    );
  return reshape(
    narrow(x, d, i < 0 ? i + x.shape[d] : i, 1),
    x.shape.filter((_, j) => j !== d),
  );
}

/** Parts along one dim: of the given sizes, or all of one size (the last may be smaller). */
export function split(x: Tensor, sizes: number | readonly number[], dim: number): Tensor[] {
  const d = normalizeDim("split", dim, x.ndim);
  const n = x.shape[d];
  if (typeof sizes === "number" && !(Number.isInteger(sizes) && sizes > 0))
    throw new RangeError(`split: size ${sizes} of dim ${dim} of ${show(x.shape)}: expected a whole number above 0`);
  const parts =
    typeof sizes === "number"
      ? Array.from({ length: Math.max(1, Math.ceil(n / sizes)) || 1 }, (_, i) => Math.min(sizes, n - i * sizes))
      : sizes;
  const total = parts.reduce((a, b) => a + b, 0);
  if (total !== n)
    throw new Error(`split: sizes ${show(parts)} add up to ${total}, dim ${dim} of ${show(x.shape)} has ${n}`);
  let start = 0;
  return parts.map((size) => narrow(x, d, (start += size) - size, size));
}

/** At most n parts of equal size along one dim. The last may be smaller. */
export function chunk(x: Tensor, n: number, dim: number): Tensor[] {
  if (!(Number.isInteger(n) && n > 0))
    throw new RangeError(`chunk: ${n} parts of ${show(x.shape)}: expected a whole number above 0`);
  return split(x, Math.max(1, Math.ceil(x.shape[normalizeDim("chunk", dim, x.ndim)] / n)), dim);
}

/**
 * Joins tensors along `dim`. Their other sizes must be equal. The parts are padded views that are added up, so the copy
 * fuses with its producers and consumers.
 * @example cat([a, b], -1)
 */
export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  if (tensors.length === 0) throw new Error("cat: no tensors given: at least one expected");
  // As in torch, tensors of shape [0] fit anything.
  const first = tensors.find((t) => !sameShape(t.shape, [0])) ?? tensors[0];
  const d = normalizeDim("cat", dim, first.ndim);
  const list = tensors.filter((t) => t.ndim === first.ndim || !sameShape(t.shape, [0]));
  for (const t of list) {
    if (t.ndim !== first.ndim || t.shape.some((n, i) => i !== d && n !== first.shape[i])) {
      throw new Error(
        `cat: sizes differ outside dim ${dim}: ${show(first.shape)} and ${show(t.shape)}: all other sizes must be equal`,
      );
    }
  }
  const filled = list.filter((t) => t.numel > 0 || t.requiresGrad);
  if (filled.length < list.length) return filled.length ? cat(filled, d) : emptyJoin(list, d);
  // A tree of at most 4 parts per node: one kernel binds few buffers.
  if (list.length > 4) {
    const middle = list.length >> 1;
    return cat([cat(list.slice(0, middle), d), cat(list.slice(middle), d)], d);
  }
  const total = list.reduce((n, t) => n + t.shape[d], 0);
  const dtype = list.map((t) => t.dtype).reduce(promote);
  let before = 0;
  const parts = list.map((part) => {
    const t = part.to(dtype);
    const at = before;
    before += t.shape[d];
    return t.pad(t.shape.map((n, i) => (i === d ? [at, total - at - n] : [0, 0])));
  });
  return parts.reduce((sum, part) => (dtype === "bool" ? sum.logicalOr(part) : sum.add(part)));
}

/** Tensors without elements joined along `d`. */
const emptyJoin = (tensors: readonly Tensor[], d: number): Tensor =>
  reshape(
    tensors[0],
    tensors[0].shape.map((n, i) => (i === d ? tensors.reduce((sum, t) => sum + t.shape[d], 0) : n)),
  );

/** Joins tensors of one shape along a new dim `dim`: n of [2, 3] give [n, 2, 3]. */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  if (tensors.length === 0) throw new Error("stack: no tensors given: at least one expected");
  const d = normalizeDim("stack", dim, tensors[0].ndim + 1);
  return cat(
    tensors.map((t) => t.unsqueeze(d)),
    d,
  );
}
