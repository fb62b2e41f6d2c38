import { flushNodes } from "./engine.ts";
import { openSession } from "./session.ts";
import type { TuneResult } from "./tuner/tuner.ts";

/**
 * Runs `work` and measures, before each plan's first run, every variant of its kernels that this adapter can run and that
 * was not measured yet. The fastest variants are used from then on. They are stored in the user's cache folder or IndexedDB
 * for later runs. Returns the measurements. Takes seconds per kernel; `npx shadegrad tune` does it for common sizes.
 */
export async function tune(work: () => unknown): Promise<readonly TuneResult[]> {
  const { device, plans } = await openSession();
  const tuner = device?.tuner;
  if (!tuner) return [];
  const [before, asked] = [tuner.results.length, tuner.asking];
  await plans.clear();
  tuner.asking = true;
  try {
    await work();
    await flushNodes([]);
  } finally {
    tuner.asking = asked;
  }
  await plans.clear(); // plans of `work` may be older than the answer to a later question
  return tuner.results.slice(before);
}
