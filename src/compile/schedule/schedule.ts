import type { KernelCall, Prologue } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import type { DeviceInfo } from "../../runtime/device.ts";
import { aliasOf, computes, operandOf, passes } from "../expression/operand.ts";
import { bytesOf } from "../expression/window.ts";
import { type Fusion, type Fusions, fuseWorthy, judgement, textOf, workOf } from "./compile-cost.ts";

/** One kernel (or a few that belong together): `root` is the buffer it writes, `core` the reduce or kernel node in it. */
export interface Group {
  readonly root: Node;
  readonly core?: Node;
  /** Sources of `core` that are computed here, as it reads them; one that is a buffer is stored on the way. */
  readonly made?: readonly Node[];
}

export interface Schedule {
  readonly groups: readonly Group[];
  /** Nodes that have a buffer of their own. */
  readonly buffers: ReadonlySet<Node>;
}

// Costs in flops: one loaded or stored scalar costs as much as about 20 multiply-adds (docs/log.md).
const MEMORY = 20;
const MAX_OPS = 160; // in one generated kernel
const DIVIDE = 2 * MEMORY; // row and column of a position
/** A kernel more: 20 µs of CPU time on a software adapter; a GPU idles for 3 to 5 where one kernel waits for another. */
const DISPATCH = { software: 2 ** 19, integrated: 2 ** 24, discrete: 2 ** 27 };
const MAX_HOOK_LOADS = 32; // and in all its copies: each takes a driver 20 to 30 ms to compile (docs/log.md)
const MAX_HOOK_OPS = 32; // in a hook of a template: it is compiled together with the template's own registers

export interface ScheduleOptions {
  /** Most storage buffers in a kernel. */
  readonly maxBuffers: number;
  readonly maxBindingBytes: number;
  readonly kind: DeviceInfo["kind"];
  /** Template calls of a kernel node. */
  callsOf(node: Node): readonly KernelCall[];
  /** Position in which nodes were made; decides the order of kernels. */
  sequence(node: Node): number;
  /** Rule 1–3 of fusion; off = one kernel per node, "always" = whatever it costs to compile. */
  readonly fuse: boolean | "always";
}

/**
 * Decides what gets a buffer and what is computed inside a neighbour:
 * 1. elementwise nodes and views become one kernel with their consumers, unless recomputing costs more than storing;
 * 2. a heavy kernel's result goes through its elementwise consumers in registers (epilogue);
 * 3. a reduction takes the elementwise work before and after it, a row kernel (softmax, norm) what makes its source, a
 *    product what makes its operands.
 * `order` holds all pending nodes, sources first; `wanted` those that must end in buffers.
 */
export function schedule(order: readonly Node[], wanted: readonly Node[], options: ScheduleOptions): Schedule {
  const consumers = new Map<Node, Node[]>(order.map((n) => [n, []]));
  for (const n of order) for (const s of new Set(n.src)) consumers.get(s)?.push(n);
  const buffers = new Set<Node>();
  const force = (n: Node): void => {
    const at = aliasOf(n) ?? n;
    if (!at.realized) buffers.add(at);
  };

  for (const n of wanted) force(n);
  for (const n of order) {
    const { kind } = n.op;
    if (kind === "kernel" || kind === "reduce") buffers.add(n);
    if (kind === "kernel") {
      n.src.forEach((_, i) => {
        const { buffer } = operandOf(n, i, options.maxBindingBytes);
        if (!buffer.realized) buffers.add(buffer);
      });
    }
    if (kind === "pick") buffers.add(n);
    if (!options.fuse && computes(n)) buffers.add(n);
  }

  storeReused(order, consumers, buffers);
  limitKernels(order, buffers, options.maxBuffers - 1);
  const keep = new Set(wanted.map((n) => aliasOf(n) ?? n));
  const by = judgement(options.kind, options.fuse, workOfPlan(buffers, options));
  const { buffers: stored, value: cores } = fuseWorthy(
    buffers,
    by,
    (own, apart) => fuseEpilogues(order, consumers, own, keep, options, apart),
    (cores, own) => epilogues(order, cores, own, options),
  );

  const groups = [...stored]
    .filter((n) => n.op.kind !== "pick")
    .map(
      (root): Group => ({
        root,
        core: cores.get(root) ?? (root.op.kind === "kernel" || root.op.kind === "reduce" ? root : undefined),
      }),
    );
  const position = new Map(order.map((n, i) => [n, i]));
  groups.sort(
    (a, b) => options.sequence(a.root) - options.sequence(b.root) || position.get(a.root)! - position.get(b.root)!,
  );
  if (!options.fuse) return { groups, buffers: stored };
  const { buffers: final, value: fused } = fuseWorthy(
    stored,
    by,
    (own, apart) => fusePrologues(groups, own, keep, options, apart),
    (fused, own) => prologues(fused, own, options),
  );
  return { groups: fused, buffers: final };
}

