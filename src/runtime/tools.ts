import type { PlanReport } from "../compile/compile.ts";
import { noGrad, type Tensor, untracked } from "../tensor/tensor.ts";
import { currentDevice, flush, forgetPlans, plan as planTensors, ready, synchronize } from "./engine.ts";
import { startTrace, stopTrace, type Trace, traceOf } from "./trace.ts";
import type { TuneResult } from "./tuner/tuner.ts";

/**
 * The kernels, pipelines and bytes that computing some tensors needs. Compiles and computes nothing. Undefined on the
 * reference backend, which has no plans.
 * @param what tensors, or one function that returns a tensor: built without gradients, and forgotten after planning
 */
export function plan(...what: readonly Tensor[] | readonly [() => Tensor]): Promise<PlanReport | undefined> {
  const [build] = what;
  return typeof build === "function"
    ? planTensors(noGrad(() => untracked(build)))
    : planTensors(...(what as readonly Tensor[]));
}

/**
 * Runs `work` and measures, before each plan's first run, every variant of its kernels that this adapter can run and that
 * has not been measured; the best ones serve from then on and, kept in the user's cache folder or IndexedDB, in later
 * runs. Returns what was measured. Takes seconds a kernel; `npx shadegrad tune` does it for common sizes.
 */
export async function tune(work: () => unknown): Promise<readonly TuneResult[]> {
  await ready();
  const tuner = currentDevice()?.tuner;
  if (!tuner) return [];
  const [before, asked] = [tuner.results.length, tuner.asking];
  await forgetPlans();
  tuner.asking = true;
  try {
    await work();
    await flush([]);
  } finally {
    tuner.asking = asked;
  }
  await forgetPlans(); // those of `work` may have been made before a later question was answered
  return tuner.results.slice(before);
}

/**
 * Runs `work` and returns what happened: a file for ui.perfetto.dev or chrome://tracing (`JSON.stringify` it). One track
 * has the host's phases (graph: the program between flushes; hash, compile, encode, wait), one the GPU's kernels by their
 * timestamps. The host waits for every flush, so the total takes longer than it does untraced. SHADEGRAD_TRACE=file.json
 * traces a whole process (Node).
 */
export async function trace(work: () => unknown): Promise<Trace> {
  await ready();
  await synchronize();
  const recording = startTrace();
  try {
    await work();
    await synchronize();
  } finally {
    stopTrace(recording);
  }
  return traceOf(recording);
}
