import { type DType, isFloat, promote } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { broadcastShapes, normalizeDim, sameShape, show } from "../graph/shape.ts";
import { apply, Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { maskedFill, where } from "./elementwise.ts";
import { hostOf, onHost } from "./host.ts";
import { checkGather, checkIndex, linearPositions, visitGather } from "./indexing.ts";
import { tensor } from "./leaf.ts";
import { expand, reshape } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";
import { lastWriter, writeRows } from "./rows.ts";
import { movedim } from "./shape.ts";
import { splitScatter } from "./split.ts";

/** @throws unless values of `source` may be written into x, whose dtype the result keeps. */
export function sourceFor(op: string, x: Tensor, source: Tensor): Tensor {
  if (promote(x.dtype, source.dtype) !== x.dtype)
    throw new TypeError(
      `${op}: values of dtype ${source.dtype} do not fit a tensor of ${x.dtype} ${show(x.shape)}: cast one of them`,
    );
  return source.to(x.dtype);
}

/** Integer positions in a dim of `size`, counted from its start. On the host they are checked, and negative ones count from the end. */
export function fromStart(op: string, index: Tensor, size: number): Tensor {
  if (index.dtype !== "i32" && index.dtype !== "u32")
    throw new TypeError(`${op}: indices must be i32 or u32, got ${index.dtype} ${show(index.shape)}`);
  const host = hostOf(index);
  if (!host) return index.dtype === "u32" ? index : where(index.lt(0), index.add(size), index);
  const bad = host.find((i) => i < -size || i >= size);
  if (bad !== undefined)
    throw new RangeError(`${op}: index ${bad} is out of range for size ${size}: expected ${-size} to ${size - 1}`);
  if (!host.some((i) => i < 0)) return index;
  return tensor(
    Int32Array.from(host, (i) => (i < 0 ? i + size : i)),
    { shape: index.shape },
  );
}

/** `linear`, or -1 where an index that only the device knows is outside [0, size): -1 reads 0 and writes nothing. */
export const guarded = (linear: Tensor, index: Tensor, size: number): Tensor =>
  hostOf(index) ? linear : where(index.ge(0).logicalAnd(index.lt(size)), linear, -1);

/**
 * x with out[index[i][j]][j] = source[i][j] (for dim 0). `index` has the rank of x, and no other dim is larger than in x or in
 * source. Of equal positions the last one in row-major order stays; torch leaves that open.
 * @param source a tensor, or one number for all positions
 */
export function scatter(x: Tensor, dim: number, index: Tensor, source: Tensor | number): Tensor {
  const d = checkGather("scatter", x, dim, index);
  const positions = reshape(guarded(linearPositions(x.shape, d, index), index, x.shape[d]), [-1]);
  if (typeof source === "number") {
    if (index.numel === 0) return x;
    return maskedFill(x, reshape(lastWriter(positions, x.numel).ge(0), x.shape), source);
  }
  const values = sourceFor("scatter", x, part("scatter", index, source));
  if (index.numel === 0) return x;
  return reshape(writeRows(reshape(x, [-1, 1]), positions, reshape(values, [-1, 1])), x.shape);
}

/** The elements of `source` that have an index. */
function part(op: string, index: Tensor, source: Tensor): Tensor {
  if (!(source instanceof Tensor)) throw new TypeError(`${op}: source must be a tensor, got ${typeof source}`);
  if (source.ndim !== index.ndim || index.shape.some((n, i) => n > source.shape[i]))
    throw new Error(
      `${op}: index ${show(index.shape)} is larger than source ${show(source.shape)}: each index needs a source element`,
    );
  return source.slice(index.shape.map((n) => [0, n]));
}

interface ReduceAttrs extends Record<string, unknown> {
  dim: number;
  reduce: "prod" | "amax" | "amin";
}

const steps: Record<ReduceAttrs["reduce"], (a: number, b: number) => number> = {
  prod: (a, b) => a * b,
  amax: (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : a > b ? a : b),
  amin: (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : a < b ? a : b),
};

/** x combined with the elements of `source` at `index` along dim. */
const scatterReduceOp = defineOp<ReduceAttrs>({
  name: "scatter_reduce",
  kind: "kernel",
  split: splitScatter,
  reference: ([x, index, source], { dim, reduce }, { shape, dtype }) => {
    const data = x.data.slice();
    visitGather(shape, index, dim, (at, i) => {
      if (index.data[i] >= 0 && index.data[i] < shape[dim]) data[at] = steps[reduce](data[at], source.data[i]);
    });
    return { data, shape, dtype };
  },
  vjp: (g, y, [x, index, source], attrs) => {
    const [gx, gs] =
      attrs.reduce === "prod" ? productVjp(g, y, x, index, source, attrs) : extremumVjp(g, y, x, index, source, attrs);
    return [gx, null, gs];
  },
});

/** Equal extrema share the gradient evenly. */
function extremumVjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, source: Tensor, { dim }: ReduceAttrs): Tensor[] {
  const hit = x.eq(y).to(g.dtype);
  const hits = source.eq(y.gather(dim, index)).to(g.dtype);
  const share = g.div(hit.scatterAdd(dim, index, hits));
  return [share.mul(hit), share.gather(dim, index).mul(hits)];
}

