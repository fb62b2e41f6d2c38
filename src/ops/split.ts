import type { SplitContext, SplitNode, Stretch } from "../graph/op.ts";
import { apply, applyMany, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import type { Split } from "./define.ts";
import { where } from "./elementwise.ts";
import { cat, expand } from "./movement.ts";

// `split` rules: ops on tensors larger than one binding become ops on parts, reductions of nothing their identity.
// Elementwise ops need no rule: code generation cuts their kernels. A part that is still too large is split again.

/** Splits a reduction. Parts along a kept dim are concatenated; parts along a reduced dim are combined. */
export function splitReduction(combine: (a: Tensor, b: Tensor) => Tensor): Split<{ dims: readonly number[] }> {
  return (node, [x], cx) =>
    reduceParts(node, x, cx, (parts) => parts.map((p) => p.value).reduce((a, b) => combine(a, b)));
}

/** Splits argmax and argmin: the result is the position in the part with the best value. Among equals the first part wins. */
export function splitPosition(better: (a: Tensor, b: Tensor) => Tensor): Split<{ dims: readonly number[] }> {
  return (node, [x], cx) =>
    reduceParts(node, x, cx, (parts, dim) => {
      const best = parts.map(({ start, part, value }) => ({ at: value.add(start), value: part.gather(dim, value) }));
      return best.reduce((a, b) => {
        const nan = b.value.ne(b.value).logicalAnd(a.value.eq(a.value)); // the first NaN is the best
        const wins = better(b.value, a.value).logicalOr(nan);
        return { at: where(wins, b.at, a.at), value: where(wins, b.value, a.value) };
      }).at;
    });
}

interface ReducedPart {
  readonly start: number;
  readonly part: Tensor;
  readonly value: Tensor;
}

function reduceParts(
  node: SplitNode<{ dims: readonly number[] }>,
  x: Tensor,
  cx: SplitContext,
  combine: (parts: readonly ReducedPart[], dim: number) => Tensor,
): Tensor[] | undefined {
  if (x.numel === 0) return [full(node.shape, node.op.reducer!.init(node.dtype), node.dtype)];
  const cut = cx.cut();
  if (!cut) return undefined;
  const { dim } = cut;
  const kept = !node.attrs.dims.includes(dim);
  const parts = cx.stretches(x.shape[dim], cut.parts).map(({ start, size }): ReducedPart => {
    const part = x.narrow(dim, start, size);
    const shape = node.shape.map((n, d) => (d === dim && kept ? size : n));
    return { start, part, value: apply(node.op, [part], node.attrs, shape, node.dtype) };
  });
  if (!kept) return [combine(parts, dim)];
  return [
    cat(
      parts.map((p) => p.value),
      dim,
    ),
  ];
}

/** Splits a matrix product along rows, columns or batches of its result, or into a sum over parts of K. */
export function splitProduct(node: SplitNode, [a, b]: Tensor[], cx: SplitContext): Tensor[] | undefined {
  const rank = node.shape.length;
  const [rows, columns] = [rank - 2, rank - 1];
  const part = (x: Tensor, dim: number, { start, size }: Stretch, fixed: number): Tensor =>
    dim === fixed ? x : x.narrow(dim, start, size);
  const along = (dim: number, least: number): Tensor[] => {
    const whole = cx.stretches(node.shape[dim], least, 4);
    const parts = whole.length > 1 ? whole : cx.stretches(node.shape[dim], least); // even four rows may be too large
    return [
      cat(
        parts.map((s) => part(a, dim, s, columns).matmul(part(b, dim, s, rows))),
        dim,
      ),
    ];
  };
  const left = cx.widest(0);
  const cut = left ?? cx.widest(1);
  if (!cut) {
    const bytes = cx.bytesOf(node);
    const first = node.shape.findIndex((n) => n > 1);
    return bytes > cx.limit ? along(first, Math.ceil(bytes / cx.limit)) : undefined;
  }
  if (cut.dim !== (left ? columns : rows)) return along(cut.dim, cut.parts);
  const sums = cx
    .stretches(a.shape[columns], cut.parts, 4)
    .map(({ start, size }) => a.narrow(columns, start, size).matmul(b.narrow(rows, start, size)));
  return [sums.reduce((x, y) => x.add(y))];
}

/** Splits the table of a gather, and reads each part at the indices that lie in it. `along`: the index is 1-D along `dim`. */
export function splitGather(along: boolean): Split<{ dim: number }> {
  return (node, [x, index], cx) => {
    const { dim } = node.attrs;
    // A table computed in the gather's prologue may read elements wider than its own dtype: count 4 bytes each.
    const bytes = x.node.realized ? cx.bytesOf(x) : 4 * x.numel;
    if (bytes <= cx.limit || x.shape[dim] < 2) return undefined;
    const at = index.to("i32");
    // A binding starts on a 256-byte boundary, so the window of a part may be 256 bytes larger.
    const values = cx.stretches(x.shape[dim], Math.ceil(bytes / (cx.limit - 256))).map(({ start, size }) => {
      const near = at.sub(start); // outside of the part: 0
      return { start, value: apply(node.op, [x.narrow(dim, start, size), near], node.attrs, node.shape, node.dtype) };
    });
    return [
      values.reduce((before, { start, value }) => ({
        start,
        value: where(spreadOver(at.ge(start), along ? dim : -1, node.shape), value, before.value),
      })).value,
    ];
  };
}

/**
 * Splits an addition at a 1-D index along the longest dim of its largest operand. Parts of x along the index's dim share the
 * source: indices outside of a part are skipped. Parts of the source along it come one after another.
 */
export const splitAdd: Split<{ dim: number }> = (node, [x, index, source], cx) => {
  if (!cx.large) return undefined;
  const { dim } = node.attrs;
  const into = cx.bytesOf(x) >= cx.bytesOf(source);
  const largest = into ? x : source;
  const d = largest.shape.indexOf(Math.max(...largest.shape));
  if (largest.shape[d] < 2) return undefined;
  const of = (x: Tensor, index: Tensor, source: Tensor): Tensor =>
    apply(node.op, [x, index, source], node.attrs, x.shape, node.dtype);
  const at = index.to("i32");
  const stretches = parts(largest, d, cx);
  const part = (t: Tensor, { start, size }: Stretch): Tensor => t.narrow(d, start, size);
  if (d !== dim)
    return [
      cat(
        stretches.map((s) => of(part(x, s), at, part(source, s))),
        d,
      ),
    ];
  if (!into) return [stretches.reduce((y, s) => of(y, at.narrow(0, s.start, s.size), part(source, s)), x)];
  return [
    cat(
      stretches.map((s) => of(part(x, s), at.sub(s.start), source)),
      d,
    ),
  ];
};

/**
 * Splits a scatter along the longest dim of its largest operand. Parts along another dim than that of the indices are
 * independent. Parts of x along it share the source: indices outside of a part are skipped. Parts of the source along it come
 * one after another.
 */
export const splitScatter: Split<{ dim: number }> = (node, [x, index, source], cx) => {
  if (!cx.large) return undefined;
  const { dim } = node.attrs;
  const of = (x: Tensor, index: Tensor, source: Tensor): Tensor =>
    apply(node.op, [x, index, source], node.attrs, x.shape, node.dtype);
  const into = cx.bytesOf(x) >= cx.bytesOf(source);
  const { shape } = into ? x : source;
  const d = shape.indexOf(Math.max(...shape));
  if (shape[d] < 2) return undefined;
  const count = Math.ceil(cx.bytesOf(into ? x : source) / cx.limit);
  const at = index.to("i32");
  if (d === dim && !into)
    return [
      cx
        .stretches(shape[d], count)
        .reduce((y, { start, size }) => of(y, at.narrow(d, start, size), source.narrow(d, start, size)), x),
    ];
  const parts = cx.stretches(x.shape[d], Math.ceil((count * x.shape[d]) / shape[d])).map(({ start, size }) => {
    const part = x.narrow(d, start, size);
    if (d === dim) return of(part, at.sub(start), source);
    const rows = Math.min(size, index.shape[d] - start); // x may be longer than the index
    return rows > 0 ? of(part, at.narrow(d, start, rows), source.narrow(d, start, rows)) : part;
  });
  return [cat(parts, d)];
};

/** Writes rows that are too large for one binding into their cache part by part. */
export function splitWrite(
  node: SplitNode,
  [cache, value, position]: Tensor[],
  cx: SplitContext,
): Tensor[] | undefined {
  const bytes = Math.min(cx.bytesOf(value), cx.extent(1));
  if (bytes <= cx.limit || value.shape[2] < 2) return undefined;
  return [
    parts(value, 2, cx).reduce((into, { start, size }) => {
      const own = [into, value.narrow(2, start, size), position.add(start)];
      return apply(node.op, own, node.attrs, node.shape, node.dtype);
    }, cache),
  ];
}

/** How `splitRows` finds the rows of an op. */
interface RowRule {
  /** Sources with one row per row of the result. Default: all. */
  readonly sources?: readonly number[];
  /** True: rows are all dims but the last. False: rows are the first dim. */
  readonly flat?: boolean;
}

/** Splits an op whose result rows depend only on the same rows of its sources. */
export function splitRows({ sources, flat = false }: RowRule = {}): Split {
  return (node, x, cx) => {
    if (!cx.large) return undefined;
    const has = (i: number): boolean => sources?.includes(i) ?? true;
    const own = x.map((t, i) => (has(i) && flat ? t.reshape([-1, t.shape[t.ndim - 1]]) : t));
    const rows = own[0].shape[0];
    // A source with another first dim is shared by all rows, or has its own layout: no split.
    if (rows < 2 || (!sources && own.some((t) => t.shape[0] !== rows && t.shape[0] !== 1))) return undefined;
    const specs = node.outputs ?? [node];
    const largest = Math.max(...[...specs, ...x].map((t) => cx.bytesOf(t)));
    const results = cx.stretches(rows, Math.ceil(largest / cx.limit)).map(({ start, size }) => {
      const part = own.map((t, i) => (has(i) && t.shape[0] === rows ? t.narrow(0, start, size) : t));
      const outputs = specs.map(({ shape, dtype }) => ({
        shape: [size, ...(flat ? shape.slice(-1) : shape.slice(1))],
        dtype,
      }));
      return node.outputs
        ? applyMany(node.op, part, node.attrs, outputs)
        : [apply(node.op, part, node.attrs, outputs[0].shape, node.dtype)];
    });
    return specs.map(({ shape }, i) => cat(results.map((r) => r[i])).reshape(shape));
  };
}

const parts = (x: Tensor, dim: number, cx: SplitContext): Stretch[] =>
  cx.stretches(x.shape[dim], Math.ceil(cx.bytesOf(x) / cx.limit));

/** Broadcasts a condition to `shape`. It has one entry per index along `dim`, or, if dim is -1, one per element. */
const spreadOver = (condition: Tensor, dim: number, shape: readonly number[]): Tensor =>
  expand(dim < 0 ? condition : condition.reshape(shape.map((n, d) => (d === dim ? n : 1))), shape);
