import { promote } from "../graph/dtype.ts";
import type { Attrs } from "../graph/node.ts";
import { checkOptions } from "../graph/options.ts";
import { normalizeDim, sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { visitGather } from "./indexing.ts";
import { transpose } from "./movement.ts";
import type { Extremum } from "./reduce.ts";
import { splitGather, splitRows } from "./split.ts";

/** Order of numbers where NaN is the largest and -0 equals 0. */
export const compare = (a: number, b: number): number =>
  Number.isNaN(a) || Number.isNaN(b)
    ? Number(Number.isNaN(a)) - Number(Number.isNaN(b))
    : Number(a > b) - Number(a < b);

/** x [..., n] -> i32 [..., n]: the positions that sort each row. Stable. */
const argsortOp = defineOp<{ descending: boolean }>({
  name: "argsort",
  kind: "kernel",
  split: splitRows({ flat: true }),
  reference: ([x], { descending }, { shape, dtype }) => {
    const n = shape[shape.length - 1];
    const data = new Float64Array(x.data.length);
    const sign = descending ? -1 : 1;
    for (let start = 0; start < data.length; start += n) {
      const row = x.data.subarray(start, start + n);
      data.set(
        Array.from(row, (_, i) => i).sort((a, b) => sign * compare(row[a], row[b]) || a - b),
        start,
      );
    }
    return { data, shape, dtype };
  },
});

/** `gather` with an index that is a permutation along `dim`. The gradient gathers by the inverse, where gather would scatter. */
const permuteAlongOp = defineOp<{ dim: number }>({
  name: "permute_along",
  kind: "gather",
  positionIndex: (index) => index,
  split: splitGather(false),
  vjp: (g, _y, [, index], { dim }) => [permuteAlong(g, dim, argsort(index, { dim })), null],
  reference: ([x, index], { dim }, { shape, dtype }) => {
    const data = new Float64Array(index.data.length);
    visitGather(x.shape, index, dim, (at, i) => (data[i] = x.data[at]));
    return { data, shape, dtype };
  },
});

const permuteAlong = (x: Tensor, dim: number, index: Tensor): Tensor =>
  apply(permuteAlongOp, [x, index], { dim }, x.shape, x.dtype);

export interface SortOptions {
  /** Default -1. */
  dim?: number;
  /** The largest first. Default false. */
  descending?: boolean;
  /** Sorting is always stable: equal elements keep their order. */
  stable?: boolean;
}

/**
 * Positions (i32) that sort x along a dim. Stable, also when descending. NaN counts as the largest.
 * @example x.gather(0, argsort(x, { dim: 0 }))
 */
export function argsort(x: Tensor, options: SortOptions = {}): Tensor {
  return positions("argsort", x, options);
}

function positions(op: string, x: Tensor, options: SortOptions): Tensor {
  checkOptions(op, options, ["dim", "descending", "stable"]);
  const { dim = -1, descending = false } = options;
  const d = normalizeDim(op, dim, x.ndim);
  if (x.ndim === 0) return full([], 0, "i32");
  const rows = transpose(x.detach(), d, -1);
  return transpose(apply(argsortOp, [rows], { descending }, rows.shape, "i32"), d, -1);
}

/**
 * x sorted along a dim, and the i32 positions of the elements in x. Stable, also when descending. NaN counts as the largest.
 * @example const { values, indices } = sort(x, { dim: 0, descending: true })
 */
export function sort(x: Tensor, options: SortOptions = {}): Extremum {
  const indices = positions("sort", x, options);
  if (x.ndim === 0) return { values: x, indices };
  return { values: permuteAlong(x, normalizeDim("sort", options.dim ?? -1, x.ndim), indices), indices };
}

interface SearchAttrs extends Attrs {
  readonly right: boolean;
}

/** (sorted [..., L] or [L], values [..., C]) -> i32 [..., C]: how many elements are smaller or, with `right`, not larger. */
const searchsortedOp = defineOp<SearchAttrs>({
  name: "searchsorted",
  kind: "kernel",
  reference: ([sorted, values], { right }, { shape, dtype }) => {
    const length = sorted.shape[sorted.shape.length - 1];
    const cols = values.shape[values.shape.length - 1] ?? 1;
    const data = values.data.map((v, i) => {
      const start = sorted.shape.length === 1 ? 0 : Math.floor(i / cols) * length;
      const row = sorted.data.subarray(start, start + length);
      return row.reduce((n, s) => n + Number(compare(s, v) < (right ? 1 : 0)), 0);
    });
    return { data, shape, dtype };
  },
});

export interface SearchOptions {
  /** Count elements equal to the value too. Default false. */
  right?: boolean;
}

/**
 * Positions (i32) at which `values` keep `sorted` sorted: before equal elements or, with `right`, after them. `sorted` ascends
 * along its last dim. It is [L], for values of any shape, or has the leading dims of `values`: [..., L] and [..., C] -> [..., C].
 * NaN counts as the largest. A number gives a 0-d result.
 * @example searchsorted(tensor([1, 3, 5]), tensor([3, 4])) // 1, 2
 */
export function searchsorted(sorted: Tensor, values: Tensor | number, options: SearchOptions = {}): Tensor {
  checkOptions("searchsorted", options, ["right"]);
  return search("searchsorted", sorted, typeof values === "number" ? full([], values, "f32") : values, options);
}

/**
 * Index (i32) of the bucket of each element between ascending `boundaries` [L]: boundaries[i - 1] < x <= boundaries[i] or, with
 * `right`, boundaries[i - 1] <= x < boundaries[i].
 */
export function bucketize(x: Tensor, boundaries: Tensor, options: SearchOptions = {}): Tensor {
  checkOptions("bucketize", options, ["right"]);
  if (boundaries.ndim !== 1) throw new Error(`bucketize: boundaries ${show(boundaries.shape)}: expected one dim, [L]`);
  return search("bucketize", boundaries, x, options);
}

function search(op: string, sorted: Tensor, values: Tensor, { right = false }: SearchOptions): Tensor {
  const fits = sorted.ndim === 1 || sameShape(sorted.shape.slice(0, -1), values.shape.slice(0, -1));
  if (sorted.ndim === 0 || !fits || (sorted.ndim > 1 && values.ndim !== sorted.ndim))
    throw new Error(
      `${op}: sorted ${show(sorted.shape)} does not fit values ${show(values.shape)}: expected [L], or [..., L] with the leading dims of the values`,
    );
  const dtype = promote(sorted.dtype, values.dtype);
  return apply(searchsortedOp, [sorted.to(dtype), values.to(dtype)], { right }, values.shape, "i32");
}