/** Product of the other factors: y / x. For the only zero it is the product of the others, and 0 beside another zero. */
function productVjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, source: Tensor, attrs: ReduceAttrs): Tensor[] {
  const { dim } = attrs;
  const [zero, zeroSource] = [x.eq(0), source.eq(0)];
  const zeros = zero.int().scatterAdd(dim, index, zeroSource.int());
  const [ones, sourceOnes] = [where(zero, 1, x), where(zeroSource, 1, source)];
  const rest = apply(scatterReduceOp, [ones, index, sourceOnes], attrs, x.shape, x.dtype);
  const others = where(zeros.eq(1), rest, 0);
  const pick = (t: Tensor): Tensor => t.gather(dim, index);
  return [
    g.mul(where(zero, others, y.div(ones))),
    pick(g).mul(where(zeroSource, pick(others), pick(y).div(sourceOnes))),
  ];
}

export type ScatterReduction = "sum" | "prod" | "mean" | "amax" | "amin";

const identities: Record<"sum" | "prod" | "mean", number> = { sum: 0, prod: 1, mean: 0 };
const extremes: Record<DType, { amax: number; amin: number }> = {
  f32: { amax: -Infinity, amin: Infinity },
  f16: { amax: -Infinity, amin: Infinity },
  i32: { amax: -2147483648, amin: 2147483647 },
  u32: { amax: 0, amin: 4294967295 },
  bool: { amax: 0, amin: 1 },
};

/**
 * x combined with the elements of `source` at `index` along `dim`, in a fixed order. Shapes as in `scatter`.
 * @param reduce "sum", "prod", "mean", "amax" or "amin". Equal extrema share the gradient.
 * @param options includeSelf (default true): the old element takes part. Else it is dropped where anything arrives.
 * @throws for booleans, and for the mean of integers: cast first.
 */
export function scatterReduce(
  x: Tensor,
  dim: number,
  index: Tensor,
  source: Tensor,
  reduce: ScatterReduction,
  options: { includeSelf?: boolean } = {},
): Tensor {
  checkOptions("scatterReduce", options, ["includeSelf"]);
  const { includeSelf = true } = options;
  if (!(reduce in identities) && reduce !== "amax" && reduce !== "amin")
    throw new Error(`scatterReduce: unknown reduction ${reduce}: expected sum, prod, mean, amax or amin`);
  const d = checkGather("scatterReduce", x, dim, index);
  const used = part("scatterReduce", index, source);
  if (x.dtype === "bool" || (reduce === "mean" && !isFloat(x.dtype)))
    throw new TypeError(
      `scatterReduce: ${reduce} of ${x.dtype} ${show(x.shape)}: cast to ${x.dtype === "bool" ? "i32" : "f32"} first`,
    );
  const values = sourceFor("scatterReduce", x, used);
  if (index.numel === 0) return x;
  const arrivals = full(x.shape, 0, "i32").scatterAdd(d, index, full(index.shape, 1, "i32"));
  const identity = reduce === "amax" || reduce === "amin" ? extremes[x.dtype][reduce] : identities[reduce];
  const start = includeSelf ? x : where(arrivals.gt(0), identity, x);
  if (reduce === "sum") return start.scatterAdd(d, index, values);
  if (reduce === "mean") {
    const count = arrivals.add(Number(includeSelf)).maximum(1).to(x.dtype);
    return start.scatterAdd(d, index, values).div(count);
  }
  return apply(scatterReduceOp, [start, index, values], { dim: d, reduce }, x.shape, x.dtype);
}

