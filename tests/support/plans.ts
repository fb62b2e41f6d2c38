import { init, plan, type Tensor } from "../../src/index.ts";
import { currentDevice } from "../../src/runtime/session.ts";

/** Labels of the kernels in a plan's report, in order. */
export const labelsOf = (text: string): string[] => text.split("\n").map((line) => line.trim().split(/\s+/)[1]);

/** Labels of the kernels that computing these tensors runs, in order. */
export const kernelLabels = async (...out: Tensor[]): Promise<string[]> => labelsOf((await plan(...out))!.text);

/** What plans may depend on, fixed: a CPU adapter with subgroups of 8 and the limits that every WebGPU device has. */
const adapters = {
  software: { kind: "software", subgroupSize: 8, f16: true, f16Arithmetic: false, dot4: true },
  discrete: { kind: "discrete", subgroupSize: 32, f16: true, f16Arithmetic: true, dot4: true },
} as const;

/** Plans (never runs) as if on this adapter, whatever the real one is: nothing is compiled for it. */
export async function planAs(kind: keyof typeof adapters): Promise<void> {
  await init({ backend: "webgpu", tune: false });
  Object.assign(currentDevice()!.info, adapters[kind], {
    matrixUnits: [],
    timestamps: false,
    maxInvocations: 256,
    maxWorkgroupBytes: 16384,
    maxBindingBytes: 2 ** 27,
    maxStorageBuffers: 8,
  });
}
