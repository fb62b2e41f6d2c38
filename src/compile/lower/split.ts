import { linearize, variable } from "../../graph/index-map.ts";
import type { Node } from "../../graph/node.ts";
import type { AttentionAttrs } from "../../ops/attention.ts";
import { where } from "../../ops/elementwise.ts";
import { cat, expand } from "../../ops/movement.ts";
import { positionsAlong } from "../../ops/reduce.ts";
import { apply, applyMany, Tensor } from "../../tensor/tensor.ts";
import { ExprBuilder, walk } from "../expression/expr.ts";
import { operandOf } from "../expression/operand.ts";
import { bytesOf, cutOf, extent, stretches } from "../expression/window.ts";

/**
 * A node whose operands or results are larger than `limit` bytes, as ordinary ops over parts that are smaller (or whose
 * own turn comes next). Elementwise nodes need none of it: their kernels are cut where they are generated.
 * Undefined = nothing to do, or no way known.
 */
export function shard(node: Node, limit: number): Tensor[] | undefined {
  const { op, src, outputs } = node;
  if (op.name === "index_select" || op.name === "gather") return gathered(node, limit);
  if (op.kind === "reduce") return reduced(node, limit);
  if (op.kind !== "kernel" || op.name === "pack") return undefined;
  const large = [...(outputs ?? [node]), ...src].some((n) => bytesOf(n) > limit);
  if (op.name === "matmul") return product(node, limit);
  if (op.name === "write_at" || op.name === "write_int8") return written(node, limit);
  if (!large || op.inPlace) return undefined;
  if (op.name === "index_add" || op.name === "scatter_add") return added(node, limit);
  const x = src.map((s) => new Tensor(s));
  if (op.name === "quantized_matmul") return packedProduct(node, limit);
  const rows = byRows(node, x, limit) ?? byHeads(node, x, limit);
  if (rows) return rows;
  return op.fallback && [op.fallback(x, node.attrs)].flat();
}

/** How far apart two elements of a strided operand lie at most, in bytes, and the dim that is the reason. */
function spread(node: Node, i: number, limit: number): { dim: number; parts: number } | undefined {
  const operand = operandOf(node, i, limit);
  const bytes = extent(operand);
  const moved = operand.shape.map((n, d) => Math.abs(operand.strides[d]) * (n - 1));
  return bytes > limit ? { dim: moved.indexOf(Math.max(...moved)), parts: Math.ceil(bytes / limit) } : undefined;
}

/** A product by rows, columns or batches of its result, or as a sum over parts of K. */
function product(node: Node, limit: number): Tensor[] | undefined {
  const [a, b] = node.src.map((s) => new Tensor(s));
  const rank = node.shape.length;
  const [rows, columns] = [rank - 2, rank - 1];
  const part = (x: Tensor, dim: number, { start, size }: Stretch, fixed: number): Tensor =>
    dim === fixed ? x : x.narrow(dim, start, size);
  const along = (dim: number, least: number): Tensor[] => {
    const whole = stretches(node.shape[dim], least, 4);
    const parts = whole.length > 1 ? whole : stretches(node.shape[dim], least); // four rows alone may be too large
    return [
      cat(
        parts.map((s) => part(a, dim, s, columns).matmul(part(b, dim, s, rows))),
        dim,
      ),
    ];
  };
  const left = spread(node, 0, limit);
  const cut = left ?? spread(node, 1, limit);
  if (!cut) return bytesOf(node) > limit ? along(firstDim(node), Math.ceil(bytesOf(node) / limit)) : undefined;
  if (cut.dim !== (left ? columns : rows)) return along(cut.dim, cut.parts);
  const sums = stretches(a.shape[columns], cut.parts, 4).map(({ start, size }) =>
    a.narrow(columns, start, size).matmul(b.narrow(rows, start, size)),
  );
  return [sums.reduce((x, y) => x.add(y))];
}

/** A product with a packed matrix by the rows of x, then by those of the matrix: side by side, or added up where they are summed over. */
function packedProduct(node: Node, limit: number): Tensor[] | undefined {
  const [x, packed, scales] = node.src.map((s) => new Tensor(s));
  const { transposed, shape } = node.attrs as unknown as { transposed: boolean; shape: [number, number] };
  const many = Math.ceil(Math.max(bytesOf(x.node), bytesOf(node)) / limit);
  if (many > 1 && x.shape[0] > 1) {
    const rows = stretches(x.shape[0], many).map(({ start, size }) => {
      const own = [x.narrow(0, start, size), packed, scales];
      return apply(node.op, own, node.attrs, [size, node.shape[1]], node.dtype);
    });
    return [cat(rows, 0)];
  }
  const results = parts(packed, 0, limit).map(({ start, size }) =>
    apply(
      node.op,
      [transposed ? x.narrow(1, start, size) : x, packed.narrow(0, start, size), scales.narrow(0, start, size)],
      { ...node.attrs, shape: [size, shape[1]] },
      transposed ? node.shape : [node.shape[0], size],
      node.dtype,
    ),
  );
  if (results.length < 2) return undefined;
  return [transposed ? results.reduce((a, b) => a.add(b)) : cat(results, 1)];
}

