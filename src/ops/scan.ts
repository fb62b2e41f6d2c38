import { isFloat, wrap } from "../graph/dtype.ts";
import type { Attrs } from "../graph/node.ts";
import type { RefArray } from "../graph/op.ts";
import { normalizeDim, numel } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp, type Split } from "./define.ts";
import { where } from "./elementwise.ts";
import { cat, transpose } from "./movement.ts";
import type { Extremum } from "./reduce.ts";
import { splitRows } from "./split.ts";

export type ScanKind = "sum" | "product" | "largest" | "smallest" | "logsumexp" | "recurrence";

export interface ScanAttrs extends Attrs {
  readonly kind: ScanKind;
  /** Not negative. */
  readonly dim: number;
  /** From the last element to the first. */
  readonly reverse: boolean;
}

/** Calls visit(at, before) for every element in the order of the scan; `before` is the element before it, -1 at the first. */
function visitScan(
  shape: readonly number[],
  { dim, reverse }: Pick<ScanAttrs, "dim" | "reverse">,
  visit: (at: number, before: number, column: number) => void,
): void {
  const [n, inner] = [shape[dim], numel(shape.slice(dim + 1))];
  for (let row = 0; row < numel(shape) / n; row++) {
    const start = Math.floor(row / inner) * n * inner + (row % inner);
    for (let c = 0; c < n; c++) {
      const at = start + (reverse ? n - 1 - c : c) * inner;
      visit(at, c === 0 ? -1 : reverse ? at + inner : at - inner, c);
    }
  }
}

/** The definition of each kind: the value at an element from the sources and the value before. */
const definitions: Record<
  ScanKind,
  (x: RefArray[], y: Float64Array, at: number, before: number, column: number) => number
> = {
  sum: ([x], y, at, before) => wrap((before < 0 ? 0 : y[before]) + x.data[at], x.dtype),
  product: ([{ data, dtype }], y, at, before) => {
    if (before < 0) return data[at];
    return isFloat(dtype) ? y[before] * data[at] : Math.imul(y[before], data[at]);
  },
  largest: (x, y, at, before, column) => best(x, y, at, before, column, (a, b) => a >= b),
  smallest: (x, y, at, before, column) => best(x, y, at, before, column, (a, b) => a <= b),
  logsumexp: ([{ data }], y, at, before) => {
    if (before < 0 || y[before] === data[at]) return data[at] + (before < 0 ? 0 : Math.LN2);
    const top = Math.max(y[before], data[at]);
    return top + Math.log1p(Math.exp(Math.min(y[before], data[at]) - top));
  },
  recurrence: ([a, b], y, at, before) => (before < 0 ? b.data[at] : a.data[at] * y[before] + b.data[at]),
};

/** Position along the dim of the best element so far: the last NaN, else the last of the best. */
function best(
  [{ data }]: RefArray[],
  y: Float64Array,
  at: number,
  before: number,
  column: number,
  wins: (a: number, b: number) => boolean,
): number {
  if (before < 0) return 0;
  const inner = at - before;
  const held = data[at - (column - y[before]) * inner];
  return Number.isNaN(data[at]) || (!Number.isNaN(held) && wins(data[at], held)) ? column : y[before];
}

const reference = (
  x: RefArray[],
  attrs: ScanAttrs,
  { shape, dtype }: { shape: readonly number[]; dtype: RefArray["dtype"] },
): RefArray => {
  const data = new Float64Array(numel(shape));
  const define = definitions[attrs.kind];
  visitScan(shape, attrs, (at, before, column) => (data[at] = define(x, data, at, before, column)));
  return { data, shape, dtype };
};

/** Parts are whole rows. Where the dim is not the last one, it is moved there first. */
const split: Split<ScanAttrs> = (node, x, cx) => {
  const last = node.shape.length - 1;
  if (!cx.large || node.attrs.dim === last) return splitRows({ flat: true })(node, x, cx);
  const moved = x.map((t) => transpose(t, node.attrs.dim, -1));
  return [
    transpose(apply(scanOp, moved, { ...node.attrs, dim: last }, moved[0].shape, node.dtype), node.attrs.dim, -1),
  ];
};

/** Running sum over the last dim: `scan` of kind "sum", as an op that a user's kernel may replace. */
const cumsumOp = defineOp({
  name: "cumsum",
  kind: "kernel",
  split: splitRows({ flat: true }),
  vjp: (g) => [scan("sum", [g], g.ndim - 1, true)],
  reference: (x, _attrs, node) => reference(x, { kind: "sum", dim: node.shape.length - 1, reverse: false }, node),
});

/** Running totals along a dim. Sources: x; of a recurrence a and b. */
const scanOp = defineOp<ScanAttrs>({
  name: "scan",
  kind: "kernel",
  split,
  vjp: (g, y, x, { kind, dim, reverse }) => {
    if (kind === "sum") return [scan("sum", [g], dim, !reverse)];
    if (kind === "product") return productGradient(g, y, x[0], dim);
    if (kind === "logsumexp") return logGradient(g, y, x[0], dim);
    return recurrenceGradient(g, y, x[0], dim, reverse);
  },
  reference,
});

