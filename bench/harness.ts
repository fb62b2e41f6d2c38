import { Bench } from "tinybench";
import type { Roofline } from "../src/bench/index.ts";
import { type DeviceInfo, type KernelTime, onKernelTimes } from "../src/index.ts";
import { median, round, type Sample, timed } from "./clock.ts";

/** One line of the table. Every figure is a median. */
export interface Row {
  readonly name: string;
  /** CPU time of all threads of the process. */
  readonly cpuMs: number;
  readonly wallMs: number;
  /** Sum of the GPU times of all kernels. Absent without timestamp-query. */
  readonly gpuMs?: number;
  readonly kernels?: number;
  /** From GPU time. On a software adapter from CPU time per core, because other processes stretch its GPU time. */
  readonly gflops?: number;
  readonly gbs?: number;
  /** Percent of the measured roofline for this number of operations and bytes. */
  readonly roofline?: number;
  readonly runs: number;
  /** Further figures of a row, such as tokens per second. */
  readonly extra?: Readonly<Record<string, number>>;
}

export interface Work {
  readonly name: string;
  readonly flops?: number;
  readonly bytes?: number;
  readonly extra?: (ms: number) => Readonly<Record<string, number>>;
  run(): Promise<void>;
}

export interface Machine {
  readonly device: DeviceInfo;
  readonly cores: number;
  readonly roofline: Roofline;
}

/** GPU time of each kernel of one run. The plan runs with one pass and two timestamps per kernel. */
export async function kernelTimes(run: () => Promise<void>): Promise<KernelTime[]> {
  const times: KernelTime[] = [];
  onKernelTimes((report) => times.push(...report));
  try {
    await run();
  } finally {
    onKernelTimes(undefined);
  }
  return times;
}

/** Warms up (compiles), times at least five runs with tinybench, then times the kernels of one more run. */
export async function measure(work: Work, { device, cores, roofline }: Machine): Promise<Row> {
  const samples: Sample[] = [];
  const bench = new Bench({ iterations: 5, time: 400, warmupIterations: 2, warmupTime: 0, throws: true });
  let recording = false;
  bench.add(
    work.name,
    async () => {
      const sample = await timed(() => work.run());
      if (recording) samples.push(sample);
    },
    { beforeAll: (mode) => void (recording = mode === "run") },
  );
  await bench.run();
  const times = device.timestamps ? await kernelTimes(() => work.run()) : undefined;
  const cpuMs = median(samples.map((s) => s.cpu));
  const wallMs = median(samples.map((s) => s.wall));
  const gpuMs = times?.reduce((sum, t) => sum + t.ms, 0);
  const seconds = (device.kind === "software" ? cpuMs / cores : (gpuMs ?? wallMs)) / 1000;
  const bound = Math.max((work.flops ?? 0) / roofline.gflops, (work.bytes ?? 0) / roofline.gbs) / 1e9;
  return {
    name: work.name,
    cpuMs: round(cpuMs),
    wallMs: round(wallMs),
    gpuMs: gpuMs && round(gpuMs),
    kernels: times?.length,
    gflops: work.flops && round(work.flops / seconds / 1e9),
    gbs: work.bytes && round(work.bytes / seconds / 1e9),
    roofline: bound ? round((100 * bound) / seconds) : undefined,
    runs: samples.length,
    extra: work.extra?.(device.kind === "software" ? cpuMs / cores : wallMs),
  };
}

const COLUMNS = ["CPU ms", "wall ms", "GPU ms", "kernels", "GFLOP/s", "GB/s", "% roofline"];

export function header(title: string, columns = COLUMNS): void {
  console.log(`\n${title.padEnd(30)}${columns.map((c) => c.padStart(11)).join("")}`);
}

export function print(row: Row): void {
  const cells = [row.cpuMs, row.wallMs, row.gpuMs, row.kernels, row.gflops, row.gbs, row.roofline];
  const extra = Object.entries(row.extra ?? {}).map(([name, value]) => `  ${name} ${value}`);
  console.log(row.name.padEnd(30) + cells.map((c) => String(c ?? "").padStart(11)).join("") + extra.join(""));
}
