import { synchronize } from "./engine.ts";
import { openSession } from "./session.ts";
import { startTrace, stopTrace, type Trace, traceOf } from "./trace.ts";

/**
 * Runs `work` and returns what happened: a file for ui.perfetto.dev or chrome://tracing (`JSON.stringify` it). One track
 * has the host's phases (graph: the program between flushes; hash, compile, encode, wait), the other the GPU's kernels by
 * their timestamps. The host waits for every flush, so the total takes longer than untraced. SHADEGRAD_TRACE=file.json
 * traces a whole process (Node).
 */
export async function trace(work: () => unknown): Promise<Trace> {
  await openSession();
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
