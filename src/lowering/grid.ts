import type { DeviceInfo } from "../graph/device-info.ts";
import type { BufferRef, KernelCall, KernelStore } from "../graph/kernel-call.ts";

/** Workgroups per dimension that every WebGPU adapter takes. */
export const MAX_GROUPS = 65_535;

/** `count` workgroups as a 2-D grid. The kernel numbers them `y * gridX + x` and skips those from `count` on. */
export function grid2d(count: number): [number, number, number] {
  const y = Math.ceil(count / MAX_GROUPS);
  return [Math.ceil(count / Math.max(y, 1)), y, 1];
}

/** Workgroups of one subgroup that keep the adapter busy. */
export function busyGroups(device: DeviceInfo): number {
  return { software: 8, integrated: 256, discrete: 1024 }[device.kind];
}

/** How products of N columns store f16 by `fn store`. Undefined unless N is a multiple of 4: a row could end inside a vector. */
export const columnStore = (N: number): KernelStore | undefined =>
  N % 4 === 0 ? { at: "at / 4u", inside: "column < dims.N" } : undefined;

/** Body of `fn store` where rows of C are whole vec4f. */
export const STORE_4 = "if (column < dims.N) { c[at / 4u] = value; }";

/** out [rows, N] = the sum of parts [count, rows, N] over its first dim. */
export function sumParts(parts: BufferRef, out: BufferRef, count: number, rows: number, N: number): KernelCall {
  const WIDTH = N % 4 === 0 ? 4 : 1;
  const V = WIDTH === 4 ? "vec4f" : "f32";
  const vectors = (rows * N) / WIDTH;
  return {
    kernel: "sum_parts",
    params: { WG: 64, WIDTH, V, U: WIDTH === 4 ? "vec4u" : "u32" },
    dims: [count, vectors, 0],
    bind: [parts, out],
    grid: grid2d(Math.ceil(vectors / 64)),
    compileMs: 0, // as short as an elementwise kernel
    epilogue: { shape: [1, 1, rows * N], type: V, store: WIDTH === 4 ? { at: "at" } : undefined },
  };
}
