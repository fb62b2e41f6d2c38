import { currentSession } from "./session.ts";

export interface MemoryStats {
  /** Bytes and buffers alive on the GPU. */
  liveBytes: number;
  liveBuffers: number;
  /** Most bytes alive since the device was opened. */
  peakBytes: number;
  /** Plans and pipelines in the caches. */
  plans: number;
  pipelines: number;
}

/** Bytes and buffers alive on the GPU, and the number of cached plans and pipelines. All 0 without a GPU. */
export function memoryStats(): MemoryStats {
  const session = currentSession();
  const { pool, pipelines } = session?.device ?? {};
  return {
    liveBytes: pool?.liveBytes ?? 0,
    liveBuffers: pool?.liveBuffers ?? 0,
    peakBytes: pool?.peakBytes ?? 0,
    plans: session?.plans.size ?? 0,
    pipelines: pipelines?.size ?? 0,
  };
}
