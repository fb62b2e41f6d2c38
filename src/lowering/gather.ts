import { type DType, isFloat } from "../graph/dtype.ts";
import type { BufferRef, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { contiguousStrides, numel, show } from "../graph/shape.ts";
import { grid2d } from "./grid.ts";

const WG = 64;
/** The WGSL type of one element. */
const wordType = (dtype: DType): string => (dtype === "bool" ? "u32" : dtype);

/** (x, index [N], source), attrs { dim } -> x with source added at index. */
export const lowerIndexAdd: Lower = (node, cx) => {
  const [x, ids, source] = [0, 1, 2].map((i) => cx.operand(i).buffer);
  return addRows(node, cx, ids, source, x);
};

/** (index [N], source), attrs { dim, size } -> zeros with source added at index. */
export const lowerIndexSum: Lower = (node, cx) => addRows(node, cx, cx.operand(0).buffer, cx.operand(1).buffer);

const LONG = 4096; // elements from which lists repay their kernels on GPUs
const FEW_LINES = 1024; // too few invocations for a GPU
const REPEATS = 64; // terms per id from which sums in order lose digits

/**
 * Adds rows of `source` to `x`, or to zeros without it, in a fixed order and without atomics. GPUs first link the positions of
 * each id in a list; software adapters add position by position. There, long sums are left to the fallback.
 */
function addRows(
  node: Node,
  cx: LowerContext,
  ids: BufferRef,
  source: BufferRef,
  x?: BufferRef,
): KernelCall[] | undefined {
  const dim = node.attrs.dim as number;
  const { shape } = node;
  const size = shape[dim];
  const count = numel(node.src[x ? 1 : 0].shape);
  const [outer, inner] = [numel(shape.slice(0, dim)), numel(shape.slice(dim + 1))];
  if (outer * size * inner === 0) return [];
  const type = wordType(node.dtype);
  const vec = inner % 4 === 0;
  const vectors = vec ? inner / 4 : inner;
  const common = { ZERO: Number(!x), V: vec ? `vec4<${type}>` : type };
  if (cx.device.kind === "software") return count >= REPEATS * size && isFloat(node.dtype) ? undefined : serially();
  const [head, next, runs] = [size, count, count].map((n) => cx.temp(4 * Math.max(n, 4)));
  const link = (step: number, lanes: number): KernelCall => ({
    kernel: "index_links",
    params: { WG },
    dims: [count, size, step],
    bind: [ids, head, next, runs],
    grid: grid2d(Math.max(1, Math.ceil(lanes / WG))),
  });
  const LANES = Math.min(WG, 2 ** Math.floor(Math.log2(vectors)));
  return [
    link(0, size),
    link(1, count),
    link(2, size),
    {
      kernel: "index_add",
      params: { ...common, WG, LANES },
      dims: [outer, size, count, vectors],
      bind: [x ?? source, source, head, next, runs, cx.output()],
      grid: grid2d(Math.ceil((outer * size * LANES) / WG)),
    },
  ];

  function serially(): KernelCall[] {
    const step = (lanes: number, stretch: number, positions: number): KernelCall => ({
      kernel: "index_add_serial",
      params: { ...common, WG: 8 },
      dims: [lanes, stretch, positions, vectors, size],
      bind: [x ?? source, ids, source, cx.output()],
      grid: grid2d(Math.ceil(lanes / stretch)),
    });
    const fill = step(outer * size * vectors, 1024, 0);
    return count === 0 ? [fill] : [fill, step(outer * vectors, 8, count)];
  }
}

/** ids [N], attrs { size } -> the last position of each id, i32 [size]. */
export const lowerLastWriter: Lower = (node, cx) => {
  const [count, size] = [numel(node.src[0].shape), node.attrs.size as number];
  const step = (number: number, lanes: number): KernelCall => ({
    kernel: "last_writer",
    params: { WG },
    dims: [count, size, number],
    bind: [cx.operand(0).buffer, cx.output()],
    grid: grid2d(Math.max(1, Math.ceil(lanes / WG))),
  });
  return size === 0 ? [] : [step(0, size), step(1, count)];
};

/** (x, index, source), attrs { dim } -> x with source added at index, two tensors of one shape, at most x's in the other dims. */
export const lowerScatterAdd: Lower = (node, cx) => {
  const [shape, count] = [node.shape, numel(node.src[1].shape)];
  const lines = numel(shape) / shape[node.attrs.dim as number];
  const software = cx.device.kind === "software";
  const rows = software ? count >= REPEATS * numel(shape) && isFloat(node.dtype) : count >= LONG && lines < FEW_LINES;
  return rows ? undefined : scatter(node, cx, "sum"); // undefined: as an index_add of single elements
};

/** As `lowerScatterAdd`, attrs { dim, reduce }: "prod", "amax" or "amin". */
export const lowerScatterReduce: Lower = (node, cx) => scatter(node, cx, node.attrs.reduce as string);

function scatter(node: Node, cx: LowerContext, reduce: string): KernelCall[] {
  const dim = node.attrs.dim as number;
  const [shape, part] = [node.shape, node.src[1].shape];
  if (numel(shape) === 0) return [];
  const [xStrides, indexStrides] = [contiguousStrides(shape), contiguousStrides(part)];
  const others = shape.flatMap((size, d) =>
    d === dim || size === 1 ? [] : [[size, part[d], xStrides[d], indexStrides[d]]],
  );
  if (others.length > 6)
    throw new Error(`scatter: expected at most 7 dims of size > 1, got ${show(shape)}; merge dims with reshape`);
  while (others.length < 6) others.unshift([1, 1, 0, 0]);
  const lines = numel(shape) / shape[dim];
  const count = numel(part) === 0 ? 0 : part[dim];
  return [
    {
      kernel: "scatter_add",
      params: {
        WG,
        MODE: ["sum", "prod", "amax", "amin"].indexOf(reduce),
        FLOAT: Number(node.dtype === "f32"),
        T: wordType(node.dtype),
      },
      dims: [lines, shape[dim], count, xStrides[dim], indexStrides[dim], 0, 0, 0, ...others.flat()],
      bind: [...[0, 1, 2].map((i) => cx.operand(i).buffer), cx.output()],
      grid: grid2d(Math.ceil(lines / WG)),
    },
  ];
}
