import { callSite, type Node } from "./node.ts";

// Anomaly mode: every node remembers the user's line that built it, and flushes look for the first NaN.

let depth = 0;
const places = new WeakMap<Node, string>();
/** The op whose gradient is being built. */
let forward: Node | undefined;

/** Whether a `detectAnomaly` is running. */
export const detectsAnomaly = (): boolean => depth > 0;

/** Notes where a node was built. A node of a gradient gets the place of the op that it belongs to. */
export function notePlace(node: Node): void {
  if (depth === 0) return;
  const place = (forward && places.get(forward)) ?? callSite() ?? "outside of any file";
  places.set(node, forward ? `in the gradient of ${forward.op.name} ${place.replace(/^at /, "at ")}` : place);
}

export const placeOf = (node: Node): string => places.get(node) ?? "before detectAnomaly";

/** Runs `build`, whose nodes belong to the gradient of `node`. */
export function asGradientOf<T>(node: Node, build: () => T): T {
  if (depth === 0) return build();
  const before = forward;
  forward = node;
  try {
    return build();
  } finally {
    forward = before;
  }
}

/** Runs `fn` in anomaly mode. */
export async function watchingForNaN<T>(fn: () => T | Promise<T>): Promise<T> {
  depth++;
  try {
    return await fn();
  } finally {
    depth--;
  }
}
