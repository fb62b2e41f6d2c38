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

let depth = 0;

/**
 * Whether a rule of an op runs. Values that it gets passed the checks of the user's call, or were on the device then: the
 * interpreter's rules see them on the host, and must give what the device gives.
 */
export const isComposing = (): boolean => depth > 0;

function nodesOf(build: () => Handle | Handle[] | undefined): Node[] | undefined {
  depth++;
  let built: Handle | Handle[] | undefined;
  try {
    built = untracked(() => withRecording(false, build));
  } finally {
    depth--;
  }
  return built && [built].flat().map((t) => t.node);
}
