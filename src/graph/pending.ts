import type { Node } from "./node.ts";

/** A tensor as the engine sees it: it holds a node, and assignment replaces that node. */
export interface Handle {
  node: Node;
}

const MAX_SCALARS = 2048; // 0-d values that wait for a flush

/** In-place updates that the next flush carries out, oldest first. */
export const pendingAssigns = new Map<Handle, { leaf: Node; node: Node }>();
/** 0-d results since the last flush. The next flush computes them all: a loss stays readable after `optimizer.step()`. */
export const pendingScalars = new Set<Node>();

/** Runs `build`. If it throws, the in-place updates that it made are undone: none of several is carried out alone. */
export function allOrNothing<T>(build: () => T): T {
  const before = new Map(pendingAssigns);
  try {
    return build();
  } catch (error) {
    restoreAssigns(before);
    throw error;
  }
}

/** Undoes the in-place updates that were added since `before` was copied. */
export function restoreAssigns(before: ReadonlyMap<Handle, { leaf: Node; node: Node }>): void {
  for (const [target, { leaf }] of pendingAssigns) target.node = before.get(target)?.node ?? leaf;
  pendingAssigns.clear();
  for (const [target, pending] of before) pendingAssigns.set(target, pending);
}

/** Checks of values that the next flush reads: each throws if a value is wrong. */
export const pendingChecks = new Map<Node, (values: ArrayLike<number>) => void>();
let checking = false;

/** Whether ops check indices that the device computes (`init({ checkIndices: true })`). */
export const checksIndices = (): boolean => checking;
export const setIndexChecks = (on: boolean): void => void (checking = on);

/** Has the next flush read `node` and call `check` with its values. */
export const noteCheck = (node: Node, check: (values: ArrayLike<number>) => void): void =>
  void pendingChecks.set(node, check);

let flush: (() => Promise<void>) | undefined;

/** The engine passes its flush here, once. */
export const connectFlush = (run: () => Promise<void>): void => void (flush = run);

/** Adds a 0-d result to the next flush. */
export function noteScalar(node: Node): void {
  pendingScalars.add(node);
  // Bounds a loop that never reads. An error here is ignored: the value fails again when it is read.
  if (pendingScalars.size >= MAX_SCALARS) flush?.().catch(() => undefined);
}
