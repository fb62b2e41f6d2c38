import type { CompileTarget, FusedNames, KernelCall } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { loweringOf } from "../../lowering/index.ts";
import { computes, operandOf } from "../expression/operand.ts";
import { lowerContext } from "../lower/context.ts";
import type { Expanded } from "../lower/expand.ts";
import type { Group, Schedule } from "./schedule.ts";

/** A schedule, and the names of the work fused into its kernels. */
export interface Choice {
  readonly plan: Schedule;
  fused(core: Node): FusedNames;
  /** Whether the prologues of `core` would still be fused if these were its calls. */
  keepsPrologues(core: Node, calls: readonly KernelCall[]): boolean;
}

interface NamedChoice extends Choice {
  readonly prologues: ReadonlyMap<Node, string>;
}

/** Calls of kernel nodes → schedule. */
export type ScheduleWith = (calls: Expanded["calls"]) => Schedule;

/**
 * Chooses the variants of kernels together with their prologues. The fastest variant depends on the prologue. But whether the
 * prologue is fused depends on the variant, which may read a value more often. So this schedules with the best plain variants,
 * and asks the tuner about each kernel with its prologue. It keeps an answer only if the prologue is still fused.
 */
export function chooseVariants(expanded: Expanded, target: CompileTarget, scheduleWith: ScheduleWith): Choice {
  const choose = (): NamedChoice => named(scheduleWith(expanded.calls), expanded, target, scheduleWith);
  const first = choose();
  if (target.tuner.empty) return first;
  const changed = [...first.prologues.keys()].filter((core) => lowerAgain(core, first.fused(core), expanded, target));
  if (changed.length === 0) return first;
  const second = choose();
  const lost = changed.filter((core) => second.prologues.get(core) !== first.prologues.get(core));
  for (const core of lost) lowerAgain(core, { epilogue: expanded.epilogues.get(core) }, expanded, target);
  return lost.length > 0 ? choose() : second;
}

function named(plan: Schedule, expanded: Expanded, target: CompileTarget, scheduleWith: ScheduleWith): NamedChoice {
  const withPrologues = plan.groups.filter((g) => g.core && g.prologues);
  const prologues = new Map(withPrologues.map((g) => [g.core!, prologueNames(g, plan, target)]));
  return {
    plan,
    prologues,
    fused: (core) => ({ prologue: prologues.get(core), epilogue: expanded.epilogues.get(core) }),
    keepsPrologues: (core, calls) => {
      if (!prologues.has(core)) return true;
      const trial = scheduleWith(new Map(expanded.calls).set(core, calls));
      const group = trial.groups.find((g) => g.core === core && g.prologues);
      return group !== undefined && prologueNames(group, trial, target) === prologues.get(core);
    },
  };
}

/** Lowers a kernel node for other fused work. Returns whether its calls changed. */
function lowerAgain(core: Node, fused: FusedNames, { calls }: Expanded, target: CompileTarget): boolean {
  const fresh = loweringOf(core.op.name)!(core, lowerContext(core, target, fused))!;
  const changed = callsKey(fresh) !== callsKey(calls.get(core)!);
  if (changed) calls.set(core, fresh);
  return changed;
}

/** Asks the tuner about every kernel of a plan, so that it records those without a measurement. */
export function askTuner({ plan, fused }: Choice, { calls }: Expanded, target: CompileTarget): void {
  for (const { core } of plan.groups)
    if (core && calls.has(core)) loweringOf(core.op.name)!(core, lowerContext(core, target, fused(core), "ask"));
}

const callsKey = (calls: readonly KernelCall[]): string =>
  JSON.stringify(calls.map(({ kernel, params, dims, grid }) => [kernel, params, dims, grid]));

/** Key of the prologues of a kernel: number of each source, names of its ops, and whether the kernel stores it too. */
function prologueNames({ core, prologues = [] }: Group, { buffers }: Schedule, { info }: CompileTarget): string {
  const buffersOf = core!.src.map((_, i) => operandOf(core!, i, info.maxBindingBytes).buffer);
  return prologues
    .map((n) => {
      const at = buffersOf.flatMap((b, i) => (b === n ? [i] : []));
      return `${at.join("&")}:${opsOf(n, buffers).join("+")}${buffers.has(n) ? "/stored" : ""}`;
    })
    .join();
}

/** Names of the ops that compute a value from buffers, sources first. */
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
