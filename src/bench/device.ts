import type { Device } from "../runtime/device.ts";
import { type Roofline, measureRoofline as roofline } from "../runtime/roofline.ts";
import { openSession } from "../runtime/session.ts";
import { familyOf, type TuneResult, Tuner } from "../runtime/tuner/tuner.ts";

async function openDevice(caller: string): Promise<Device> {
  const { device } = await openSession();
  if (!device) throw new Error(`${caller}: needs a GPU; the reference backend has none`);
  return device;
}

/** The device that the library computes on, for pipelines and buffers of your own. @throws on the reference backend. */
export const gpuDevice = async (): Promise<GPUDevice> => (await openDevice("gpuDevice")).gpu;

/**
 * Measures the peaks of the adapter: GFLOP/s of multiply-adds, and GB/s of a copy. Takes about a second.
 * @param options.cores number of cores of a software adapter: measures CPU time per core, so that other processes do not count.
 * Default: wall time.
 * @throws on the reference backend.
 */
export async function measureRoofline({ cores }: { cores?: number } = {}): Promise<Roofline> {
  const { gpu } = await openDevice("measureRoofline");
  return roofline(gpu, cores);
}

/**
 * Replaces the measured answers to which variant of a kernel is fastest. Without answers, the library's heuristic chooses. `init`
 * restores the answers shipped with the library and those stored on this machine.
 * @param results what `tune` returned; default none
 * @throws on the reference backend.
 * @example
 * await setChoices(); // forget all answers
 * const results = await tune(() => model.forward(x).data());
 * await setChoices(results);
 */
export async function setChoices(results: readonly Pick<TuneResult, "key" | "entry">[] = []): Promise<void> {
  const device = await openDevice("setChoices");
  const tuner = new Tuner();
  tuner.learn(Object.fromEntries(results.map(({ key, entry }) => [key, entry])));
  device.tuner = tuner;
  await (await openSession()).plans.clear();
}

/** The name of the adapter and its limits, without versions: shipped answers are stored under it. @throws on the reference backend. */
export const adapterFamily = async (): Promise<string> => familyOf((await openDevice("adapterFamily")).info);
