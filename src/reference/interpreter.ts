import { composed } from "../graph/compose.ts";
import { castValue, type DType } from "../graph/dtype.ts";
import { add, affine, constant, type Index, scale, type ViewIndex, variable } from "../graph/index-map.ts";
import { Node } from "../graph/node.ts";
import type { RefArray } from "../graph/op.ts";
import { contiguousStrides, numel, type Shape } from "../graph/shape.ts";
import { leafOp } from "../graph/structural.ts";

/** A strided view of an array. A view op returns one without a copy if its index map is affine. */
interface View {
  readonly data: Float64Array;
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
  readonly dtype: DType;
}
type Value = View | readonly View[];

/**
 * Computes `nodes` in f64, whatever their dtypes, and stores their values in `node.host`. It is the oracle of the tests, and
 * the engine without a GPU. Intermediates are dropped after their last use.
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
    node.host ??= rounded(contiguous(values.get(node) as View));
    node.forgetSources();
  }
}

/** A result as its dtype holds it: halves are rounded, as the device stores them. Other floats stay in f64. */
const rounded = ({ data, dtype }: RefArray): Float64Array =>
  dtype === "f16" ? data.map((x) => castValue(x, "f16")) : data;

/** The nodes to compute, sources first, and the number of uses of each. Being a root counts as one use. */
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
  const { op, attrs } = node;
  if (op === leafOp) throw new Error(node.stale ?? `reference: a leaf of shape [${node.shape}] has no host values`);
  if (op.kind === "pick") return (sources[0] as readonly View[])[attrs.output as number];
  const views = sources as readonly View[];
  if (op.kind === "view") return viewOf(node, views[0]);
  if (op.kind === "reduce")
    return dense(op.reference!([contiguous(reducedLast(views[0], attrs.dims as number[]))], attrs, node) as RefArray);
  const arrays = views.map(contiguous);
  if (op.reference) return results(op.reference(arrays, attrs, node));
  return fromFallback(node, arrays);
}

const results = (r: RefArray | RefArray[]): Value => (Array.isArray(r) ? r.map(dense) : dense(r));

/** The value of an op by its fallback. */
function fromFallback(node: Node, arrays: readonly RefArray[]): Value {
  const leaves = arrays.map((a) => {
    const leaf = new Node(leafOp, [], {}, a.shape, a.dtype);
    leaf.host = a.data;
    return leaf;
  });
  const outputs = composed(node.op, leaves, node.attrs)!;
  evaluate(outputs);
  const specs = node.outputs ?? [{ shape: node.shape, dtype: node.dtype }];
  const views = outputs.map((n, i) => dense({ data: n.host as Float64Array, ...specs[i] }));
  return node.outputs ? views : views[0];
}

const dense = ({ data, shape, dtype }: RefArray): View => ({
  data,
  shape,
  dtype,
  strides: contiguousStrides(shape),
  offset: 0,
});

function viewOf({ op, attrs, shape, dtype }: Node, source: View): View {
  if (op.keepsOrder && isContiguous(source)) return dense({ data: source.data, shape, dtype });
  const position = shape.map((size, d) => variable(d, size));
  const rule = op.viewIndex!(position, attrs, { from: source.shape, to: shape });
  const address = addressOf(rule, source);
  const strided = affine(address, shape.length);
  if (strided && !rule.ranges?.length) return { data: source.data, shape, dtype, ...strided };
  if (op.keepsOrder) return dense({ data: contiguous(source).data, shape, dtype });
  return dense({ data: readThrough(rule, address, source.data, shape), shape, dtype });
}

/** Address in the data of the source, from the index per dim. */
const addressOf = ({ index }: ViewIndex, { strides, offset }: View): Index =>
  index.reduce((sum, ix, d) => add(sum, scale(ix, strides[d])), constant(offset));

/** The elements of a view: from `address` where all ranges hold, else `fill`. */
function readThrough(
  { ranges = [], fill = 0 }: ViewIndex,
  address: Index,
  data: Float64Array,
  shape: Shape,
): Float64Array {
  const out = new Float64Array(numel(shape)).fill(fill);
  const at = new Array<number>(shape.length).fill(0);
  for (let o = 0; o < out.length; o++) {
    if (ranges.every(({ index, size }) => isWithin(evaluateIndex(index, at), size)))
      out[o] = data[evaluateIndex(address, at)];
    for (let d = shape.length - 1; d >= 0 && ++at[d] === shape[d]; d--) at[d] = 0;
  }
  return out;
}

const isWithin = (x: number, size: number): boolean => x >= 0 && x < size;

/** The value of an index at a position. */
function evaluateIndex({ offset, terms }: Index, at: readonly number[]): number {
  let sum = offset;
  for (const { coef, atom } of terms) {
    if (atom.kind === "value") throw new Error("internal: a view does not compute positions");
    if (atom.kind === "var") sum += coef * at[atom.id];
    else {
      const inner = evaluateIndex(atom.of, at);
      sum += coef * (atom.kind === "div" ? Math.floor(inner / atom.by) : ((inner % atom.by) + atom.by) % atom.by);
    }
  }
  return sum;
}

function reducedLast(x: View, dims: readonly number[]): View {
  const order = [...x.shape.keys()].filter((d) => !dims.includes(d)).concat(dims);
  return { ...x, shape: order.map((d) => x.shape[d]), strides: order.map((d) => x.strides[d]) };
}

function isContiguous({ data, shape, strides, offset }: View): boolean {
  const expected = contiguousStrides(shape);
  return offset === 0 && data.length === numel(shape) && shape.every((n, i) => n === 1 || strides[i] === expected[i]);
}

/** The same values in row-major order. */
function contiguous(x: View): RefArray {
  const { data, shape, strides, offset, dtype } = x;
  if (isContiguous(x)) return { data, shape, dtype };
  const out = new Float64Array(numel(shape));
  const inner = shape.length ? shape[shape.length - 1] : 1;
  const stride = shape.length ? strides[shape.length - 1] : 0;
  let o = 0;
  forEachRow(shape, strides, offset, (start) => {
    for (let k = 0, p = start; k < inner; k++, p += stride) out[o++] = data[p];
  });
  return { data: out, shape, dtype };
}

/** Calls visit(position of the first element) for every row (last dim) of a strided array, in row-major order. */
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
