import { compile, type PlanReport, report } from "../compile/compile.ts";
import { collect, type Root } from "../graph/collect.ts";
import type { Node } from "../graph/node.ts";
import { pendingAssigns, pendingScalars, restoreAssigns } from "../graph/pending.ts";
import { openSession } from "./session.ts";

export type { PlanReport };

/**
 * What computing `nodes` would run and need, before anything runs: kernels, pipelines, bytes. Compiles no shader.
 * Undefined on the reference backend, which has no plans.
 */
export const planNodes = (nodes: readonly Node[]): Promise<PlanReport | undefined> =>
  planRoots(() => nodes.filter((n) => !n.realized).map((node): Root => ({ node, mode: "keep" })));

/** As `planNodes`, for the flush that would follow `build`. The in-place updates of `build` are undone. */
export function planUpdates(build: () => void): Promise<PlanReport | undefined> {
  const before = new Map(pendingAssigns);
  const scalars = new Set(pendingScalars);
  let roots: Root[] = [];
  try {
    build();
    roots = [
      ...[...pendingAssigns.values()].map(({ leaf, node }): Root => ({ node, mode: "assign", target: leaf })),
      ...[...pendingScalars].filter((n) => !n.host).map((node): Root => ({ node, mode: "read" })),
    ];
  } finally {
    restoreAssigns(before);
    pendingScalars.clear();
    for (const node of scalars) pendingScalars.add(node);
  }
  return planRoots(() => roots);
}

async function planRoots(roots: () => Root[]): Promise<PlanReport | undefined> {
  const { device, options } = await openSession();
  return device && report(compile(collect(roots()), device, options));
}

/** The plan of `nodes` as text: one line per kernel, then totals. */
export async function explainNodes(nodes: readonly Node[]): Promise<string> {
  const planned = await planNodes(nodes);
  if (!planned) return "reference backend: nodes are interpreted one by one";
  const { kernels, pipelines, peakBytes, lowerBound, text } = planned;
  if (!kernels) return "already computed";
  const kib = (bytes: number): number => Math.round(bytes / 1024);
  return `${text}\n${kernels} kernels, ${pipelines} pipelines, ${kib(peakBytes)} KiB (at least ${kib(lowerBound)} are alive at once)`;
}
