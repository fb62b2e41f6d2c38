import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import type { ConsumersOf } from "./buffers.ts";
import { type Fusion, type Fusions, shaderOf, workKey } from "./compile-cost.ts";
import { DISPATCH, MEMORY, workOf } from "./cost.ts";
import { MAX_HOOK_OPS, type ScheduleOptions } from "./schedule.ts";

/**
 * Epilogues: elementwise work on a kernel's or reduction's result, computed before the result is stored. Returns the core of
 * each root that took one over, and moves the buffer from core to root. Cores in `apart` keep their own buffer.
 */
export function fuseEpilogues(
  order: readonly Node[],
  consumers: ConsumersOf,
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
    const chain = chainAfter(core, consumers, buffers, options, (n) => absorbed.has(n) || cores.has(n));
    const root = chain.findLast((n) => n.op.kind === "elementwise");
    if (!root) continue;
    buffers.delete(core);
    buffers.add(root);
    cores.set(root, core);
    for (const n of chain) absorbed.add(n);
  }
  return cores;
}

/** The elementwise nodes and reshapes after `core` that its kernel can compute on its result. */
function chainAfter(
  core: Node,
  consumers: ConsumersOf,
  buffers: ReadonlySet<Node>,
  options: ScheduleOptions,
  taken: (n: Node) => boolean,
): Node[] {
  const call = core.outputs ? undefined : options.callsOf(core).find((c) => c.epilogue);
  const bound = core.op.kind === "reduce" ? 1 : call?.bind.length;
  if (bound === undefined) return [];
  const storesHalves = call?.epilogue?.store && call.epilogue.type === "vec4f";
  const fits = (next: Node): boolean => {
    if (next.op.kind !== "elementwise" || core.dtype !== "f32" || numel(next.shape) !== numel(core.shape)) return false;
    if (next.dtype !== "f32" && !(next.dtype === "f16" && storesHalves)) return false;
    const { loads, ops } = workOf(next, core, buffers);
    return bound + loads.size <= options.maxBuffers && ops <= MAX_HOOK_OPS;
  };
  const chain: Node[] = [];
  for (let at = core; ; ) {
    const users = consumers.get(at)!;
    if (users.length !== 1) break;
    const [next] = users;
    const reshapes = next.op.keepsOrder && !buffers.has(next);
    if (taken(next) || !(reshapes || fits(next))) break;
    chain.push(next);
    at = next;
    if (buffers.has(at)) break;
  }
  return chain;
}

/** What the epilogues of a schedule save, and the shaders that are needed without them. */
export function epilogueFusions(
  order: readonly Node[],
  cores: ReadonlyMap<Node, Node>,
  buffers: ReadonlySet<Node>,
  options: ScheduleOptions,
): Fusions {
  const fused = new Set(cores.values());
  const alone = order.filter((n) => n.op.kind === "kernel" && !fused.has(n));
  const fusions = [...cores].flatMap(([root, core]): Fusion[] => {
    const call = options.callsOf(core).find((c) => c.epilogue);
    if (!call) return []; // a reduction: generated either way
    const plain = shaderOf(call);
    const saved = 2 * MEMORY * numel(core.shape) + DISPATCH[options.kind];
    return [{ core, call, plain, shader: `${plain} ${workKey(root, core, buffers)}`, saved }];
  });
  return { fusions, used: new Set(alone.flatMap((n) => options.callsOf(n).map(shaderOf))) };
}
