import type { DeviceInfo } from "../../graph/device-info.ts";
import type { KernelCall } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { aliasOf } from "../expression/operand.ts";
import { chooseBuffers } from "./buffers.ts";
import { type Judgement, judgement, keepWorthwhile } from "./compile-cost.ts";
import { DISPATCH, MEMORY } from "./cost.ts";
import { epilogueFusions, fuseEpilogues } from "./epilogues.ts";
import { fusePrologues, prologueFusions } from "./prologues.ts";

/** The work of one kernel, or of the few kernels of one op. */
export interface Group {
  /** The buffer that it writes. */
  readonly root: Node;
  /** The reduce or kernel node in it; `root` is `core` or elementwise work on its result. */
  readonly core?: Node;
  /** Sources of `core` that its prologues compute. A source that is also a buffer is stored by the same kernel. */
  readonly prologues?: readonly Node[];
}

export interface Schedule {
  readonly groups: readonly Group[];
  /** Nodes that have a buffer of their own. */
  readonly buffers: ReadonlySet<Node>;
}

/** Most ops in a hook of a template. They share registers with the template. */
export const MAX_HOOK_OPS = 32;

export interface ScheduleOptions {
  /** Most storage buffers in a kernel. */
  readonly maxBuffers: number;
  readonly maxBindingBytes: number;
  readonly kind: DeviceInfo["kind"];
  /** Template calls of a kernel node. */
  callsOf(node: Node): readonly KernelCall[];
  /** Position in which nodes were built; decides the order of kernels. */
  sequence(node: Node): number;
  /** Off: one kernel per node. "always": fuse whatever it costs to compile. */
  readonly fuse: boolean | "always";
}

/**
 * Decides which nodes get a buffer, and which are fused into another kernel:
 * 1. elementwise nodes and views become one kernel with their consumers, unless recomputing costs more than storing;
 * 2. the result of a kernel or reduction goes through its elementwise consumers in registers (epilogue);
 * 3. kernels compute elementwise work on their inputs as they read them (prologue). Reductions always do.
 * On software adapters rules 2 and 3 keep only fusions that repay the time to compile their shader.
 * `order` holds all pending nodes, sources first; `wanted` those that must end in buffers.
 */
export function schedule(order: readonly Node[], wanted: readonly Node[], options: ScheduleOptions): Schedule {
  const consumers = new Map<Node, Node[]>(order.map((n) => [n, []]));
  for (const n of order) for (const s of new Set(n.src)) consumers.get(s)?.push(n);
  const buffers = chooseBuffers(order, wanted, consumers, options);
  const kept = new Set(wanted.map((n) => aliasOf(n) ?? n));
  const judge: Judgement = judgement(options.kind, options.fuse, workOfPlan(buffers, options));
  const withEpilogues = keepWorthwhile(
    buffers,
    judge,
    (own, apart) => fuseEpilogues(order, consumers, own, kept, options, apart),
    (cores, own) => epilogueFusions(order, cores, own, options),
  );
  const groups = inOrder(groupsOf(withEpilogues.buffers, withEpilogues.value), order, options);
  if (!options.fuse) return { groups, buffers: withEpilogues.buffers };
  const withPrologues = keepWorthwhile(
    withEpilogues.buffers,
    judge,
    (own, apart) => fusePrologues(groups, own, kept, options, apart),
    (fused, own) => prologueFusions(fused, own, options),
  );
  return { groups: withPrologues.value, buffers: withPrologues.buffers };
}

/** A group per buffer. `cores` has the core of roots that took over its buffer. */
function groupsOf(buffers: ReadonlySet<Node>, cores: ReadonlyMap<Node, Node>): Group[] {
  const ownCore = (n: Node): Node | undefined => (n.op.kind === "kernel" || n.op.kind === "reduce" ? n : undefined);
  return [...buffers]
    .filter((n) => n.op.kind !== "pick")
    .map((root): Group => ({ root, core: cores.get(root) ?? ownCore(root) }));
}

/** Groups in the order in which the user built their roots. */
function inOrder(groups: Group[], order: readonly Node[], { sequence }: ScheduleOptions): Group[] {
  const position = new Map(order.map((n, i) => [n, i]));
  return groups.sort((a, b) => sequence(a.root) - sequence(b.root) || position.get(a.root)! - position.get(b.root)!);
}

/** Rough flops of a run: each buffer is stored and loaded once. */
function workOfPlan(buffers: ReadonlySet<Node>, { kind, callsOf }: ScheduleOptions): number {
  let flops = 0;
  for (const n of buffers) {
    flops += 2 * MEMORY * numel(n.shape) + DISPATCH[kind];
    for (const call of n.op.kind === "kernel" ? callsOf(n) : []) flops += call.flops ?? 0;
  }
  return flops;
}