/** Flops of a run, roughly: each buffer is stored and loaded once. */
function workOfPlan(buffers: ReadonlySet<Node>, { kind, callsOf }: ScheduleOptions): number {
  let flops = 0;
  for (const n of buffers) {
    flops += 2 * MEMORY * numel(n.shape) + DISPATCH[kind];
    for (const call of n.op.kind === "kernel" ? callsOf(n) : []) flops += call.flops ?? 0;
  }
  return flops;
}

/** What epilogues save (worth.ts), and the texts of kernels without one. */
function epilogues(
  order: readonly Node[],
  cores: ReadonlyMap<Node, Node>,
  buffers: ReadonlySet<Node>,
  options: ScheduleOptions,
): Fusions {
  const fused = new Set(cores.values());
  const alone = order.filter((n) => n.op.kind === "kernel" && !fused.has(n));
  const fusions = [...cores].flatMap(([root, core]): Fusion[] => {
    const call = options.callsOf(core).find((c) => c.epilogue);
    if (!call) return []; // a reduction
    const plain = textOf(call);
    const saved = 2 * MEMORY * numel(core.shape) + DISPATCH[options.kind];
    return [{ core, kernel: call.kernel, plain, text: `${plain} ${workOf(root, core, buffers)}`, saved }];
  });
  return { fusions, used: new Set(alone.flatMap((n) => options.callsOf(n).map(textOf))) };
}

/** The same of prologues. */
function prologues(groups: readonly Group[], buffers: ReadonlySet<Node>, options: ScheduleOptions): Fusions {
  const used = new Set<string>();
  const fusions: Fusion[] = [];
  for (const { root, core, made = [] } of groups) {
    if (core?.op.kind !== "kernel") continue;
    for (const call of options.callsOf(core)) {
      const plain = `${textOf(call)} ${root === core ? "" : workOf(root, core, buffers)}`;
      const joined = prologuesOf(call, made);
      if (joined.length === 0) {
        used.add(plain);
        continue;
      }
      const nodes = joined.map((p) => call.bind[p.source] as Node);
      const work = nodes.map((n, i) => `${joined[i].source} ${buffers.has(n)} ${workOf(n, n, buffers)}`);
      const saved = [...new Set(nodes)].reduce((sum, n) => {
        const stored = MEMORY * numel(n.shape) + DISPATCH[options.kind]; // one loading
        return sum + (buffers.has(n) ? stored : savedInside(n, prologuesOf(call, [n]), buffers, options.kind));
      }, 0);
      fusions.push({ core, kernel: call.kernel, plain, text: `${plain} ${work.join()}`, saved });
    }
  }
  return { fusions, used };
}

