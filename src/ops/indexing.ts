import { untracked } from "../graph/build.ts";
import { isComposing } from "../graph/compose.ts";
import { promote } from "../graph/dtype.ts";
import type { RefArray } from "../graph/op.ts";
import { checksIndices, noteCheck } from "../graph/pending.ts";
import { withRecording } from "../graph/recording.ts";
import { normalizeDim, numel, type Shape, sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { cat, expand, reshape } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";
import { splitAdd, splitGather, splitScatter } from "./split.ts";

interface DimAttrs extends Record<string, unknown> {
  dim: number;
}

/**
 * For every element i of `index` that lies in [0, size of dim): calls visit(at, i), where `at` is the position in x that the
 * element selects along dim.
 */
export function visitGather(
  x: RefArray["shape"],
  index: RefArray,
  dim: number,
  visit: (at: number, i: number) => void,
): void {
  const strides = x.map((_, d) => numel(x.slice(d + 1)));
  const at = new Array<number>(x.length).fill(0);
  for (let i = 0; i < index.data.length; i++) {
    let p = index.data[i] * strides[dim];
    for (let d = 0; d < x.length; d++) if (d !== dim) p += at[d] * strides[d];
    if (index.data[i] >= 0 && index.data[i] < x[dim]) visit(p, i);
    for (let d = x.length - 1; d >= 0 && ++at[d] === index.shape[d]; d--) at[d] = 0;
  }
}

/**
 * For every slice of x that the 1-D `index` selects along dim, indices outside of it left out: calls visit(at, row, run) for each run of contiguous elements.
 * `at` is its start in x, `row` its start among the selected slices, `run` its length.
 */
function visitRows(
  x: RefArray["shape"],
  index: RefArray,
  dim: number,
  visit: (at: number, row: number, run: number) => void,
): void {
  const run = numel(x.slice(dim + 1));
  const outer = numel(x.slice(0, dim));
  const count = index.data.length;
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < count; i++) {
      const at = index.data[i];
      if (at >= 0 && at < x[dim]) visit((o * x[dim] + at) * run, (o * count + i) * run, run);
    }
  }
}

/** out[i][j] = x[i][index[i][j]], here for dim 1. x and index have equal rank. */
const gatherOp = defineOp<DimAttrs>({
  name: "gather",
  kind: "gather",
  positionIndex: (index) => index,
  split: splitGather(false),
  vjp: (g, _y, [x, index], { dim }) => {
    if (
      index.shape[dim] !== 1 ||
      !sameShape(
        x.shape.filter((_, i) => i !== dim),
        index.shape.filter((_, i) => i !== dim),
      )
    ) {
      return [full(x.shape, 0, x.dtype).scatterAdd(dim, index, g), null];
    }
    // One element per row: compare positions with the index instead of scattering.
    return [where(positionsAlong(dim, x.shape[dim], x.ndim).eq(index), g, 0), null];
  },
  reference: ([x, index], { dim }, { shape, dtype }) => {
    const data = new Float64Array(index.data.length);
    visitGather(x.shape, index, dim, (at, i) => (data[i] = x.data[at]));
    return { data, shape, dtype };
  },
});

/** Slices of x along dim, selected by a 1-D index. */
const indexSelectOp = defineOp<DimAttrs>({
  name: "index_select",
  kind: "gather",
  positionIndex: (index, { dim }) => [index[dim]],
  split: splitGather(true),
  vjp: (g, _y, [x, index], { dim }) => [
    apply(indexSumOp, [index, g], { dim, size: x.shape[dim] }, x.shape, x.dtype),
    null,
  ],
  reference: ([x, index], { dim }, { shape, dtype }) => {
    const data = new Float64Array(numel(shape));
    visitRows(x.shape, index, dim, (at, row, run) => data.set(x.data.subarray(at, at + run), row));
    return { data, shape, dtype };
  },
});