function scan(kind: ScanKind, x: readonly Tensor[], dim: number, reverse = false): Tensor {
  const position = kind === "largest" || kind === "smallest";
  return apply(scanOp, [...x], { kind, dim, reverse }, x[0].shape, position ? "i32" : x[0].dtype);
}

/** x[t + by] at t along `dim`, `fill` where there is none. `by` is 1 or -1. */
function shift(x: Tensor, dim: number, by: 1 | -1, fill: number): Tensor {
  const n = x.shape[dim];
  const end = full(
    x.shape.map((size, d) => (d === dim ? 1 : size)),
    fill,
    x.dtype,
  );
  if (n === 1) return end;
  return by === 1 ? cat([x.narrow(dim, 1, n - 1), end], dim) : cat([end, x.narrow(dim, 0, n - 1)], dim);
}

/** y[t] = a[t] y[t - 1] + b[t], so dL/db[t] = h[t] = g[t] + a[t + 1] h[t + 1], and dL/da[t] = h[t] y[t - 1]. */
function recurrenceGradient(g: Tensor, y: Tensor, a: Tensor, dim: number, reverse: boolean): Tensor[] {
  const [next, before] = reverse ? ([-1, 1] as const) : ([1, -1] as const);
  const h = scan("recurrence", [shift(a, dim, next, 0), g], dim, !reverse);
  return [h.mul(shift(y, dim, before, 0)), h];
}

/** A running product is the recurrence y[t] = x[t] y[t - 1] with y[-1] = 1: no division, exact where x has zeros. */
function productGradient(g: Tensor, y: Tensor, x: Tensor, dim: number): Tensor[] {
  const h = scan("recurrence", [shift(x, dim, 1, 0), g], dim, true);
  return [h.mul(shift(y, dim, -1, 1))];
}

const LOWEST = -3.4e38;

/** dx[j] = sum over i >= j of g[i] exp(x[j] - y[i]) = exp(x[j] - y[j]) h[j] with h[j] = g[j] + exp(y[j] - y[j + 1]) h[j + 1]. */
function logGradient(g: Tensor, y: Tensor, x: Tensor, dim: number): Tensor[] {
  const empty = y.lt(LOWEST); // only -Infinity so far
  const sums = where(empty, 0, y);
  const decay = where(empty, 0, sums.sub(shift(sums, dim, 1, -LOWEST)).exp()); // 0 at the end
  const h = scan("recurrence", [decay, g], dim, true);
  return [where(empty, 0, x.sub(sums).exp()).mul(h)];
}

/** Applies a scan. A 0-d tensor is a row of one element. */
function along(op: string, x: Tensor, dim: number, make: (x: Tensor, dim: number) => Tensor): Tensor {
  const d = normalizeDim(op, dim, x.ndim);
  return x.ndim === 0 ? make(x.reshape([1]), 0).reshape([]) : make(x, d);
}

/** Running sum along `dim`. Booleans are summed as i32. Integers keep their dtype; their sums are modulo 2^32. */
export function cumsum(x: Tensor, dim: number): Tensor {
  if (x.dtype === "u32") return cumsum(x.to("i32"), dim).to("u32"); // the same bits
  return along("cumsum", isFloat(x.dtype) ? x : x.to("i32"), dim, (t, d) =>
    d === t.ndim - 1 ? apply(cumsumOp, [t], {}, t.shape, t.dtype) : scan("sum", [t], d),
  );
}

/** Running product along `dim`, of integers modulo 2^32, of booleans as i32. Gradients are exact where x has zeros. */
export function cumprod(x: Tensor, dim: number): Tensor {
  if (x.dtype === "u32") return cumprod(x.to("i32"), dim).to("u32"); // the same bits
  return along("cumprod", isFloat(x.dtype) ? x : x.to("i32"), dim, (t, d) => scan("product", [t], d));
}

/** log of the running sum of exp along `dim`, without overflow. Integers are converted to f32. */
export function logcumsumexp(x: Tensor, dim: number): Tensor {
  return along("logcumsumexp", isFloat(x.dtype) ? x : x.to("f32"), dim, (t, d) => scan("logsumexp", [t], d));
}

/** Largest elements so far along `dim`, with their i32 positions: of equal ones the last. NaN wins and stays. */
export const cummax = (x: Tensor, dim: number): Extremum => extremes("cummax", "largest", x, dim);
/** Smallest elements so far along `dim`, as `cummax`. NaN wins here too. */
export const cummin = (x: Tensor, dim: number): Extremum => extremes("cummin", "smallest", x, dim);

function extremes(op: string, kind: ScanKind, x: Tensor, dim: number): Extremum {
  const numbers = x.dtype === "bool" ? x.to("i32") : x;
  const indices = along(op, numbers, dim, (t, d) => scan(kind, [t], d));
  const values = x.ndim === 0 ? x : x.gather(dim, indices);
  return { values, indices };
}
