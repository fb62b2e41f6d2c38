import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { aliasOf, computes, operandOf, passes } from "../expression/operand.ts";
import { DISPATCH, MEMORY, priceOf } from "./cost.ts";
import type { ScheduleOptions } from "./schedule.ts";

const MAX_OPS = 160; // in one generated kernel

export type ConsumersOf = ReadonlyMap<Node, readonly Node[]>;

/** Nodes that need a buffer of their own: results, operands of kernels, values reused too often, limits of a kernel. */
export function chooseBuffers(
  order: readonly Node[],
  wanted: readonly Node[],
  consumers: ConsumersOf,
  options: ScheduleOptions,
): Set<Node> {
  const buffers = new Set<Node>();
  for (const n of wanted) {
    const at = aliasOf(n) ?? n;
    if (!at.realized) buffers.add(at);
  }
  for (const n of order) {
    const { kind } = n.op;
    if (kind === "kernel" || kind === "reduce" || kind === "pick") buffers.add(n);
    if (kind === "kernel")
      n.src.forEach((_, i) => {
        const { buffer } = operandOf(n, i, options.maxBindingBytes);
        if (!buffer.realized) buffers.add(buffer);
      });
    if (!options.fuse && computes(n)) buffers.add(n);
  }
  storeReused(order, consumers, buffers);
  limitKernels(order, buffers, options.maxBuffers - 1);
  return buffers;
}

/** Gives a buffer to values that several kernels read, if recomputing costs more than storing and loading. */
function storeReused(order: readonly Node[], consumers: ConsumersOf, buffers: Set<Node>): void {
  const cost = new Map<Node, number>();
  const loads = new Map<Node, boolean>(); // whether computing the value reads memory
  for (const n of order) {
    const source = (s: Node): number => (s.realized || buffers.has(s) ? MEMORY : (cost.get(s) ?? 0));
    cost.set(n, Math.min(1e6, priceOf(n) + n.src.reduce((sum, s) => sum + source(s), 0)));
    loads.set(
      n,
      n.src.some((s) => s.realized || buffers.has(s) || loads.get(s)),
    );
    if (n.op.repeats) storeRepeated(n, cost, loads, buffers);
  }
  const kernels = new Map<Node, Set<Node>>(); // that read a value
  for (let i = order.length - 1; i >= 0; i--) {
    const n = order[i];
    const users = new Set<Node>();
    for (const c of consumers.get(n)!) {
      if (buffers.has(c)) users.add(c);
      else for (const k of kernels.get(c)!) users.add(k);
    }
    kernels.set(n, users);
    const k = users.size;
    if (k > 1 && computes(n) && !buffers.has(n) && loads.get(n) && (k - 1) * cost.get(n)! > MEMORY * (k + 1))
      buffers.add(n);
  }
}

/** Gives a buffer to a small value that a view reads many times (expand, overlapping windows), if recomputing it costs more. */
function storeRepeated(
  view: Node,
  cost: ReadonlyMap<Node, number>,
  loads: ReadonlyMap<Node, boolean>,
  buffers: Set<Node>,
): void {
  const growth = numel(view.shape) / numel(view.src[0].shape);
  if (growth <= 1) return;
  let base = view.src[0];
  while (passes(base)) base = base.src[0];
  const more = (growth - 1) * cost.get(base)! - 1.25 * MEMORY * (growth + 1); // than storing it, per element
  if (computes(base) && loads.get(base) && more * numel(base.shape) > DISPATCH.software) buffers.add(base);
}

/** Keeps each kernel within the adapter's bindings, and at a size that compiles quickly. */
function limitKernels(order: readonly Node[], buffers: Set<Node>, maxLoads: number): void {
  const ops = new Map<Node, number>();
  const loads = new Map<Node, Set<Node>>();
  const stored = (s: Node): boolean => s.realized || buffers.has(s);
  const loadsOf = (n: Node): Set<Node> => new Set(n.src.flatMap((s) => (stored(s) ? [s] : [...loads.get(s)!])));
  const refresh = (s: Node): void => {
    if (stored(s)) return;
    s.src.forEach(refresh);
    loads.set(s, loadsOf(s));
  };
  for (const n of order) {
    const inlined = n.src.filter((s) => !stored(s));
    let set = n.op.kind === "kernel" ? new Set<Node>() : loadsOf(n);
    while (set.size > maxLoads) {
      const heaviest = inlined
        .filter((s) => !buffers.has(s))
        .sort((a, b) => loads.get(b)!.size - loads.get(a)!.size)[0];
      if (!heaviest || loads.get(heaviest)!.size < 2)
        throw new Error(`${n.op.name}: reads ${set.size} tensors at once, the adapter binds ${maxLoads}`);
      let base = heaviest;
      while (passes(base)) base = base.src[0];
      buffers.add(base.op.kind === "pick" ? heaviest : base);
      inlined.forEach(refresh);
      set = loadsOf(n);
    }
    loads.set(n, set);
    const count = 1 + n.src.reduce((sum, s) => sum + (stored(s) ? 0 : (ops.get(s) ?? 0)), 0);
    ops.set(n, Math.min(count, 1e6));
    if (count > MAX_OPS && computes(n)) buffers.add(n);
  }
}