/** x plus the slices of `source`, added at a 1-D index along dim. Repeated indices accumulate. */
const indexAddOp = defineOp<DimAttrs>({
  name: "index_add",
  kind: "kernel",
  split: splitAdd,
  vjp: (g, _y, [, index], { dim }) => [g, null, g.indexSelect(dim, index)],
  reference: ([x, index, source], { dim }, { shape, dtype }) => {
    const data = x.data.slice();
    visitRows(shape, index, dim, (at, row, run) => {
      for (let k = 0; k < run; k++) data[at + k] += source.data[row + k];
    });
    return { data, shape, dtype };
  },
  // Where many positions share few ids: position n adds to copy n mod S of the rows, and the copies are summed. Each sum is short.
  fallback: ([x, index, source], { dim }) => {
    const size = x.shape[dim];
    const copies = Math.max(2, Math.ceil(index.shape[0] / (8 * size)));
    const copy = positionsAlong(0, index.shape[0], 1).mod(copies).mul(size);
    const inside = index.ge(0).logicalAnd(index.lt(size));
    const at = where(inside, index.to("i32").add(copy), -1);
    const shape = x.shape.map((n, d) => (d === dim ? copies * size : n));
    const sums = apply(indexSumOp, [at, source], { dim, size: copies * size }, shape, x.dtype);
    const apart = reshape(sums, [...shape.slice(0, dim), copies, size, ...shape.slice(dim + 1)]);
    return x.add(apart.sum(dim));
  },
});

/** Zeros plus the slices of `source`, added at a 1-D index along dim: the transpose of index_select. */
const indexSumOp = defineOp<DimAttrs & { size: number }>({
  name: "index_sum",
  kind: "kernel",
  vjp: (g, _y, [index], { dim }) => [null, g.indexSelect(dim, index)],
  fallback: ([index, source], { dim, size }) =>
    full(
      source.shape.map((n, d) => (d === dim ? size : n)),
      0,
      source.dtype,
    ).indexAdd(dim, index, source),
});

/** x plus the elements of `source`, added at `index` along dim: the transpose of gather. Repeated indices accumulate. */
const scatterAddOp = defineOp<DimAttrs>({
  name: "scatter_add",
  kind: "kernel",
  split: splitScatter,
  vjp: (g, _y, [, index], { dim }) => [g, null, g.gather(dim, index)],
  reference: ([x, index, source], { dim }, { shape, dtype }) => {
    const data = x.data.slice();
    visitGather(shape, index, dim, (at, i) => (data[at] += source.data[i]));
    return { data, shape, dtype };
  },
  // Without a lowering, where one invocation per line would be too few: as rows of one element.
  fallback: ([x, index, source], { dim }) => {
    const size = x.shape[dim];
    const inside = index.ge(0).logicalAnd(index.lt(size));
    const positions = reshape(where(inside, linearPositions(x.shape, dim, index), -1), [-1]);
    const sources = [reshape(x, [-1]), positions, reshape(source, [-1])];
    return reshape(apply(indexAddOp, sources, { dim: 0 }, [x.numel], x.dtype), x.shape);
  },
});

/** i32 row-major position in a tensor of `shape` of each element that `index` selects along `dim`. */
export const linearPositions = (shape: Shape, dim: number, index: Tensor): Tensor =>
  index.shape.reduce(
    (sum, n, i) => (i === dim ? sum : sum.add(positionsAlong(i, n, shape.length).mul(numel(shape.slice(i + 1))))),
    index.to("i32").mul(numel(shape.slice(dim + 1))),
  );

/**
 * @throws unless indices are integers. Indices on the host must lie in [0, size). Those that the device computes are not read
 * back: outside of [0, size) they select 0, and add or write nothing. `init({ checkIndices: true })` makes that an error.
 */
export function checkIndex(op: string, index: Tensor, size: number): void {
  if (index.dtype !== "i32" && index.dtype !== "u32")
    throw new TypeError(`${op}: indices must be i32 or u32, got ${index.dtype}`);
  if (isComposing()) return;
  const bad = index.node.host?.find((i) => i < 0 || i >= size);
  if (bad !== undefined)
    throw new RangeError(`${op}: index ${bad} is out of range for size ${size}: expected 0 to ${size - 1}`);
  if (!index.node.host)
    checkComputed(op, index, (i) => i.lt(0).logicalOr(i.ge(size)), `size ${size}: expected 0 to ${size - 1}`);
}