/** Gives a buffer to values that several kernels would recompute at more than its price. */
function storeReused(order: readonly Node[], consumers: Map<Node, Node[]>, buffers: Set<Node>): void {
  const cost = new Map<Node, number>();
  const loads = new Map<Node, number>();
  for (const n of order) {
    const source = (s: Node): number => (s.realized || buffers.has(s) ? MEMORY : (cost.get(s) ?? 0));
    cost.set(n, Math.min(1e6, priceOf(n) + n.src.reduce((sum, s) => sum + source(s), 0)));
    loads.set(n, n.src.some((s) => s.realized || buffers.has(s) || (loads.get(s) ?? 0) > 0) ? 1 : 0);
    // Small values spread over many elements (expand, overlapping windows): computed once or once per use?
    const growth = n.op.kind === "view" ? numel(n.shape) / numel(n.src[0].shape) : 1;
    if (growth > 1 && n.op.name !== "pad") {
      let base = n.src[0];
      while (passes(base)) base = base.src[0];
      const more = (growth - 1) * cost.get(base)! - 1.25 * MEMORY * (growth + 1); // than storing it, an element
      const dispatch = DISPATCH.software; // the least
      if (computes(base) && loads.get(base)! > 0 && more * numel(base.shape) > dispatch) buffers.add(base);
    }
  }
  const kernels = new Map<Node, Set<Node>>();
  for (let i = order.length - 1; i >= 0; i--) {
    const n = order[i];
    const users = new Set<Node>();
    for (const c of consumers.get(n)!) {
      if (buffers.has(c)) users.add(c);
      else for (const k of kernels.get(c)!) users.add(k);
    }
    kernels.set(n, users);
    const k = users.size;
    if (k > 1 && computes(n) && !buffers.has(n) && loads.get(n)! > 0 && (k - 1) * cost.get(n)! > MEMORY * (k + 1))
      buffers.add(n);
  }
}

/** Keeps each kernel within the adapter's bindings and a size that compiles quickly. */
function limitKernels(order: readonly Node[], buffers: Set<Node>, maxLoads: number): void {
  const ops = new Map<Node, number>();
  const loads = new Map<Node, Set<Node>>();
  for (const n of order) {
    const inlined = n.src.filter((s) => !s.realized && !buffers.has(s));
    const reads = (): Set<Node> =>
      new Set(n.src.flatMap((s) => (s.realized || buffers.has(s) ? [s] : [...loads.get(s)!])));
    let set = n.op.kind === "kernel" ? new Set<Node>() : reads();
    while (set.size > maxLoads) {
      const heaviest = inlined
        .filter((s) => !buffers.has(s))
        .sort((a, b) => loads.get(b)!.size - loads.get(a)!.size)[0];
      if (!heaviest || loads.get(heaviest)!.size < 2)
        throw new Error(`${n.op.name}: reads ${set.size} tensors at once, the adapter binds ${maxLoads}`);
      let base = heaviest;
      while (passes(base)) base = base.src[0];
      buffers.add(base.op.kind === "pick" ? heaviest : base);
      for (const s of [...inlined]) refresh(s);
      set = reads();
    }
    loads.set(n, set);
    const count = 1 + n.src.reduce((sum, s) => sum + (s.realized || buffers.has(s) ? 0 : (ops.get(s) ?? 0)), 0);
    ops.set(n, Math.min(count, 1e6));
    if (count > MAX_OPS && computes(n)) buffers.add(n);
  }
  function refresh(s: Node): void {
    if (s.realized || buffers.has(s)) return;
    s.src.forEach(refresh);
    loads.set(s, new Set(s.src.flatMap((t) => (t.realized || buffers.has(t) ? [t] : [...loads.get(t)!]))));
  }
}

