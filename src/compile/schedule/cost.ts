import type { DeviceInfo } from "../../graph/device-info.ts";
import type { Prologue } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { computes, passes } from "../expression/operand.ts";

// Run-time costs in flops. One loaded or stored scalar costs about as much as 20 multiply-adds (docs/log.md).

export const MEMORY = 20;
const DIVIDE = 2 * MEMORY; // row and column of a position
/** One more kernel: 20 µs of CPU time on a software adapter. A GPU idles 3 to 5 µs where one kernel waits for another. */
export const DISPATCH = { software: 2 ** 19, integrated: 2 ** 24, discrete: 2 ** 27 };

/** Flops of a node itself, per element. */
export const priceOf = (n: Node): number =>
  computes(n) ? (n.op.cost ?? 1) + (n.op.kind === "gather" ? MEMORY : 0) : 0;

/** Reads and ops of computing `node` from `core`, not counting `core` itself. */
export interface Work {
  readonly loads: ReadonlySet<Node>;
  /** Elementwise ops. */
  readonly ops: number;
  /** Views other than reshapes move what is loaded. */
  readonly moves: boolean;
}

/** The elementwise work between `core` (or buffers) and `node`. */
export function workOf(node: Node, core: Node, buffers: ReadonlySet<Node>): Work {
  const loads = new Set<Node>();
  const seen = new Set<Node>([node]);
  let ops = 0;
  let moves = false;
  const visit = (n: Node): void => {
    if (computes(n)) ops++;
    else if (passes(n) && !n.op.keepsOrder && numel(n.src[0].shape) > 1) moves = true;
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

/** Flops per element of computing a value from buffers. */
function costOf(node: Node, buffers: ReadonlySet<Node>): number {
  const known = new Map<Node, number>();
  const cost = (n: Node): number => {
    if (n !== node && (n.realized || buffers.has(n))) return MEMORY;
    if (!known.has(n)) known.set(n, Math.min(1e6, priceOf(n) + n.src.reduce((sum, s) => sum + cost(s), 0)));
    return known.get(n)!;
  };
  return cost(node);
}

/** Flops that a run saves if a source is computed at each of its reads, instead of by a kernel that stores it. */
export function savedByPrologue(
  source: Node,
  prologues: readonly Prologue[],
  buffers: ReadonlySet<Node>,
  kind: DeviceInfo["kind"],
): number {
  const once = costOf(source, buffers);
  const [{ shape, type }] = prologues;
  const divides = shape.length === 1 && workOf(source, source, buffers).moves;
  const each = once + (divides ? DIVIDE / (type === "vec4f" ? 4 : 1) : 0);
  const readings = prologues.reduce((sum, p) => sum + p.readings, 0);
  return numel(source.shape) * (once + MEMORY * (readings + 1) - readings * each) + DISPATCH[kind];
}
