import { watchingForNaN } from "../graph/anomaly.ts";
import { untracked } from "../graph/build.ts";
import { Node } from "../graph/node.ts";
import { withRecording } from "../graph/recording.ts";
import { explainNodes, type PlanReport, planNodes } from "../runtime/dry-run.ts";
import { assignNode, flushNodes } from "../runtime/engine.ts";
import { Tensor } from "./tensor.ts";

// The engine's calls for tensors.

/** Tensors, one by one or in arrays. */
export type Tensors = readonly (Tensor | readonly Tensor[])[];

const nodesOf = (op: string, tensors: Tensors): Node[] =>
  tensors.flat().map((t: Tensor | Node) => {
    if (t instanceof Tensor) return t.node;
    if (t instanceof Node) return t;
    throw new TypeError(`${op}: expected tensors, got ${t === null ? "null" : typeof t}`);
  });

/**
 * Gives `target` (a leaf: parameter, moment or cache) a new value in place, at the next flush.
 * Graphs built from now on read the new value; graphs built before read the old one.
 * @throws unless the value has the shape and dtype of the target
 * @example assign(cache, writeAt(cache, keys, position)); await flush();
 */
export const assign = (target: Tensor, value: Tensor): void => assignNode(target, value.node, target.requiresGrad);

/** Computes `tensors`, which then own GPU buffers, all pending assigns and all pending 0-d values. Reads nothing back. */
export const flush = (...tensors: Tensors): Promise<void> => flushNodes(nodesOf("flush", tensors));

/**
 * Plans the computation of tensors without running it: number of kernels and pipelines, bytes of memory. Compiles no shader.
 * Undefined on the reference backend, which has no plans.
 * @param what tensors, or one function that builds a tensor; its graph is built without gradients and dropped after planning
 * @example (await plan(loss))?.peakBytes
 */
export function plan(...what: Tensors | readonly [() => Tensor]): Promise<PlanReport | undefined> {
  const [build] = what;
  const tensors = typeof build === "function" ? [withRecording(false, () => untracked(build))] : (what as Tensors);
  return planNodes(nodesOf("plan", tensors));
}

/**
 * The kernels that computing `tensors` would run, one per line: the fused ops (`matmul→add·gelu`), the shape written, the
 * workgroups. The last line has the number of pipelines and bytes. Compiles and computes nothing.
 * @example console.log(await explain(x.matmul(w).gelu()))
 */
export const explain = (...tensors: Tensors): Promise<string> => explainNodes(nodesOf("explain", tensors));

/**
 * Runs `fn` (sync or async), and stops at the first NaN: every value computed meanwhile is checked, those of gradients too. The
 * error names the op, its shape and the line of the program that called it. Slow: every intermediate value is read. As
 * torch.autograd.detect_anomaly.
 * @example
 * await detectAnomaly(async () => {
 *   model.loss(batch).backward();
 *   await optimizer.step();
 * });
 */
export const detectAnomaly = <T>(fn: () => T | Promise<T>): Promise<T> =>
  watchingForNaN(async () => {
    const result = await fn();
    if (result instanceof Tensor) await result.data();
    else await flush();
    return result;
  });