/** With `init({ checkIndices: true })`: the next flush throws if an element of `index` is bad, with its position. */
export function checkComputed(op: string, index: Tensor, bad: (index: Tensor) => Tensor, expected: string): void {
  if (!checksIndices() || index.numel === 0) return;
  const first = untracked(() =>
    withRecording(false, () => {
      const flat = reshape(index.to("i32"), [-1]);
      const count = flat.shape[0];
      const at = positionsAlong(0, count, 1);
      const first = where(bad(flat), at, count).amin(0, true); // [1]
      return cat([first, where(at.eq(first), flat, 0).sum(0, true)]); // position, index
    }),
  );
  noteCheck(first.node, ({ 0: at, 1: value }) => {
    if (at >= index.numel) return;
    const position = index.shape.map((n, d) => Math.floor(at / numel(index.shape.slice(d + 1))) % n);
    throw new RangeError(`${op}: index ${value} at ${show(position)} is out of range for ${expected}`);
  });
}

export function checkGather(op: string, x: Tensor, dim: number, index: Tensor): number {
  const d = normalizeDim(op, dim, x.ndim);
  if (index.ndim !== x.ndim || index.shape.some((n, i) => i !== d && n > x.shape[i])) {
    throw new Error(
      `${op}: index ${show(index.shape)} does not fit ${show(x.shape)} along dim ${dim}: expected equal rank, and no other dim larger`,
    );
  }
  checkIndex(op, index, x.shape[d]);
  return d;
}

export function gather(x: Tensor, dim: number, index: Tensor): Tensor {
  const d = checkGather("gather", x, dim, index);
  return apply(gatherOp, [x, index], { dim: d }, index.shape, x.dtype);
}

export function scatterAdd(x: Tensor, dim: number, index: Tensor, source: Tensor): Tensor {
  const d = checkGather("scatterAdd", x, dim, index);
  if (source.ndim !== index.ndim || index.shape.some((n, i) => n > source.shape[i])) {
    throw new Error(
      `scatterAdd: index ${show(index.shape)} is larger than source ${show(source.shape)}: each index needs a source element`,
    );
  }
  const dtype = promote(x.dtype, source.dtype);
  const used = source.slice(index.shape.map((n) => [0, n]));
  return apply(scatterAddOp, [x.to(dtype), index, used.to(dtype)], { dim: d }, x.shape, dtype);
}

export function indexSelect(x: Tensor, dim: number, index: Tensor): Tensor {
  const d = normalizeDim("indexSelect", dim, x.ndim);
  if (index.ndim !== 1) throw new Error(`indexSelect: a 1-D index expected, got ${show(index.shape)}`);
  checkIndex("indexSelect", index, x.shape[d]);
  return apply(
    indexSelectOp,
    [x, index],
    { dim: d },
    x.shape.map((n, i) => (i === d ? index.shape[0] : n)),
    x.dtype,
  );
}

export function indexAdd(x: Tensor, dim: number, index: Tensor, source: Tensor): Tensor {
  const d = normalizeDim("indexAdd", dim, x.ndim);
  const expected = x.shape.map((n, i) => (i === d ? index.shape[0] : n));
  if (index.ndim !== 1 || !sameShape(source.shape, expected)) {
    throw new Error(
      `indexAdd: index ${show(index.shape)} and source ${show(source.shape)} do not fit ${show(x.shape)} along dim ${dim}: expected a 1-D index, and source ${show(expected)}`,
    );
  }
  checkIndex("indexAdd", index, x.shape[d]);
  const dtype = promote(x.dtype, source.dtype);
  return apply(indexAddOp, [x.to(dtype), index, source.to(dtype)], { dim: d }, x.shape, dtype);
}

/** Keeps one triangle of the last two dims, diagonal included. The other elements become 0. */
export function triangle(x: Tensor, diagonal: number, part: "lower" | "upper"): Tensor {
  if (!Number.isInteger(diagonal))
    throw new RangeError(`${part === "lower" ? "tril" : "triu"}: diagonal ${diagonal}: expected a whole number`);
  if (x.ndim < 2)
    throw new Error(`${part === "lower" ? "tril" : "triu"}: at least two dims expected, got ${show(x.shape)}`);
  const [rows, columns] = [
    positionsAlong(x.ndim - 2, x.shape[x.ndim - 2], x.ndim),
    positionsAlong(x.ndim - 1, x.shape[x.ndim - 1], x.ndim),
  ];
  const distance = columns.sub(rows);
  return where(
    expand(part === "lower" ? distance.le(diagonal) : distance.ge(diagonal), x.shape),
    x,
    full([], 0, x.dtype),
  );
}
