import type { DeviceInfo } from "../../runtime/device.ts";

/** Workgroups per dimension that every WebGPU adapter takes. */
export const MAX_GROUPS = 65_535;

/** `count` workgroups as a 2-D grid; the kernel numbers them `y * gridX + x` and drops the surplus. */
export function grid2d(count: number): [number, number, number] {
  const y = Math.ceil(count / MAX_GROUPS);
  return [Math.ceil(count / Math.max(y, 1)), y, 1];
}

/** Workgroups of one subgroup that keep the adapter busy. */
export function busyGroups(device: DeviceInfo): number {
  return { software: 8, integrated: 256, discrete: 1024 }[device.kind];
}