/** Rows too many to be bound at once, written into their cache part by part. */
function written(node: Node, limit: number): Tensor[] | undefined {
  const [cache, value, position] = node.src.map((s) => new Tensor(s));
  const bytes = Math.min(bytesOf(value.node), extent(operandOf(node, 1, limit)));
  if (bytes <= limit || value.shape[2] < 2) return undefined;
  return [
    parts(value, 2, limit).reduce((into, { start, size }) => {
      const own = [into, value.narrow(2, start, size), position.add(start)];
      return apply(node.op, own, node.attrs, node.shape, node.dtype);
    }, cache),
  ];
}

/** Reads each part of the table at the indices that lie in it. */
function gathered(node: Node, limit: number): Tensor[] | undefined {
  const [x, index] = node.src.map((s) => new Tensor(s));
  const dim = node.attrs.dim as number;
  // What is computed as it is read may be read from wider elements.
  const bytes = x.node.realized ? bytesOf(x.node) : 4 * x.numel;
  if (bytes <= limit || x.shape[dim] < 2) return undefined;
  const along = node.op.name === "index_select" ? dim : -1;
  const at = index.to("i32");
  const values = stretches(x.shape[dim], Math.ceil(bytes / limit)).map(({ start, size }) => {
    const near = at
      .sub(start)
      .maximum(0)
      .minimum(size - 1);
    return { start, value: apply(node.op, [x.narrow(dim, start, size), near], node.attrs, node.shape, node.dtype) };
  });
  return [
    values.reduce((before, { start, value }) => ({
      start,
      value: where(spreadOver(at.ge(start), along, node), value, before.value),
    })).value,
  ];
}

/** Adds to each part of the table what its indices choose; the others add zeros, evenly spread so that no row waits for all. */
function added(node: Node, limit: number): Tensor[] | undefined {
  const [x, index, source] = node.src.map((s) => new Tensor(s));
  const dim = node.attrs.dim as number;
  if (x.shape[dim] < 2) return undefined;
  const at = index.to("i32");
  const flat = node.op.name === "index_add";
  const order = flat ? positionsAlong(0, at.shape[0], 1) : positionsAlong(dim, at.shape[dim], at.ndim);
  return [
    cat(
      parts(x, dim, limit).map(({ start, size }) => {
        const inside = at.ge(start).logicalAnd(at.lt(start + size));
        const near = where(inside, at.sub(start), expand(order.mod(size), at.shape));
        const kept = where(spreadOver(inside, flat ? dim : -1, source.node), source, 0);
        const shape = x.shape.map((n, d) => (d === dim ? size : n));
        return apply(node.op, [x.narrow(dim, start, size), near, kept], node.attrs, shape, node.dtype);
      }),
      dim,
    ),
  ];
}

/** A reduction over parts of its source: side by side along a kept dim, combined along a reduced one. */
function reduced(node: Node, limit: number): Tensor[] | undefined {
  const [source] = node.src;
  const index = source.shape.map((n, d) => variable(d, n));
  const stored = (n: Node): boolean => n.realized || !["elementwise", "view", "gather"].includes(n.op.kind);
  const loads = walk([new ExprBuilder({ isBuffer: stored }).build(source, index)]).filter((e) => e.kind === "load");
  const cut = cutOf([{ node: source, address: linearize(index, source.shape) }, ...loads], limit);
  if (!cut) return undefined;
  const { variable: dim } = cut;
  const x = new Tensor(source);
  const dims = node.attrs.dims as number[];
  const kept = !dims.includes(dim);
  const results = stretches(source.shape[dim], cut.parts).map(({ start, size }) => {
    const part = x.narrow(dim, start, size);
    const shape = node.shape.map((n, d) => (d === dim && kept ? size : n));
    return { start, part, value: apply(node.op, [part], node.attrs, shape, node.dtype) };
  });
  if (kept)
    return [
      cat(
        results.map((r) => r.value),
        dim,
      ),
    ];
  const values = results.map((r) => r.value);
  const combine: Record<string, (a: Tensor, b: Tensor) => Tensor> = {
    sum: (a, b) => a.add(b),
    prod: (a, b) => a.mul(b),
    max: (a, b) => a.maximum(b),
    min: (a, b) => a.minimum(b),
  };
  if (combine[node.op.name]) return [values.reduce(combine[node.op.name])];
  // The position of an extremum: of the part with the best value, the first of equals. Parts are cut along the only dim.
  const best = results.map(({ start, part, value }) => ({ at: value.add(start), value: part.gather(dim, value) }));
  const better = (a: Tensor, b: Tensor): Tensor => (node.op.name === "argmax" ? b.gt(a) : b.lt(a));
  return [
    best.reduce((a, b) => {
      const wins = better(a.value, b.value);
      return { at: where(wins, b.at, a.at), value: where(wins, b.value, a.value) };
    }).at,
  ];
}

