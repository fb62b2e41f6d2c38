import { spawnSync } from "node:child_process";
import { onReplay } from "../src/bench/index.ts";
import { flush, memoryStats, synchronize, type Tensor, tensor } from "../src/index.ts";
import { round, timed } from "./clock.ts";
import { type Machine, measure, print, type Row } from "./harness.ts";
import { type Ours, openOurs } from "./ours.ts";
import { workloads } from "./workloads/train.ts";

export async function benchTraining(ours: Ours, machine: Machine, only: (name: string) => boolean): Promise<Row[]> {
  const rows: Row[] = [];
  for (const work of workloads.filter((w) => only(w.name))) {
    const { run } = work.ours(ours, work.inputs());
    const row = await measure({ ...work, run, extra: (ms) => ({ "steps/s": round(1000 / ms) }) }, machine);
    print(row);
    rows.push(row);
  }
  return rows;
}

/** Host time per dispatch, in microseconds. */
export interface Overhead {
  readonly dispatches: number;
  /** Bind, encode and submit a known plan. */
  readonly replayUs: number;
  /** Hash the graph, find its plan and replay it. */
  readonly flushUs: number;
  /** Build the graph: one op per dispatch. */
  readonly buildUs: number;
}

const AHEAD = 3; // flushes by which the engine lets the host run ahead of the GPU

/**
 * Measures a chain of dependent ops with fusion off: every op is a dispatch. As in a training loop, the host runs ahead of the
 * GPU: it flushes three times, then waits. Runs in a child process.
 */
export async function overheadChild(dispatches = 300, rounds = 150): Promise<void> {
  await openOurs({ fuse: false });
  const x = tensor(new Float32Array(64));
  const y = tensor(new Float32Array(64).fill(1));
  let replay = 0;
  onReplay((ms) => (replay = ms));
  const [build, flushes, replays]: number[][] = [[], [], []];
  for (let i = 0; i < rounds * AHEAD; i++) {
    const started = performance.now();
    let z: Tensor = x;
    for (let n = 0; n < dispatches; n++) z = z.add(y);
    const built = performance.now();
    await flush(z);
    build.push(built - started);
    flushes.push(performance.now() - built);
    replays.push(replay);
    if (i % AHEAD === AHEAD - 1) await synchronize();
  }
  // The minimum of many rounds: other load on the machine, including the driver's threads, only adds time.
  const each = (ms: number[]) => round((1000 * Math.min(...ms)) / dispatches);
  const overhead: Overhead = { dispatches, replayUs: each(replays), flushUs: each(flushes), buildUs: each(build) };
  console.log(JSON.stringify(overhead));
}

/** Runs in a new process, because earlier benchmarks leave a heap and compiled code behind. */
export const measureOverhead = (): Overhead => inChild("host's cost", ["--overhead-child"]);

/** A train step in a new process without shader cache, seconds of wall time. */
export interface Cold {
  readonly name: string;
  /** Open the device. */
  readonly init: number;
  /** First step: graph, plan, every pipeline, run. */
  readonly first: number;
  readonly second: number;
  readonly pipelines: number;
  /** CPU seconds of the first step, all threads. */
  readonly cpu: number;
}

/** Measures a cold start. Runs in a child process. */
export async function coldChild(name: string): Promise<void> {
  const work = workloads.find((w) => w.name === name)!;
  let ours!: Ours;
  const init = await timed(async () => (ours = await openOurs()));
  const { run } = work.ours(ours, work.inputs());
  const first = await timed(run);
  const second = await timed(run);
  const seconds = (ms: number) => round(ms / 1000);
  const cold: Cold = {
    name,
    init: seconds(init.wall),
    first: seconds(first.wall),
    second: seconds(second.wall),
    pipelines: memoryStats().pipelines,
    cpu: seconds(first.cpu),
  };
  console.log(JSON.stringify(cold));
}

export const measureCold = (name: string): Cold =>
  inChild(`cold start of ${name}`, ["--cold-child", name], { MESA_SHADER_CACHE_DISABLE: "true" });

/** Runs this program with `args` in a new process, and parses the last line that it prints. */
function inChild<T>(what: string, args: string[], env: Record<string, string> = {}): T {
  const child = spawnSync(process.execPath, [process.argv[1], ...args], {
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  if (child.status !== 0) throw new Error(`${what} failed:\n${child.stderr}`);
  return JSON.parse(child.stdout.trim().split("\n").at(-1)!) as T;
}
