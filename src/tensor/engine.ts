import { noGrad, untracked } from "../graph/build.ts";
import { explainNodes, type PlanReport, planNodes } from "../runtime/dry-run.ts";
import { assignNode, flushNodes } from "../runtime/engine.ts";
import type { Tensor } from "./tensor.ts";

// The engine's calls for tensors.

const nodesOf = (tensors: readonly Tensor[]): Tensor["node"][] => tensors.map((t) => t.node);

/**
 * Makes `target` (a parameter, moment or cache: a leaf) take `value` in place at the next flush.
 * Reads of `target` from now on see the new value; graphs built before see the old one.
 */
export const assign = (target: Tensor, value: Tensor): void => assignNode(target, value.node, target.requiresGrad);

/** Computes `tensors` (which then own GPU buffers), all pending assigns and all pending 0-d values. */
export const flush = (...tensors: readonly Tensor[]): Promise<void> => flushNodes(nodesOf(tensors));

/**
 * What computing some tensors would run and need, before anything runs: kernels, pipelines, bytes. Compiles no shader.
 * Undefined on the reference backend, which has no plans.
 * @param what tensors, or one function that returns a tensor: built without gradients, and forgotten after planning
 */
export function plan(...what: readonly Tensor[] | readonly [() => Tensor]): Promise<PlanReport | undefined> {
  const [build] = what;
  const tensors = typeof build === "function" ? [noGrad(() => untracked(build))] : (what as readonly Tensor[]);
  return planNodes(nodesOf(tensors));
}

/**
 * The kernels that computing `tensors` would run, one per line: what was fused (`matmul→add·gelu`), the shape written and the
 * workgroups; then the number of pipelines and bytes. Compiles and computes nothing.
 */
export const explain = (...tensors: readonly Tensor[]): Promise<string> => explainNodes(nodesOf(tensors));
