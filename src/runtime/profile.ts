import type { Graph } from "../graph/collect.ts";
import { debugLevel, log } from "../graph/debug.ts";
import type { Device } from "./device.ts";
import type { Plan } from "./plan.ts";
import { type Roofline, rooflineOf } from "./roofline.ts";
import { addKernels, begin, tracing } from "./trace.ts";

/** GPU time and work of one kernel. */
export interface KernelTime {
  /** Fused ops, as `explain` prints them. */
  readonly label: string;
  /** Workgroups per dim. */
  readonly grid: readonly [number, number, number];
  /** Arithmetic, if the kernel reports it. */
  readonly flops?: number;
  /** Bytes of all buffers that it binds. */
  readonly bytes: number;
  /** Milliseconds since the first kernel of its plan began. */
  readonly start: number;
  readonly ms: number;
}

let listener: ((times: readonly KernelTime[]) => void) | undefined;

/**
 * Calls `fn` after every flush with the GPU time of each kernel, in milliseconds. Needs an adapter with timestamp-query. Undefined
 * stops it. Timed flushes run one pass per kernel and wait for the GPU, so they take longer.
 * @example onKernelTimes((times) => console.table(times))
 */
export function onKernelTimes(fn: ((times: readonly KernelTime[]) => void) | undefined): void {
  listener = fn;
}

let replayListener: ((ms: number) => void) | undefined;

/**
 * Calls `fn` after every run of a plan with the milliseconds that the host took to bind, encode and submit it. Undefined stops it.
 * Flushes whose kernels are timed report none.
 */
export function onReplay(fn: ((ms: number) => void) | undefined): void {
  replayListener = fn;
}

/** Starts a plan without timestamps. Its promise resolves once the device has validated it. */
export function replay(plan: Plan, graph: Graph): Promise<void> {
  const started = performance.now();
  const running = plan.run(graph);
  replayListener?.(performance.now() - started);
  return running;
}

const SET = 2048; // kernels per query set: WebGPU allows 4096 queries

/** Whether a plan runs with timestamps around each kernel. */
export const timesKernels = ({ info }: Device, { steps }: Plan): boolean =>
  info.timestamps && steps.length > 0 && (listener !== undefined || debugLevel >= 2 || tracing());

/** Runs a plan with one pass per kernel and timestamps around it, waits for it, and reports the times. */
export async function runTimed(device: Device, plan: Plan, graph: Graph): Promise<void> {
  const encoded = begin("encode");
  const count = plan.steps.length;
  const { gpu } = device;
  const sets = Array.from({ length: Math.ceil(count / SET) }, (_, i) =>
    gpu.createQuerySet({ type: "timestamp", count: 2 * Math.min(SET, count - i * SET) }),
  );
  const resolved = gpu.createBuffer({ size: 16 * count, usage: 0x200 | 0x04 }); // QUERY_RESOLVE | COPY_SRC
  const staging = gpu.createBuffer({ size: 16 * count, usage: 0x01 | 0x08 }); // MAP_READ | COPY_DST
  const running = plan.run(graph, {
    pass: (i) => {
      const at = 2 * (i % SET);
      const querySet = sets[Math.floor(i / SET)];
      return { timestampWrites: { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 } };
    },
    resolve: (encoder) => {
      for (const [i, set] of sets.entries()) encoder.resolveQuerySet(set, 0, set.count, resolved, 16 * SET * i);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16 * count);
    },
  });
  encoded({ kernels: count });
  await running;
  const submitted = performance.now();
  const waited = begin("wait");
  await device.wait(() => staging.mapAsync(1));
  waited();
  const stamps = new BigUint64Array(staging.getMappedRange());
  const since = (i: number): number => Number(stamps[i] - stamps[0]) / 1e6;
  const report = plan.steps.map(
    (s, i): KernelTime => ({
      label: s.label,
      grid: s.grid,
      flops: s.flops,
      bytes: s.bytes,
      start: since(2 * i),
      ms: since(2 * i + 1) - since(2 * i),
    }),
  );
  addKernels(
    report.map(({ label, start, ms, grid, flops, bytes }) => ({ label, start, ms, args: { grid, flops, bytes } })),
    submitted,
    performance.now(),
  );
  for (const x of [staging, resolved, ...sets]) x.destroy();
  if (debugLevel >= 2) {
    const roofline = await rooflineOf(device);
    for (const t of report) log(2, line(t, roofline));
  }
  listener?.(report);
}

/** Waits for a plan that ran without timestamps, and traces its submit as one event. */
export async function traceSubmit(device: Device, plan: Plan): Promise<void> {
  const submitted = performance.now();
  const waited = begin("wait");
  await device.idle();
  waited();
  const done = performance.now();
  if (plan.steps.length)
    addKernels([{ label: `${plan.steps.length} kernels`, start: 0, ms: done - submitted }], submitted, done);
}

/** One line of SHADEGRAD_DEBUG=2. A kernel shorter than the resolution of timestamps has no rates. */
export function line({ label, ms, flops, bytes }: KernelTime, roofline: Roofline): string {
  const time = `${label.padEnd(44)} ${(ms * 1000).toFixed(0).padStart(8)} µs`;
  if (ms === 0) return time;
  const [gflops, gbs] = [(flops ?? 0) / ms / 1e6, bytes / ms / 1e6];
  const share = 100 * Math.max(gflops / roofline.gflops, gbs / roofline.gbs);
  return `${time} ${flops ? `${gflops.toFixed(1).padStart(8)} GFLOP/s` : " ".repeat(16)} ${gbs.toFixed(2).padStart(7)} GB/s ${share.toFixed(0).padStart(4)} % of roofline`;
}
