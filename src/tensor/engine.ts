import { noGrad, untracked } from "../graph/build.ts";
import { explainNodes, type PlanReport, planNodes } from "../runtime/dry-run.ts";
import { assignNode, flushNodes } from "../runtime/engine.ts";
import type { Tensor } from "./tensor.ts";

// The engine's calls for tensors.

const nodesOf = (tensors: readonly Tensor[]): Tensor["node"][] => tensors.map((t) => t.node);

/**
 * Gives `target` (a leaf: parameter, moment or cache) a new value in place, at the next flush. Shapes and dtypes are equal.
 * Graphs built from now on read the new value; graphs built before read the old one.
 * @example assign(cache, writeAt(cache, keys, position)); await flush();
 */
export const assign = (target: Tensor, value: Tensor): void => assignNode(target, value.node, target.requiresGrad);

/** Computes `tensors`, which then own GPU buffers, all pending assigns and all pending 0-d values. Reads nothing back. */
export const flush = (...tensors: readonly Tensor[]): Promise<void> => flushNodes(nodesOf(tensors));

/**
 * Plans the computation of tensors without running it: number of kernels and pipelines, bytes of memory. Compiles no shader.
 * Undefined on the reference backend, which has no plans.
 * @param what tensors, or one function that builds a tensor; its graph is built without gradients and dropped after planning
 * @example (await plan(loss))?.peakBytes
 */
export function plan(...what: readonly Tensor[] | readonly [() => Tensor]): Promise<PlanReport | undefined> {
  const [build] = what;
  const tensors = typeof build === "function" ? [noGrad(() => untracked(build))] : (what as readonly Tensor[]);
  return planNodes(nodesOf(tensors));
}

/**
 * The kernels that computing `tensors` would run, one per line: the fused ops (`matmul→add·gelu`), the shape written, the
 * workgroups. The last line has the number of pipelines and bytes. Compiles and computes nothing.
 * @example console.log(await explain(x.matmul(w).gelu()))
 */
export const explain = (...tensors: readonly Tensor[]): Promise<string> => explainNodes(nodesOf(tensors));