/** Rule 2 and the epilogue half of rule 3, but for cores `apart`. Returns the core of each root that took one over. */
function fuseEpilogues(
  order: readonly Node[],
  consumers: Map<Node, Node[]>,
  buffers: Set<Node>,
  wanted: ReadonlySet<Node>,
  options: ScheduleOptions,
  apart: ReadonlySet<Node>,
): Map<Node, Node> {
  const cores = new Map<Node, Node>();
  if (!options.fuse) return cores;
  const absorbed = new Set<Node>();
  for (const core of order) {
    if (!buffers.has(core) || wanted.has(core) || apart.has(core)) continue;
    const call = core.outputs ? undefined : options.callsOf(core).find((c) => c.epilogue);
    const bound = core.op.kind === "reduce" ? 1 : call?.bind.length;
    const halves = call?.epilogue?.store && call.epilogue.type === "vec4f";
    if (bound === undefined) continue;
    let root: Node | undefined;
    const chain: Node[] = [];
    for (let at = core; ; ) {
      const users = consumers.get(at)!;
      if (users.length !== 1) break;
      const next = users[0];
      if (absorbed.has(next) || cores.has(next)) break;
      if (next.op.name === "reshape" && !buffers.has(next)) at = next;
      else if (
        next.op.kind === "elementwise" &&
        (next.dtype === "f32" || (next.dtype === "f16" && halves)) &&
        core.dtype === "f32" &&
        numel(next.shape) === numel(core.shape)
      ) {
        const { loads, ops } = beside(next, core, buffers);
        if (bound + loads.size > options.maxBuffers || ops > MAX_HOOK_OPS) break;
        at = root = next;
      } else break;
      chain.push(at);
      if (buffers.has(at)) break;
    }
    if (!root) continue;
    buffers.delete(core);
    buffers.add(root);
    cores.set(root, core);
    for (const n of chain) absorbed.add(n);
  }
  return cores;
}

/** What computing `node` from `core` loads beside it, how many ops it takes, and whether views move what it loads. */
function beside(node: Node, core: Node, buffers: ReadonlySet<Node>): { loads: Set<Node>; ops: number; moves: boolean } {
  const loads = new Set<Node>();
  const seen = new Set<Node>([node]);
  let ops = 0;
  let moves = false;
  const visit = (n: Node): void => {
    if (computes(n)) ops++;
    else if (passes(n) && n.op.name !== "reshape" && numel(n.src[0].shape) > 1) moves = true;
    for (const s of n.src) {
      if (s === core || seen.has(s)) continue;
      seen.add(s);
      if (s.realized || buffers.has(s)) loads.add(s);
      else visit(s);
    }
  };
  visit(node);
  return { loads, ops, moves };
}

/** What a group's kernels read: buffers, but for those that they write themselves. */
function readsOf({ root, core }: Group, buffers: ReadonlySet<Node>, options: ScheduleOptions): Set<Node> {
  const reads = beside(root, core ?? root, buffers).loads;
  if (core?.op.kind === "reduce") for (const n of beside(core, core, buffers).loads) reads.add(n);
  if (core?.op.kind === "kernel") {
    core.src.forEach((_, i) => reads.add(operandOf(core, i, options.maxBindingBytes).buffer));
  }
  return reads;
}

/**
 * The prologue half of rule 3: a template computes a source as it reads it, if that was to be an elementwise kernel of its
 * own. Row kernels store it on the way if others need it or if computing it again costs more than memory; products cannot
 * store it, and take it only if neither is so.
 */
