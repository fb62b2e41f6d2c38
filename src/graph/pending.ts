import type { Node } from "./node.ts";

/** A tensor as the engine sees it: something that holds a node, which assignment replaces. */
export interface Handle {
  node: Node;
}

const MAX_SCALARS = 2048; // 0-d values that wait for a flush

/** In-place updates that the next flush carries out, oldest first. */
export const pendingAssigns = new Map<Handle, { leaf: Node; node: Node }>();
/** 0-d results since the last flush. It computes them all, so that a loss can be read after `optimizer.step()`. */
export const pendingScalars = new Set<Node>();

let flush: (() => Promise<void>) | undefined;

/** Called once, by the engine: how to compute what is pending. */
export const connectFlush = (run: () => Promise<void>): void => void (flush = run);

/** Notes a 0-d result that a user can hold. */
export function noteScalar(node: Node): void {
  pendingScalars.add(node);
  // A loop that never reads anything must not grow without bound. A failing value fails again when it is read.
  if (pendingScalars.size >= MAX_SCALARS) flush?.().catch(() => undefined);
}