/** Ops whose results along the first dim depend on that place alone of these sources; `flat`: on the same row of them. */
const ROWWISE: Readonly<Record<string, { sources?: readonly number[]; flat?: boolean }>> = {
  softmax: { flat: true },
  softmax_backward: { flat: true },
  log_softmax: { flat: true },
  log_softmax_backward: { flat: true },
  cumsum: { flat: true },
  topk: { flat: true },
  layer_norm: { sources: [0], flat: true },
  rms_norm: { sources: [0], flat: true },
  cross_entropy: {},
  cross_entropy_backward: {},
  sample: { sources: [0, 2] },
  attention: {},
  attention_backward: {},
};

function byRows(node: Node, x: readonly Tensor[], limit: number): Tensor[] | undefined {
  const rule = ROWWISE[node.op.name];
  if (!rule) return undefined;
  const rowsOf = (t: Tensor): Tensor => (rule.flat ? t.reshape([-1, t.shape[t.ndim - 1]]) : t);
  const sources = x.map((t, i) => (!rule.sources || rule.sources.includes(i) ? rowsOf(t) : t));
  const rows = sources[0].shape[0];
  const cutSource = (i: number): boolean => (!rule.sources || rule.sources.includes(i)) && sources[i].shape[0] === rows;
  // What has another first dim is either the same for all rows or laid out in a way of its own.
  if (!rule.sources && sources.some((t) => t.shape[0] !== rows && t.shape[0] !== 1)) return undefined;
  const specs = node.outputs ?? [node];
  const largest = Math.max(...[...specs, ...node.src].map(bytesOf));
  if (rows < 2) return undefined;
  const results = stretches(rows, Math.ceil(largest / limit)).map(({ start, size }) => {
    const part = sources.map((t, i) => (cutSource(i) ? t.narrow(0, start, size) : t));
    const outputs = specs.map(({ shape, dtype }) => ({
      shape: [size, ...(rule.flat ? shape.slice(-1) : shape.slice(1))],
      dtype,
    }));
    return node.outputs
      ? applyMany(node.op, part, node.attrs, outputs)
      : [apply(node.op, part, node.attrs, outputs[0].shape, node.dtype)];
  });
  return specs.map(({ shape }, i) => cat(results.map((r) => r[i])).reshape(shape));
}

/** Attention, or its gradients, by key heads and the query heads of each. */
function byHeads(node: Node, x: readonly Tensor[], limit: number): Tensor[] | undefined {
  const backward = node.op.name === "attention_backward";
  if (node.op.name !== "attention" && !backward) return undefined;
  const { joint, tokensFirst } = node.attrs as AttentionAttrs;
  const [heads, group] = [x[1].shape[1], x[0].shape[1] / x[1].shape[1]];
  if (heads < 2 || joint) return undefined;
  const outside = tokensFirst ? 2 : 1; // the dim of heads in o and in the results
  const dimOf = (output: number): number => (backward || output === 0 ? outside : 1); // statistics lie heads first
  const specs = node.outputs!;
  const largest = Math.max(...[...specs, ...node.src].map(bytesOf));
  const results = stretches(heads, Math.ceil(largest / (limit - 256))).map(({ start, size }) => {
    const part = x.map((t, i) => {
      if (t.ndim < 4) return t; // lengths
      const each = i === 1 || i === 2 ? 1 : group;
      return t.narrow(backward && i === 3 ? outside : 1, start * each, size * each);
    });
    const outputs = specs.map(({ shape, dtype }, i) => {
      const each = backward && i > 0 ? 1 : group;
      return { shape: shape.map((n, d) => (d === dimOf(i) ? size * each : n)), dtype };
    });
    return applyMany(node.op, part, node.attrs, outputs);
  });
  return specs.map((_, i) =>
    cat(
      results.map((r) => r[i]),
      dimOf(i),
    ),
  );
}

type Stretch = { readonly start: number; readonly size: number };

const parts = (x: Tensor, dim: number, limit: number): Stretch[] =>
  stretches(x.shape[dim], Math.ceil(bytesOf(x.node) / limit));

const firstDim = ({ shape }: Node): number => shape.findIndex((n) => n > 1);

/** A condition per index along `dim` (or per element, -1), for every element of `of`. */
const spreadOver = (condition: Tensor, dim: number, { shape }: Node): Tensor =>
  expand(dim < 0 ? condition : condition.reshape(shape.map((n, d) => (d === dim ? n : 1))), shape);
