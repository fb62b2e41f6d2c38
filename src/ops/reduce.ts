import { type DType, highest, isFloat, lowest, wrap } from "../graph/dtype.ts";
import { extremeHelper, extremeWgsl } from "../graph/nan.ts";
import type { Attrs } from "../graph/node.ts";
import type { Op, Reducer } from "../graph/op.ts";
import { isGradEnabled } from "../graph/recording.ts";
import { normalizeDim, normalizeDims, numel, sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full, iotaOp } from "./constant.ts";
import { defineOp, type Split } from "./define.ts";
import { where } from "./elementwise.ts";
import { cat, expand, permute, reshape, stack } from "./movement.ts";
import { splitPosition, splitReduction } from "./split.ts";

export interface ReduceAttrs extends Attrs {
  /** Sorted. They stay in the result with size 1. */
  dims: readonly number[];
}
export type Dim = number | readonly number[];

interface Reduction {
  name: string;
  reducer: Reducer;
  /** Reduces one row of values in f64: the definition, for the reference. */
  row: (data: Float64Array, start: number, end: number, dtype: DType) => number;
  split: Split<ReduceAttrs>;
  vjp?: (g: Tensor, y: Tensor, x: Tensor, attrs: ReduceAttrs) => Tensor;
}

function reduction({ name, reducer, row, split, vjp }: Reduction): Op<ReduceAttrs> {
  return defineOp<ReduceAttrs>({
    name,
    kind: "reduce",
    reducer,
    split,
    vjp: vjp && ((g, y, [x], attrs) => [vjp(g, y, x, attrs)]),
    // The interpreter passes the source with its reduced dims last.
    reference: ([x], _attrs, { shape, dtype }) => {
      const rows = numel(shape);
      const width = x.data.length / rows;
      const data = new Float64Array(rows);
      for (let r = 0; r < rows; r++) data[r] = wrap(row(x.data, r * width, (r + 1) * width, x.dtype), dtype);
      return { data, shape, dtype };
    },
  });
}