function fusePrologues(
  groups: readonly Group[],
  buffers: Set<Node>,
  wanted: ReadonlySet<Node>,
  options: ScheduleOptions,
  apart: ReadonlySet<Node>,
): Group[] {
  const at = new Map(groups.map((g, i) => [g.root, i]));
  const users = new Map<Node, number[]>(); // positions of the groups that read a buffer
  groups.forEach((g, i) => {
    for (const n of readsOf(g, buffers, options)) users.set(n, [...(users.get(n) ?? []), i]);
  });
  const overwrites = groups.map((g) => (g.core?.op.inPlace ?? []).some((i) => i >= 0));
  const taken = new Set<Node>();

  /** Whether the group at `i` computes `source` beside the sources in `made`. */
  const takes = ({ root, core }: Group, i: number, source: Node, made: readonly Node[]): boolean => {
    const from = at.get(source);
    if (from === undefined || groups[from].core || !computes(source)) return false;
    const calls = options.callsOf(core!);
    const prologues = calls.flatMap((c) => prologuesOf(c, [source]));
    const store = prologues[0].first !== undefined;
    const { loads, ops } = beside(source, source, buffers);
    const others = root === core ? new Set<Node>() : beside(root, core!, buffers).loads; // of the epilogue
    const bound = (c: KernelCall): number => {
      const sources = prologuesOf(c, [...made, source]).map((p) => c.bind[p.source] as Node);
      return sources.reduce((sum, n) => sum + beside(n, n, buffers).loads.size, c.bind.length + others.size);
    };
    const readers = users.get(source)!;
    if (
      loads.size === 0 ||
      ops > MAX_HOOK_OPS ||
      (!store && prologues.some((p) => p.copies * loads.size > MAX_HOOK_LOADS)) ||
      (store && source.dtype !== "f32") ||
      others.has(source) || // bound for writing already
      calls.some((c) => bound(c) > options.maxBuffers) ||
      bytesOf(source) > options.maxBindingBytes ||
      [...loads].some((n) => bytesOf(n) > options.maxBindingBytes) ||
      prologues.some((p) => numel(p.shape) !== numel(source.shape)) ||
      calls.flatMap((c) => c.bind).filter((b) => b === source).length > (store ? 1 : prologues.length) ||
      readers.some((r) => r < i) || // needed before
      overwrites.slice(from, i).some((o) => o) // what it reads may have changed by then
    )
      return false;
    const sole = readers.length === 1 && !wanted.has(source);
    const least = store ? DISPATCH[options.kind] : 0; // which is saved in any case
    if (!sole || savedInside(source, prologues, buffers, options.kind) < least) return store;
    buffers.delete(source);
    return true;
  };

  const fused = groups.map((g, i): Group => {
    const calls = g.core?.op.kind === "kernel" && !apart.has(g.core) ? options.callsOf(g.core) : [];
    const made: Node[] = [];
    for (const source of new Set(calls.flatMap((c) => (c.prologues ?? []).map((p) => c.bind[p.source] as Node))))
      if (takes(g, i, source, made)) made.push(source);
    for (const n of made) taken.add(n);
    return made.length > 0 ? { ...g, made } : g;
  });
  return fused.filter((g) => !taken.has(g.root));
}

/** Flops that a run saves by computing a source at each of its readings, not by a kernel of its own that stores it. */
function savedInside(
  source: Node,
  prologues: readonly Prologue[],
  buffers: ReadonlySet<Node>,
  kind: DeviceInfo["kind"],
): number {
  const once = costOf(source, buffers);
  const [{ shape, type }] = prologues;
  const divides = shape.length === 1 && beside(source, source, buffers).moves;
  const each = once + (divides ? DIVIDE / (type === "vec4f" ? 4 : 1) : 0);
  const readings = prologues.reduce((sum, p) => sum + p.readings, 0);
  return numel(source.shape) * (once + MEMORY * (readings + 1) - readings * each) + DISPATCH[kind];
}

/** The prologues of a call whose sources are among `made`. */
export const prologuesOf = (call: KernelCall, made: readonly Node[] = []): Prologue[] =>
  (call.prologues ?? []).filter((p) => made.includes(call.bind[p.source] as Node));

/** Price of computing a value from buffers, as in `storeReused`. */
function costOf(node: Node, buffers: ReadonlySet<Node>): number {
  const known = new Map<Node, number>();
  const cost = (n: Node): number => {
    if (n !== node && (n.realized || buffers.has(n))) return MEMORY;
    if (!known.has(n)) known.set(n, Math.min(1e6, priceOf(n) + n.src.reduce((sum, s) => sum + cost(s), 0)));
    return known.get(n)!;
  };
  return cost(node);
}

/** Flops of a node itself. */
const priceOf = (n: Node): number => (computes(n) ? (n.op.cost ?? 1) + (n.op.kind === "gather" ? MEMORY : 0) : 0);
