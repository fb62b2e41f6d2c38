import { affine, variable } from "../../graph/index-map.ts";
import type { Operand } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { contiguousStrides, numel } from "../../graph/shape.ts";
import { ExprBuilder } from "./expr.ts";
import { bytesOf, extent, isAligned } from "./window.ts";

/** A view or a pending assign: it passes its source through. */
export const passes = (n: Node): boolean => !n.realized && (n.op.kind === "view" || n.op.kind === "assign");
/** An elementwise or gather node: fused work computes it. */
export const computes = (n: Node): boolean => !n.realized && (n.op.kind === "elementwise" || n.op.kind === "gather");

/** `node` as an affine view of `base`, which it reaches through views only. Undefined if the map is not affine. */
function viewThrough(node: Node, base: Node): Operand | undefined {
  const index = node.shape.map((size, d) => variable(d, size));
  const expr = new ExprBuilder({ isBuffer: (n) => n === base }).build(node, index);
  if (expr.kind !== "load") return undefined;
  const map = affine(expr.address, node.shape.length);
  return map && { buffer: base, shape: node.shape, ...map };
}

/** A node as an affine view of the first node below it that is no view. */
export function viewOf(node: Node): Operand | undefined {
  let base = node;
  while (passes(base)) base = base.src[0];
  return viewThrough(node, base);
}

/** A node as an affine view of the lowest node that allows one. So several views of a value that needs a copy share the copy. */
function lowestView(node: Node): Operand | undefined {
  let view: Operand | undefined;
  for (let at = node; passes(at); at = at.src[0]) {
    const lower = viewThrough(node, at.src[0]);
    if (!lower) break;
    view = lower;
  }
  return view;
}

export function isContiguous(view: Operand): boolean {
  const strides = contiguousStrides(view.shape);
  return view.offset === 0 && view.strides.every((s, d) => view.shape[d] === 1 || s === strides[d]);
}

/** The node whose buffer holds the elements of `node` in row-major order, if there is one. */
export function aliasOf(node: Node): Node | undefined {
  if (!passes(node)) return node;
  const view = viewOf(node);
  return view && isContiguous(view) && numel(view.buffer.shape) === numel(node.shape) ? view.buffer : undefined;
}

/** Sources that a kernel reads with strides. */
function stridedSources(node: Node): readonly number[] {
  const { strided } = node.op;
  return typeof strided === "function" ? strided(node) : (strided ?? []);
}

/** Source `i` of a kernel node as the kernel binds it. It may be a part of a buffer larger than `limit` bytes. */
export function operandOf(node: Node, i: number, limit: number): Operand {
  const source = node.src[i];
  const view = stridedSources(node).includes(i) ? lowestView(source) : undefined;
  if (view && (bytesOf(source) > limit || extent(view) <= limit)) return view;
  const part = passes(source) ? viewOf(source) : undefined;
  if (part && bytesOf(part.buffer) > limit && isContiguous({ ...part, offset: 0 }) && isAligned(part)) return part;
  return {
    buffer: aliasOf(source) ?? source,
    shape: source.shape,
    offset: 0,
    strides: contiguousStrides(source.shape),
  };
}
