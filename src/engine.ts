import type { HostArray } from "./dtype.ts";
import { Node } from "./node.ts";
import { defineOp } from "./ops/define.ts";
import { evaluate } from "./runtime/reference.ts";
import type { Tensor } from "./tensor.ts";

/** Identity: the value that a tensor takes in place at the next flush. */
const assignOp = defineOp({
  name: "assign",
  kind: "leaf",
  vjp: () => [null],
  reference: ([x]) => x,
});

/** In-place updates that the next flush carries out, oldest first. */
const pendingAssigns = new Map<Tensor, { leaf: Node; node: Node }>();
/** 0-d results since the last flush: always computed by it, so a loss can be read after `optimizer.step()`. */
const pendingScalars = new Set<Node>();

/** Called for every 0-d result of an op that a user can hold. */
export function notePendingScalar(node: Node): void {
  pendingScalars.add(node);
}

/**
 * Makes `target` (a parameter, moment or cache: a leaf) take `value` in place at the next flush.
 * Reads of `target` from now on see the new value; graphs built before see the old one.
 */
export function assign(target: Tensor, value: Tensor): void {
  const leaf = pendingAssigns.get(target)?.leaf ?? target.node;
  const node = new Node(assignOp, [value.node], {}, leaf.shape, leaf.dtype);
  node.requiresGrad = target.requiresGrad;
  pendingAssigns.set(target, { leaf, node });
  target.node = node;
}

/** Computes `nodes`, all pending assigns and all pending 0-d values. */
export async function flush(nodes: readonly Node[]): Promise<void> {
  const assigns = [...pendingAssigns.values()];
  const roots = [...new Set([...nodes, ...pendingScalars, ...assigns.map((a) => a.node)])].filter((n) => !n.realized);
  pendingAssigns.clear();
  pendingScalars.clear();
  evaluate(roots);
  for (const { node } of assigns) node.src = [];
}

/** The values of `node`, row-major, after computing what is pending. */
export async function read(node: Node): Promise<HostArray> {
  if (node.stale) throw new Error(node.stale);
  if (!node.realized) await flush([node]);
  const data = node.host!;
  if (data instanceof Float64Array) {
    if (node.dtype === "i32") return Int32Array.from(data);
    return node.dtype === "u32" || node.dtype === "bool" ? Uint32Array.from(data) : Float32Array.from(data);
  }
  return data;
}
