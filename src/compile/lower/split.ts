import { composed, splitInParts } from "../../graph/compose.ts";
import { linearize, variable } from "../../graph/index-map.ts";
import type { Node } from "../../graph/node.ts";
import type { SplitContext } from "../../graph/op.ts";
import { ExprBuilder, walk } from "../expression/expr.ts";
import { computes, operandOf, passes } from "../expression/operand.ts";
import { bytesOf, cutOf, extent, stretches } from "../expression/window.ts";

/**
 * A node whose operands or results exceed `limit` bytes, as ordinary ops on parts, which may be split again.
 * Elementwise nodes need no split: code generation cuts their kernels. Undefined if the node fits, or cannot be split.
 */
export function splitNode(node: Node, limit: number): Node[] | undefined {
  const { op, src, outputs, attrs } = node;
  if (op.arena) return undefined;
  const large = [...(outputs ?? [node]), ...src].some((n) => bytesOf(n) > limit);
  const parts = splitInParts(node, contextOf(node, limit, large));
  if (parts || op.kind !== "kernel" || !large || op.inPlace) return parts;
  return composed(op, src, attrs);
}

const contextOf = (node: Node, limit: number, large: boolean): SplitContext => ({
  limit,
  large,
  bytesOf,
  extent: (i) => extent(operandOf(node, i, limit)),
  widest: (i) => {
    const operand = operandOf(node, i, limit);
    const bytes = extent(operand);
    const distance = operand.shape.map((n, d) => Math.abs(operand.strides[d]) * (n - 1));
    return bytes > limit
      ? { dim: distance.indexOf(Math.max(...distance)), parts: Math.ceil(bytes / limit) }
      : undefined;
  },
  cut: () => cutOfReduction(node.src[0], limit),
  stretches,
});

/** The dim of a reduction's source to cut, if the source or a buffer that its prologue reads is too large. */
function cutOfReduction(source: Node, limit: number): { dim: number; parts: number } | undefined {
  const index = source.shape.map((n, d) => variable(d, n));
  const isBuffer = (n: Node): boolean => !computes(n) && !passes(n);
  const loads = walk([new ExprBuilder({ isBuffer }).build(source, index)]).filter((e) => e.kind === "load");
  const cut = cutOf([{ node: source, address: linearize(index, source.shape) }, ...loads], limit);
  return cut && { dim: cut.variable, parts: cut.parts };
}
