import type { KernelCall, Prologue } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { computes, operandOf } from "../expression/operand.ts";
import { bytesOf } from "../expression/window.ts";
import { type Fusion, type Fusions, shaderOf, workKey } from "./compile-cost.ts";
import { DISPATCH, MEMORY, savedByPrologue, workOf } from "./cost.ts";
import { type Group, MAX_HOOK_OPS, type ScheduleOptions } from "./schedule.ts";

const MAX_HOOK_LOADS = 32; // of a hook and all its copies: a driver takes 20 to 30 ms to compile each (docs/log.md)

/** The prologues of a call whose sources are among `nodes`. */
export const prologuesOf = (call: KernelCall, nodes: readonly Node[] = []): Prologue[] =>
  (call.prologues ?? []).filter((p) => nodes.includes(call.bind[p.source] as Node));

/**
 * Prologues: elementwise work on a template's inputs, computed as the template reads them, instead of by a kernel of its own.
 * Row kernels also store the value if other nodes need it, or if recomputing it costs more than a load. Products cannot store it:
 * they take a prologue only if neither holds. Cores in `apart` take no prologue.
 */
export function fusePrologues(
  groups: readonly Group[],
  buffers: Set<Node>,
  wanted: ReadonlySet<Node>,
  options: ScheduleOptions,
  apart: ReadonlySet<Node>,
): Group[] {
  const fusion = new PrologueFusion(groups, buffers, wanted, options);
  const taken = new Set<Node>();
  const fused = groups.map((g, i): Group => {
    const calls = g.core?.op.kind === "kernel" && !apart.has(g.core) ? options.callsOf(g.core) : [];
    const sources = new Set(calls.flatMap((c) => (c.prologues ?? []).map((p) => c.bind[p.source] as Node)));
    const prologues: Node[] = [];
    for (const source of sources) if (fusion.takes(g, i, source, prologues)) prologues.push(source);
    for (const n of prologues) taken.add(n);
    return prologues.length > 0 ? { ...g, prologues } : g;
  });
  return fused.filter((g) => !taken.has(g.root));
}

class PrologueFusion {
  private readonly groupOf: ReadonlyMap<Node, number>;
  /** Positions of the groups that read a buffer. */
  private readonly readers = new Map<Node, number[]>();
  private readonly overwrites: readonly boolean[];

  constructor(
    private readonly groups: readonly Group[],
    private readonly buffers: Set<Node>,
    private readonly wanted: ReadonlySet<Node>,
    private readonly options: ScheduleOptions,
  ) {
    this.groupOf = new Map(groups.map((g, i) => [g.root, i]));
    groups.forEach((g, i) => {
      for (const n of readsOf(g, buffers, options)) this.readers.set(n, [...(this.readers.get(n) ?? []), i]);
    });
    this.overwrites = groups.map((g) => (g.core?.op.inPlace ?? []).some((i) => i >= 0));
  }

  /** Whether the group at `i` computes `source` in a prologue, in addition to its `prologues` so far. */
  takes({ root, core }: Group, i: number, source: Node, prologues: readonly Node[]): boolean {
    const { buffers, options } = this;
    const from = this.groupOf.get(source);
    if (from === undefined || this.groups[from].core || !computes(source)) return false;
    const calls = options.callsOf(core!);
    const own = calls.flatMap((c) => prologuesOf(c, [source]));
    const stores = own[0].firstHook !== undefined;
    const epilogueLoads = root === core ? new Set<Node>() : workOf(root, core!, buffers).loads;
    const readers = this.readers.get(source)!;
    if (
      !this.fitsHook(source, own, stores) ||
      !this.fitsBindings(source, calls, prologues, epilogueLoads) ||
      calls.flatMap((c) => c.bind).filter((b) => b === source).length > (stores ? 1 : own.length) ||
      readers.some((r) => r < i) || // needed before
      this.overwrites.slice(from, i).some((o) => o) // what it reads may have changed by then
    )
      return false;
    const sole = readers.length === 1 && !this.wanted.has(source);
    const least = stores ? DISPATCH[options.kind] : 0; // which is saved in any case
    if (!sole || savedByPrologue(source, own, buffers, options.kind) < least) return stores;
    buffers.delete(source);
    return true;
  }

  private fitsHook(source: Node, prologues: readonly Prologue[], stores: boolean): boolean {
    const { loads, ops } = workOf(source, source, this.buffers);
    return (
      loads.size > 0 &&
      ops <= MAX_HOOK_OPS &&
      (stores ? source.dtype === "f32" : prologues.every((p) => p.copies * loads.size <= MAX_HOOK_LOADS)) &&
      prologues.every((p) => numel(p.shape) === numel(source.shape))
    );
  }

  private fitsBindings(
    source: Node,
    calls: readonly KernelCall[],
    prologues: readonly Node[],
    epilogueLoads: ReadonlySet<Node>,
  ): boolean {
    const { maxBuffers, maxBindingBytes } = this.options;
    const loadsOf = (n: Node): ReadonlySet<Node> => workOf(n, n, this.buffers).loads;
    const bound = (c: KernelCall): number => {
      const sources = prologuesOf(c, [...prologues, source]).map((p) => c.bind[p.source] as Node);
      return sources.reduce((sum, n) => sum + loadsOf(n).size, c.bind.length + epilogueLoads.size);
    };
    return (
      !epilogueLoads.has(source) && // the epilogue reads it: a dispatch cannot bind one buffer for reading and writing
      calls.every((c) => bound(c) <= maxBuffers) &&
      [source, ...loadsOf(source)].every((n) => bytesOf(n) <= maxBindingBytes)
    );
  }
}

/** Buffers that a group's kernels read and do not write. */
function readsOf({ root, core }: Group, buffers: ReadonlySet<Node>, options: ScheduleOptions): Set<Node> {
  const reads = new Set(workOf(root, core ?? root, buffers).loads);
  if (core?.op.kind === "reduce") for (const n of workOf(core, core, buffers).loads) reads.add(n);
  if (core?.op.kind === "kernel")
    core.src.forEach((_, i) => reads.add(operandOf(core, i, options.maxBindingBytes).buffer));
  return reads;
}

/** What the prologues of a schedule save, and the shaders that are needed without them. */
export function prologueFusions(
  groups: readonly Group[],
  buffers: ReadonlySet<Node>,
  options: ScheduleOptions,
): Fusions {
  const used = new Set<string>();
  const fusions: Fusion[] = [];
  for (const { root, core, prologues: computed = [] } of groups) {
    if (core?.op.kind !== "kernel") continue;
    for (const call of options.callsOf(core)) {
      const plain = `${shaderOf(call)} ${root === core ? "" : workKey(root, core, buffers)}`;
      const prologues = prologuesOf(call, computed);
      if (prologues.length === 0) {
        used.add(plain);
        continue;
      }
      const nodes = prologues.map((p) => call.bind[p.source] as Node);
      const work = nodes.map((n, i) => `${prologues[i].source} ${buffers.has(n)} ${workKey(n, n, buffers)}`);
      const saved = [...new Set(nodes)].reduce((sum, n) => {
        const oneLoad = MEMORY * numel(n.shape) + DISPATCH[options.kind];
        return sum + (buffers.has(n) ? oneLoad : savedByPrologue(n, prologuesOf(call, [n]), buffers, options.kind));
      }, 0);
      fusions.push({ core, call, plain, shader: `${plain} ${work.join()}`, saved });
    }
  }
  return { fusions, used };
}
