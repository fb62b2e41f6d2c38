import type { Graph } from "../compile/graph.ts";
import type { Plan } from "../compile/plan.ts";
import type { Device } from "./device.ts";

/** SHADEGRAD_DEBUG: 1 plans and compiles, 2 one line per kernel, 3 fused graphs, 4 WGSL. */
export const debugLevel = Number(
  (globalThis as { process?: { env?: Record<string, string> } }).process?.env?.SHADEGRAD_DEBUG ?? 0,
);

export function log(level: number, text: string): void {
  if (debugLevel >= level) console.error(`[shadegrad] ${text}`);
}

export interface KernelTime {
  readonly label: string;
  readonly grid: readonly [number, number, number];
  readonly flops?: number;
  readonly bytes: number;
  readonly ms: number;
}

let listener: ((times: readonly KernelTime[]) => void) | undefined;

/** Calls `fn` after every flush with the GPU time of each kernel (needs timestamp-query); undefined stops. */
export function onKernelTimes(fn: ((times: readonly KernelTime[]) => void) | undefined): void {
  listener = fn;
}

/** Runs a plan; with timing on, one pass per kernel with timestamps around it. */
export async function profile(device: Device, plan: Plan, graph: Graph): Promise<void> {
  if ((!listener && debugLevel < 2) || !device.info.timestamps || plan.steps.length === 0) return plan.run(graph);
  const count = plan.steps.length;
  const { gpu } = device;
  const times = new Float64Array(count);
  for (let from = 0; from < count; from += 2048)
    if (from > 0) throw new Error("timing: more than 2,048 kernels in a plan");
  const querySet = gpu.createQuerySet({ type: "timestamp", count: 2 * count });
  const resolved = gpu.createBuffer({ size: 16 * count, usage: 0x200 | 0x04 }); // QUERY_RESOLVE | COPY_SRC
  const staging = gpu.createBuffer({ size: 16 * count, usage: 0x01 | 0x08 }); // MAP_READ | COPY_DST
  plan.run(graph, {
    pass: (i) => ({ timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 } }),
    resolve: (encoder) => {
      encoder.resolveQuerySet(querySet, 0, 2 * count, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16 * count);
    },
  });
  await staging.mapAsync(1);
  const stamps = new BigUint64Array(staging.getMappedRange());
  for (let i = 0; i < count; i++) times[i] = Number(stamps[2 * i + 1] - stamps[2 * i]) / 1e6;
  staging.destroy();
  resolved.destroy();
  querySet.destroy();
  const report = plan.steps.map(
    (s, i): KernelTime => ({ label: s.label, grid: s.grid, flops: s.flops, bytes: s.bytes, ms: times[i] }),
  );
  for (const t of report) log(2, line(t));
  listener?.(report);
}

function line({ label, ms, flops, bytes }: KernelTime): string {
  const rate = flops ? `${(flops / ms / 1e6).toFixed(1)} GFLOP/s  ` : "";
  return `${label.padEnd(44)} ${(ms * 1000).toFixed(0).padStart(8)} µs  ${rate}${(bytes / ms / 1e6).toFixed(2)} GB/s`;
}
