import { flushNodes } from "./engine.ts";
import { openSession } from "./session.ts";
import type { TuneResult } from "./tuner/tuner.ts";

/**
 * Runs `work`, and measures the variants of its kernels that were not yet measured on this adapter. The fastest variants are
 * used from then on, and stored for later runs in the user's cache folder or IndexedDB. Takes seconds per kernel.
 * `npx shadegrad tune` does it for common sizes.
 * @returns the measurements; none on the reference backend
 * @example await tune(() => model.forward(x).data())
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
  await plans.clear(); // plans compiled early in `work` do not use answers measured later in it
  return tuner.results.slice(before);
}
