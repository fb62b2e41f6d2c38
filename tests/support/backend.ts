import { flush, init, manualSeed, type Tensor } from "../../src/index.ts";

/** Opens the device that SHADEGRAD_BACKEND names ("webgpu" or "reference"); default: the best there is. */
export const openBackend = () => init({ backend: process.env.SHADEGRAD_BACKEND as "webgpu" | "reference" | undefined });

/** Values of the same tensors from the interpreter (want) and from the kernels (got), with the same random numbers. */
export async function onBoth(build: () => Tensor[]): Promise<{ want: number[][]; got: number[][] }> {
  const lists: number[][][] = [];
  for (const backend of ["reference", "webgpu"] as const) {
    await init({ backend });
    manualSeed(11);
    const tensors = build();
    await flush(...tensors);
    lists.push(await Promise.all(tensors.map(async (t) => Array.from(await t.data()))));
  }
  return { want: lists[0], got: lists[1] };
}
