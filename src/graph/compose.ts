import { untracked } from "./build.ts";
import type { Attrs, Node } from "./node.ts";
import type { Op, SplitContext } from "./op.ts";
import type { Handle } from "./pending.ts";
import { withRecording } from "./recording.ts";

// The compiler calls rules that are written in tensors (fallback, split) through this file: on nodes, without gradients.

let tensorOf: (node: Node) => Handle;

/** Called once, by the tensor class. */
export const connectTensors = (wrap: (node: Node) => Handle): void => void (tensorOf = wrap);

/** The outputs of an op as its fallback composes them of other ops; undefined if it has no fallback. */
export const composed = ({ fallback }: Op, src: readonly Node[], attrs: Attrs): Node[] | undefined =>
  fallback && nodesOf(() => fallback(src.map(tensorOf), attrs));

/** A node larger than a binding, as ops over parts. Undefined if its op has no `split` rule, or needs none here. */
export const splitInParts = (node: Node, cx: SplitContext): Node[] | undefined => {
  const { split } = node.op;
  return split && nodesOf(() => split(node, node.src.map(tensorOf), cx));
};

function nodesOf(build: () => Handle | Handle[] | undefined): Node[] | undefined {
  const built = untracked(() => withRecording(false, build));
  return built && [built].flat().map((t) => t.node);
}