export const sumOp = reduction({
  name: "sum",
  reducer: { init: () => 0, step: (a, b) => `${a} + ${b}`, additive: true },
  row: (x, start, end) => {
    let sum = 0;
    for (let i = start; i < end; i++) sum += x[i];
    return sum;
  },
  split: splitReduction((a, b) => a.add(b)),
  vjp: (g, _y, x) => expand(g, x.shape),
});
/** Ties share the gradient evenly, and NaN is a tie with NaN. */
const extremumVjp: Reduction["vjp"] = (g, y, x, { dims }) => {
  const hit = x.eq(y).logicalOr(x.ne(x)).to(g.dtype);
  return hit.mul(g.div(hit.sum(dims, true)));
};
const LARGEST: Reducer = {
  init: lowest,
  step: (a, b, type) => extremeWgsl("max", a, b, type),
  helpers: (type) => extremeHelper("max", type),
  quick: (a, b) => `max(${a}, ${b})`,
};
const SMALLEST: Reducer = {
  init: highest,
  step: (a, b, type) => extremeWgsl("min", a, b, type),
  helpers: (type) => extremeHelper("min", type),
  quick: (a, b) => `min(${a}, ${b})`,
};
const maxOp = reduction({
  name: "max",
  reducer: LARGEST,
  row: (x, start, end) => {
    let best = x[start];
    for (let i = start + 1; i < end; i++) if (x[i] > best || Number.isNaN(x[i])) best = x[i];
    return best;
  },
  split: splitReduction((a, b) => a.maximum(b)),
  vjp: extremumVjp,
});
const minOp = reduction({
  name: "min",
  reducer: SMALLEST,
  row: (x, start, end) => {
    let best = x[start];
    for (let i = start + 1; i < end; i++) if (x[i] < best || Number.isNaN(x[i])) best = x[i];
    return best;
  },
  split: splitReduction((a, b) => a.minimum(b)),
  vjp: extremumVjp,
});
const prodOp = reduction({
  name: "prod",
  reducer: { init: () => 1, step: (a, b) => `${a} * ${b}` },
  row: (x, start, end, dtype) => {
    const multiply = isFloat(dtype) ? (a: number, b: number) => a * b : Math.imul;
    let product = 1;
    for (let i = start; i < end; i++) product = multiply(product, x[i]);
    return product;
  },
  split: splitReduction((a, b) => a.mul(b)),
  // Product of the other elements: y / x. At the only zero of a row it is the product of the non-zero elements.
  vjp: (g, y, x, { dims }) => {
    if (isGradEnabled()) return g.mul(others(x, dims)); // y / x has no second derivative at zeros
    const zero = x.eq(0);
    const zeros = zero.sum(dims, true);
    const rest = reduce(prodOp, where(zero, 1, x), dims, true);
    return g.mul(where(zero, where(zeros.eq(1), rest, 0), y.div(where(zero, 1, x))));
  },
});
/** For each element the product of the others along `dims`, in ops that can be differentiated everywhere. */
function others(x: Tensor, dims: readonly number[]): Tensor {
  const order = x.shape
    .map((_, d) => d)
    .filter((d) => !dims.includes(d))
    .concat(dims);
  const last = permute(x, order);
  const product = otherProducts(reshape(last, [-1, dims.reduce((n, d) => n * x.shape[d], 1)]));
  return permute(
    reshape(product, last.shape),
    order.map((_, d) => order.indexOf(d)),
  );
}
/** Of rows [N, n]: the product of the others in its pair, times the products of all other pairs. */
function otherProducts(x: Tensor): Tensor {
  const [N, n] = x.shape;
  if (n === 1) return full([N, 1], 1, x.dtype);
  const even = n % 2 === 0 ? x : cat([x, full([N, 1], 1, x.dtype)], 1);
  const pairs = reshape(even, [N, -1, 2]); // [N, n/2, 2]
  const [a, b] = [pairs.select(2, 0), pairs.select(2, 1)];
  const rest = otherProducts(a.mul(b)); // [N, n/2]
  return reshape(stack([rest.mul(b), rest.mul(a)], 2), [N, -1]).narrow(1, 0, n);
}
/** Position of the first NaN, else of the first of the best values. */
function position(better: (a: number, b: number) => boolean): Reduction["row"] {
  return (x, start, end) => {
    let best = start;
    for (let i = start; i < end; i++) {
      if (Number.isNaN(x[i])) return i - start;
      if (better(x[i], x[best])) best = i;
    }
    return best - start;
  };
}
const argmaxOp = reduction({
  name: "argmax",
  reducer: { ...LARGEST, position: ">" },
  row: position((a, b) => a > b),
  split: splitPosition((a, b) => a.gt(b)),
});
const argminOp = reduction({
  name: "argmin",
  reducer: { ...SMALLEST, position: "<" },
  row: position((a, b) => a < b),
  split: splitPosition((a, b) => a.lt(b)),
});

/** Applies a reduction over `dim` (all dims if undefined), and drops the reduced dims unless `keepdim`. */
function reduce(op: Op, x: Tensor, dim: Dim | undefined, keepdim: boolean, dtype: DType = x.dtype): Tensor {
  const dims = normalizeDims(op.name, dim, x.ndim).filter((d) => d < x.ndim);
  const kept = x.shape.map((n, i) => (dims.includes(i) ? 1 : n));
  if (x.numel === 0 && numel(kept) > 0 && [maxOp, minOp, argmaxOp, argminOp].includes(op))
    throw new Error(`${op.name}: no elements along dims ${show(dims)} of ${show(x.shape)}: expected at least one`);
  const value = sameShape(kept, x.shape) && dtype === x.dtype ? x : apply(op, [x], { dims }, kept, dtype);
  return keepdim
    ? value
    : reshape(
        value,
        x.shape.filter((_, i) => !dims.includes(i)),
      );
}

/** Sum over dims. Booleans are summed as i32. Integers keep their dtype; their sums are modulo 2^32. */
export function sum(x: Tensor, dim?: Dim, keepdim = false): Tensor {
  return reduce(sumOp, number(x), dim, keepdim);
}

/** Mean over dims. Integers and halves are summed in f32: the sum of halves may be beyond 65504 where the mean is not. */
export function mean(x: Tensor, dim?: Dim, keepdim = false): Tensor {
  if (x.dtype === "f16") return mean(x.to("f32"), dim, keepdim).to("f16");
  const dims = normalizeDims("mean", dim, x.ndim).filter((d) => d < x.ndim);
  const count = dims.reduce((n, d) => n * x.shape[d], 1);
  // Divides before it drops dims: 0-d values are read back, and so only the result may be one.
  const total = sum(isFloat(x.dtype) ? x : x.to("f32"), dims, true);
  const value = count === 0 ? total.add(NaN) : total.div(count);
  return keepdim ? value : dropDims(value, dims);
}