/** A 1-D index along a dim, and the shape of its slices. */
function slicesOf(op: string, x: Tensor, dim: number, index: Tensor): { d: number; shape: number[] } {
  const d = normalizeDim(op, dim, x.ndim);
  if (index.ndim !== 1 || x.ndim === 0)
    throw new Error(
      `${op}: index ${show(index.shape)} for ${show(x.shape)}: expected a 1-D index, and at least one dim`,
    );
  checkIndex(op, index, x.shape[d]);
  return { d, shape: x.shape.map((n, i) => (i === d ? index.shape[0] : n)) };
}

/** x whose slices at the 1-D `index` of `dim` are those of `source`. Of equal positions the last one stays. */
export function indexCopy(x: Tensor, dim: number, index: Tensor, source: Tensor): Tensor {
  const { d, shape } = slicesOf("indexCopy", x, dim, index);
  if (!sameShape(source.shape, shape))
    throw new Error(
      `indexCopy: source ${show(source.shape)} for ${index.numel} slices along dim ${dim} of ${show(x.shape)}: expected ${show(shape)}`,
    );
  const values = sourceFor("indexCopy", x, source);
  if (x.numel === 0 || values.numel === 0) return x;
  const first = movedim(x, d, 0);
  const matrix = (t: Tensor): Tensor => reshape(t, [t.shape[0], -1]);
  const written = writeRows(matrix(first), index, matrix(movedim(values, d, 0)));
  return movedim(reshape(written, first.shape), 0, d);
}

/** x whose slices at the 1-D `index` of `dim` are `value`. */
export function indexFill(x: Tensor, dim: number, index: Tensor, value: number): Tensor {
  const { d } = slicesOf("indexFill", x, dim, index);
  if (index.numel === 0 || x.numel === 0) return x;
  const hit = reshape(
    lastWriter(index, x.shape[d]).ge(0),
    x.shape.map((n, i) => (i === d ? n : 1)),
  );
  return maskedFill(x, hit, value);
}

/** out[i][j] = x[index[i][j]][j] (for dim 0): as `gather`, but the other dims broadcast. Without `dim`, of the flattened x. */
export function takeAlongDim(x: Tensor, index: Tensor, dim?: number): Tensor {
  if (dim === undefined) return reshape(x, [-1]).gather(0, reshape(index, [-1]));
  const d = normalizeDim("takeAlongDim", dim, x.ndim);
  if (index.ndim !== x.ndim)
    throw new Error(`takeAlongDim: index ${show(index.shape)} and ${show(x.shape)}: expected equal rank, or no dim`);
  const without = (t: Tensor): number[] => t.shape.map((n, i) => (i === d ? 1 : n));
  const others = broadcastShapes("takeAlongDim", without(x), without(index));
  const spread = (t: Tensor): Tensor =>
    expand(
      t,
      others.map((n, i) => (i === d ? t.shape[d] : n)),
    );
  return spread(x).gather(d, spread(index));
}

/** Elements of the flattened x at `index`, in the shape of `index`. Negative positions count from the end. */
export function take(x: Tensor, index: Tensor): Tensor {
  const at = fromStart("take", index, x.numel);
  return reshape(reshape(x, [-1]).indexSelect(0, reshape(at, [-1])), index.shape);
}

/**
 * i32 [..., numClasses]: 1 at each id, else 0. Ids on the device outside [0, numClasses) give a row of zeros.
 * @param numClasses -1 (default): the largest id + 1; the ids must then be on the host
 * @example oneHot(tensor([2, 0], { dtype: "i32" }), 3) // [[0, 0, 1], [1, 0, 0]]
 */
export function oneHot(ids: Tensor, numClasses = -1): Tensor {
  if (!(ids instanceof Tensor) || (ids.dtype !== "i32" && ids.dtype !== "u32"))
    throw new TypeError(
      `oneHot: ids must be an i32 or u32 tensor, got ${ids instanceof Tensor ? ids.dtype : typeof ids}`,
    );
  if (!Number.isInteger(numClasses) || numClasses < -1)
    throw new RangeError(`oneHot: numClasses ${numClasses}: expected a whole number, or -1 for the largest id + 1`);
  const classes = numClasses >= 0 ? numClasses : 1 + largest(onHost("oneHot", "ids", ids));
  if (numClasses < 0 && ids.numel === 0)
    throw new Error(`oneHot: no ids ${show(ids.shape)} tell the number of classes: pass numClasses`);
  checkIndex("oneHot", ids, classes);
  return ids
    .to("i32")
    .unsqueeze(-1)
    .eq(positionsAlong(ids.ndim, classes, ids.ndim + 1))
    .to("i32");
}

function largest(values: ArrayLike<number>): number {
  let best = -1;
  for (let i = 0; i < values.length; i++) best = Math.max(best, values[i]);
  return best;
}
