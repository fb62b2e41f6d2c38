import type { DType } from "../graph/dtype.ts";
import { type Attrs, Node, type OutputSpec } from "../graph/node.ts";
import type { RefArray } from "../graph/op.ts";
import { contiguousStrides, numel, type Shape } from "../graph/shape.ts";
import { leafOp } from "../ops/leaf.ts";
import { affineView, type PadAttrs } from "../ops/movement.ts";
import { noGrad } from "../tensor/autograd.ts";
import { Tensor, untracked } from "../tensor/tensor.ts";

/** A strided view of an array: what view ops make, so that they copy nothing. */
interface View {
  readonly data: Float64Array;
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
  readonly dtype: DType;
}
type Value = View | readonly View[];

/**
 * Computes `nodes` in f64, whatever their dtypes, and leaves each one's values in `node.host`.
 * The oracle of the tests, and the engine where there is no GPU. Other intermediates are dropped after their last use.
 */
export function evaluate(nodes: readonly Node[]): void {
  const { order, uses } = schedule(nodes);
  const values = new Map<Node, Value>();
  for (const node of order) {
    values.set(
      node,
      node.host
        ? fromHost(node)
        : compute(
            node,
            node.src.map((s) => values.get(s)!),
          ),
    );
    if (node.host) continue;
    for (const s of node.src) {
      const left = uses.get(s)! - 1;
      uses.set(s, left);
      if (left === 0) values.delete(s);
    }
  }
  for (const node of nodes) {
    node.host ??= contiguous(values.get(node) as View).data;
    node.forgetSources();
  }
}

/** The nodes that must be computed, sources first, and how often each is used (wanted ones once more). */
function schedule(roots: readonly Node[]): { order: Node[]; uses: Map<Node, number> } {
  const uses = new Map<Node, number>();
  const order: Node[] = [];
  const stack = [...roots];
  for (const root of roots) uses.set(root, 1);
  for (let node = stack.pop(); node; node = stack.pop()) {
    order.push(node);
    if (node.host) continue;
    for (const s of node.src) {
      const seen = uses.get(s);
      uses.set(s, (seen ?? 0) + 1);
      if (seen === undefined) stack.push(s);
    }
  }
  return { order: [...new Set(order)].sort((a, b) => a.id - b.id), uses };
}

function fromHost({ host, shape, dtype }: Node): View {
  const data = host instanceof Float64Array ? host : Float64Array.from(host!);
  return dense({ data, shape, dtype });
}

function compute(node: Node, sources: readonly Value[]): Value {
  const { op, attrs, shape, dtype } = node;
  if (op === leafOp) throw new Error(node.stale ?? `reference: a leaf of shape [${shape}] has no host values`);
  if (op.kind === "pick") return (sources[0] as readonly View[])[attrs.output as number];
  const views = sources as readonly View[];
  if (op.kind === "view") return viewOf(node, views[0]);
  if (op.kind === "reduce")
    return dense(op.reference!([contiguous(reducedLast(views[0], attrs.dims as number[]))], attrs, node) as RefArray);
  const arrays = views.map(contiguous);
  if (op.reference) return results(op.reference(arrays, attrs, node));
  return expandFallback(node, arrays, { shape, dtype }, attrs);
}

const results = (r: RefArray | RefArray[]): Value => (Array.isArray(r) ? r.map(dense) : dense(r));

function expandFallback(node: Node, arrays: readonly RefArray[], own: OutputSpec, attrs: Attrs): Value {
  const leaves = arrays.map((a) => {
    const leaf = new Node(leafOp, [], {}, a.shape, a.dtype);
    leaf.host = a.data;
    return new Tensor(leaf);
  });
  const outputs = [untracked(() => noGrad(() => node.op.fallback!(leaves, attrs)))].flat();
  evaluate(outputs.map((t) => t.node));
  const specs = node.outputs ?? [own];
  const views = outputs.map((t, i) => dense({ data: t.node.host as Float64Array, ...specs[i] }));
  return node.outputs ? views : views[0];
}

const dense = ({ data, shape, dtype }: RefArray): View => ({
  data,
  shape,
  dtype,
  strides: contiguousStrides(shape),
  offset: 0,
});

function viewOf(node: Node, source: View): View {
  const { op, attrs, shape, dtype } = node;
  if (op.name === "pad") return dense({ data: padded(contiguous(source), shape, attrs as PadAttrs), shape, dtype });
  const map = affineView(op, attrs, shape, source);
  if (map) return { data: source.data, shape, dtype, ...map };
  return dense({ data: contiguous(source).data, shape, dtype });
}

function reducedLast(x: View, dims: readonly number[]): View {
  const order = [...x.shape.keys()].filter((d) => !dims.includes(d)).concat(dims);
  return { ...x, shape: order.map((d) => x.shape[d]), strides: order.map((d) => x.strides[d]) };
}

/** The same values in row-major order. */
function contiguous(x: View): RefArray {
  const { data, shape, strides, offset, dtype } = x;
  const expected = contiguousStrides(shape);
  const size = numel(shape);
  if (offset === 0 && data.length === size && shape.every((n, i) => n === 1 || strides[i] === expected[i]))
    return { data, shape, dtype };
  const out = new Float64Array(size);
  const inner = shape.length ? shape[shape.length - 1] : 1;
  const stride = shape.length ? strides[shape.length - 1] : 0;
  let o = 0;
  forEachRow(shape, strides, offset, (start) => {
    for (let k = 0, p = start; k < inner; k++, p += stride) out[o++] = data[p];
  });
  return { data: out, shape, dtype };
}

function padded(x: RefArray, shape: Shape, { pads, value }: PadAttrs): Float64Array {
  const out = new Float64Array(numel(shape)).fill(value);
  const strides = contiguousStrides(shape);
  const inner = x.shape[x.shape.length - 1];
  const first = pads.reduce((sum, [before], d) => sum + before * strides[d], 0);
  let i = 0;
  forEachRow(x.shape, strides, first, (start) => {
    out.set(x.data.subarray(i, i + inner), start);
    i += inner;
  });
  return out;
}

/** Position of the first element of every row (last dim) of a strided array, in row-major order. */
function forEachRow(shape: Shape, strides: readonly number[], offset: number, visit: (start: number) => void): void {
  const rank = shape.length - 1;
  const at = new Array<number>(Math.max(rank, 0)).fill(0);
  let start = offset;
  for (;;) {
    visit(start);
    let d = rank - 1;
    for (; d >= 0; d--) {
      start += strides[d];
      if (++at[d] < shape[d]) break;
      start -= at[d] * strides[d];
      at[d] = 0;
    }
    if (d < 0) return;
  }
}
