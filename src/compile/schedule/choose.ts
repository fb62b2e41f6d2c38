import type { KernelCall } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import type { Device } from "../../runtime/device.ts";
import type { Joined } from "../../runtime/tuner/tuner.ts";
import { computes, operandOf } from "../expression/operand.ts";
import { contextOf, type Expanded } from "../lower/expand.ts";
import type { Group, Schedule } from "./schedule.ts";

/** A schedule, and what joins the kernels in it, by name. */
export interface Choice {
  readonly plan: Schedule;
  joined(core: Node): Joined;
  /** Whether what joins `core` in front would join these calls of it, too. */
  holds(core: Node, calls: readonly KernelCall[]): boolean;
}

/**
 * Schedules by `once`, and again where the tuner knows a better variant for a kernel with the work that joins it in front.
 * Which is best depends on that work, but whether the work joins depends on the variant, which may read a value more often:
 * so it is named as it joins the variant that is best without it, and if it leaves the one chosen for it, the former stands.
 */
export function chooseVariants(
  expanded: Expanded,
  device: Device,
  once: (calls: Expanded["calls"]) => Schedule,
): Choice {
  const choice = (plan: Schedule): Choice & { fronts: Map<Node, string> } => {
    const fronts = new Map(plan.groups.flatMap((g) => (g.core && g.made ? [[g.core, frontOf(g, plan, device)]] : [])));
    const joined = (core: Node): Joined => ({ front: fronts.get(core), behind: expanded.followers.get(core) });
    const holds = (core: Node, calls: readonly KernelCall[]): boolean => {
      if (!fronts.has(core)) return true;
      const trial = choice(once(new Map(expanded.calls).set(core, calls)));
      return trial.fronts.get(core) === fronts.get(core);
    };
    return { plan, fronts, joined, holds };
  };
  /** Whether its calls are others now. */
  const lowerAgain = (core: Node, joined: Joined): boolean => {
    const calls = core.op.lower!(core, contextOf(core, device, joined))!;
    const other = textOf(calls) !== textOf(expanded.calls.get(core)!);
    if (other) expanded.calls.set(core, calls);
    return other;
  };

  const first = choice(once(expanded.calls));
  if (device.tuner.empty) return first;
  const changed = [...first.fronts.keys()].filter((core) => lowerAgain(core, first.joined(core)));
  if (changed.length === 0) return first;
  const second = choice(once(expanded.calls));
  const apart = changed.filter((core) => second.fronts.get(core) !== first.fronts.get(core));
  for (const core of apart) lowerAgain(core, { behind: expanded.followers.get(core) });
  return apart.length > 0 ? choice(once(expanded.calls)) : second;
}

/** Notes what the tuner has no answer for among the kernels of a plan. */
export function askFor({ plan, joined }: Choice, { calls }: Expanded, device: Device): void {
  for (const { core } of plan.groups)
    if (core && calls.has(core)) core.op.lower!(core, contextOf(core, device, joined(core), "ask"));
}

const textOf = (calls: readonly KernelCall[]): string =>
  JSON.stringify(calls.map(({ kernel, params, dims, grid }) => [kernel, params, dims, grid]));

/** Numbers of the sources that are computed in a kernel, each with the ops that make it and whether they store it, too. */
function frontOf({ core, made = [] }: Group, { buffers }: Schedule, device: Device): string {
  const buffersOf = core!.src.map((_, i) => operandOf(core!, i, device.info.maxBindingBytes).buffer);
  return made
    .map((n) => {
      const at = buffersOf.flatMap((b, i) => (b === n ? [i] : []));
      return `${at.join("&")}:${opsOf(n, buffers).join("+")}${buffers.has(n) ? "/stored" : ""}`;
    })
    .join();
}

/** Names of the ops that make a value from buffers, sources first. */
function opsOf(node: Node, buffers: ReadonlySet<Node>): string[] {
  const names: string[] = [];
  const seen = new Set<Node>();
  const visit = (n: Node): void => {
    if (seen.has(n) || (n !== node && (n.realized || buffers.has(n)))) return;
    seen.add(n);
    n.src.forEach(visit);
    if (computes(n)) names.push(n.op.name);
  };
  visit(node);
  return names;
}
