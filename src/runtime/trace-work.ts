import { synchronize } from "./engine.ts";
import { openSession } from "./session.ts";
import { startTrace, stopTrace, type Trace, traceOf } from "./trace.ts";

/**
 * Runs `work` and returns its trace, for ui.perfetto.dev or chrome://tracing. One track has the phases of the host: graph (the
 * program between flushes), hash, compile, encode, wait. The other track has the kernels of the GPU by their timestamps.
 * The host waits for every flush, so traced work takes longer. SHADEGRAD_TRACE=file.json traces a whole process (Node).
 * @example writeFileSync("trace.json", JSON.stringify(await trace(() => model.forward(x).data())))
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