/** Variance over dims, divided by n - correction (default 1). Two passes, which avoids cancellation. */
export function variance(
  x: Tensor,
  { dim, correction = 1, keepdim = false }: { dim?: Dim; correction?: number; keepdim?: boolean } = {},
): Tensor {
  if (x.dtype === "f16") return variance(x.to("f32"), { dim, correction, keepdim }).to("f16");
  const dims = normalizeDims("var", dim, x.ndim);
  const count = dims.reduce((n, d) => n * x.shape[d], 1);
  const total = sum(x.sub(mean(x, dims, true)).square(), dims, true);
  const value = count === 0 ? total.add(NaN) : total.div(Math.max(0, count - correction));
  return keepdim ? value : dropDims(value, dims);
}

/** Largest element over dims. NaN wins. Ties share the gradient. */
export const amax = (x: Tensor, dim?: Dim, keepdim = false): Tensor => reduce(maxOp, number(x), dim, keepdim);
/** Smallest element over dims. NaN wins. Ties share the gradient. */
export const amin = (x: Tensor, dim?: Dim, keepdim = false): Tensor => reduce(minOp, number(x), dim, keepdim);
/** Product over dims. */
export const prod = (x: Tensor, dim?: Dim, keepdim = false): Tensor => reduce(prodOp, number(x), dim, keepdim);
/** Booleans as i32. */
const number = (x: Tensor): Tensor => (x.dtype === "bool" ? x.to("i32") : x);

/** Index (i32) of the first largest element along `dim`; without it, in the flattened tensor. */
export const argmax = (x: Tensor, dim?: number, keepdim = false): Tensor => argument(argmaxOp, x, dim, keepdim);
/** Index (i32) of the first smallest element along `dim`; without it, in the flattened tensor. */
export const argmin = (x: Tensor, dim?: number, keepdim = false): Tensor => argument(argminOp, x, dim, keepdim);

function argument(op: Op, x: Tensor, dim: number | undefined, keepdim: boolean): Tensor {
  const values = number(x);
  if (dim !== undefined) return reduce(op, values, normalizeDim(op.name, dim, x.ndim), keepdim, "i32");
  return reduce(op, reshape(values, [-1]), 0, false, "i32").reshape(keepdim ? x.shape.map(() => 1) : []);
}

export interface Extremum {
  /** Their gradient goes to the selected elements only. */
  values: Tensor;
  /** Positions along the dim, i32. */
  indices: Tensor;
}
export const maxAlong = (x: Tensor, dim: number, keepdim = false): Extremum => extremum(argmaxOp, x, dim, keepdim);
export const minAlong = (x: Tensor, dim: number, keepdim = false): Extremum => extremum(argminOp, x, dim, keepdim);

function extremum(op: Op, x: Tensor, dim: number, keepdim: boolean): Extremum {
  const d = normalizeDim(op.name, dim, x.ndim);
  const at = argument(op, x, d, true);
  const values = number(x).gather(d, at);
  return keepdim ? { values, indices: at } : { values: dropDims(values, [d]), indices: dropDims(at, [d]) };
}

/** log(sum(exp(x))) over dims, shifted by the largest element so that it does not overflow. */
export function logsumexp(x: Tensor, dim: Dim, keepdim = false): Tensor {
  if (x.dtype === "f16") return logsumexp(x.to("f32"), dim, keepdim).to("f16");
  const dims = normalizeDims("logsumexp", dim, x.ndim);
  if (dims.some((d) => x.shape[d] === 0)) return x.exp().sum(dims, keepdim).log(); // log 0
  const largest = amax(x.detach(), dims, true);
  const top = where(largest.abs().lt(Infinity), largest, 0); // a row of only -Infinity gives no NaN
  const value = x.sub(top).exp().sum(dims, true).log().add(top);
  return keepdim ? value : dropDims(value, dims);
}

/** Drops dims of size 1. */
const dropDims = (x: Tensor, dims: readonly number[]): Tensor =>
  reshape(
    x,
    x.shape.filter((_, i) => !dims.includes(i)),
  );

/** 0, 1, 2, … along `dim`, shaped to broadcast against a tensor of `rank` dims. */
export function positionsAlong(dim: number, size: number, rank: number): Tensor {
  const counts = apply(iotaOp, [], { start: 0, step: 1 }, [size], "i32");
  return reshape(
    counts,
    Array.from({ length: rank }, (_, i) => (i === dim ? size : 1)),
  );
}
