import { noGrad, untracked } from "./build.ts";
import type { Attrs, Node } from "./node.ts";
import type { Op, SplitContext } from "./op.ts";
import type { Handle } from "./pending.ts";

// Rules of ops that are written in tensors, as the compiler calls them: on nodes, and without recording gradients.

let tensorOf: (node: Node) => Handle;

/** Called once, by the tensor class. */
export const connectTensors = (wrap: (node: Node) => Handle): void => void (tensorOf = wrap);

/** The outputs of an op as its fallback composes them of other ops; undefined if it has no fallback. */
export const composed = ({ fallback }: Op, src: readonly Node[], attrs: Attrs): Node[] | undefined =>
  fallback && nodesOf(() => fallback(src.map(tensorOf), attrs));

/** A node that is larger than a binding as ops over parts; undefined if its op has no rule for that, or no need. */
export const splitInParts = (node: Node, cx: SplitContext): Node[] | undefined => {
  const { split } = node.op;
  return split && nodesOf(() => split(node, node.src.map(tensorOf), cx));
};

function nodesOf(build: () => Handle | Handle[] | undefined): Node[] | undefined {
  const built = untracked(() => noGrad(build));
  return built && [built].flat().map((t) => t.node);
}
