import { placeOf } from "../graph/anomaly.ts";
import { isFloat } from "../graph/dtype.ts";
import type { Node } from "../graph/node.ts";
import { show } from "../graph/shape.ts";

/**
 * Computes every float below `roots` and looks for the first NaN, in the order in which the nodes were built.
 * @throws with op, shape and the user's line of the op that made it
 */
export async function findNaN(
  roots: readonly Node[],
  compute: (nodes: readonly Node[]) => Promise<void>,
): Promise<void> {
  const nodes = below(roots).filter((n) => !n.outputs && isFloat(n.dtype) && n.op.kind !== "assign");
  const sources = new Map(nodes.map((n) => [n, n.src])); // a computed node forgets its sources
  await compute(nodes.filter((n) => !n.host));
  const broken = new Set<Node>();
  for (const node of nodes) {
    const values = node.host ?? (await node.reading) ?? [];
    const at = values.findIndex(Number.isNaN);
    if (at < 0) continue;
    broken.add(node);
    if (node.op.kind === "leaf") continue; // reported at the op that reads it
    const src = sources.get(node)!;
    const from = src.findIndex((s) => broken.has(s));
    const what = from >= 0 ? `its input ${from} ${show(src[from].shape)} holds NaN` : "its inputs hold none";
    throw new Error(
      `detectAnomaly: ${(node.op.kind === "pick" ? src[0] : node).op.name} ${show(node.shape)} gives NaN first at element ${at}; ${what}\n    ${placeOf(node)}`,
    );
  }
}

/** The nodes that `roots` are computed from, with themselves, oldest first. */
function below(roots: readonly Node[]): Node[] {
  const found = new Set<Node>();
  const stack = [...roots];
  for (let n = stack.pop(); n; n = stack.pop()) {
    if (found.has(n)) continue;
    found.add(n);
    stack.push(...n.src);
  }
  return [...found].sort((a, b) => a.id - b.id);
}
