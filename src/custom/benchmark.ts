import { noGrad, untracked } from "../graph/build.ts";
import { planNodes } from "../runtime/dry-run.ts";
import { flushNodes, synchronize } from "../runtime/engine.ts";
import { rooflineOf } from "../runtime/roofline.ts";
import { openSession } from "../runtime/session.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface BenchmarkOptions {
  /** Rounds after the first; every round runs all entries in turn. Default 9. */
  rounds?: number;
  /** Least milliseconds of a sample, by repeating. Default 5. */
  sampleMs?: number;
  /** Arithmetic of one run, for GFLOP/s. Default: what the kernels report; products and attention do. */
  flops?: number;
  /** Bytes that one run must read and write at least, for GB/s. Default: all that its kernels bind. */
  bytes?: number;
  /** Largest difference from the first entry's values, relative to their largest. Default 1e-3. */
  tolerance?: number;
}

/** One row of a benchmark. */
export interface BenchmarkRow {
  readonly name: string;
  /** Median, fastest and slowest wall milliseconds of a run. */
  readonly ms: number;
  readonly best: number;
  readonly worst: number;
  /** Kernels that a run dispatches. */
  readonly kernels: number;
  readonly gflops: number;
  readonly gbs: number;
  /** Percent of the adapter's measured peak, of arithmetic or of memory, whichever is nearer. */
  readonly roofline: number;
  /** Largest difference from the first entry's values, relative to their largest. */
  readonly error: number;
}

/** Rows of a benchmark; as a string, a table. */
export interface BenchmarkTable extends ReadonlyArray<BenchmarkRow> {
  toString(): string;
}

/**
 * Times ways to compute the same value against each other: runs them in turn, so that a busy machine slows all alike, and
 * takes medians. The values of all are compared with those of the first.
 *
 * @example
 * const x = rand(1024, 1024);
 * const table = await benchmark({ mine: () => mySoftmax(x), library: () => x.softmax(-1) });
 * console.log(String(table));
 * @throws if there is no GPU, or an entry's values differ by more than `tolerance`.
 */
export async function benchmark(
  entries: Readonly<Record<string, () => Tensor>>,
  options: BenchmarkOptions = {},
): Promise<BenchmarkTable> {
  const { rounds = 9, sampleMs = 5, tolerance = 1e-3 } = options;
  const names = Object.keys(entries);
  if (names.length === 0) throw new Error("benchmark: at least one entry expected: { name: () => tensor }");
  const { device } = await openSession();
  if (!device) throw new Error("benchmark: needs a GPU; the reference backend measures nothing");
  const build = (name: string): Tensor => noGrad(() => untracked(entries[name]));
  const run = async (name: string): Promise<void> => {
    await flushNodes([build(name).node]);
    await synchronize();
  };
  const values = new Map<string, ArrayLike<number>>();
  const plans = new Map<string, { kernels: number; flops: number; bytes: number }>();
  for (const name of names) {
    const planned = await planNodes([build(name).node]);
    plans.set(name, planned ?? { kernels: 0, flops: 0, bytes: 0 });
    values.set(name, await build(name).data());
  }
  const errors = names.map((name) => relativeError(name, values.get(name)!, values.get(names[0])!));
  errors.forEach((error, i) => {
    if (!(error <= tolerance))
      throw new Error(
        `benchmark: ${names[i]} differs from ${names[0]} by ${error.toPrecision(2)} of the largest value; allowed is ${tolerance}`,
      );
  });
  const samples = new Map<string, number[]>(names.map((name) => [name, []]));
  const repeats = new Map<string, number>();
  for (const name of names) {
    const once = await time(() => run(name), 1);
    repeats.set(name, Math.max(1, Math.min(1000, Math.ceil(sampleMs / once))));
  }
  for (let round = 0; round < rounds; round++)
    for (const name of names) samples.get(name)!.push(await time(() => run(name), repeats.get(name)!));
  const roofline = await rooflineOf(device);
  const rows = names.map((name, i): BenchmarkRow => {
    const sorted = [...samples.get(name)!].sort((a, b) => a - b);
    const ms = sorted[sorted.length >> 1];
    const { kernels, flops, bytes } = plans.get(name)!;
    const [gflops, gbs] = [(options.flops ?? flops) / ms / 1e6, (options.bytes ?? bytes) / ms / 1e6];
    const share = 100 * Math.max(gflops / roofline.gflops, gbs / roofline.gbs);
    return {
      name,
      ms,
      best: sorted[0],
      worst: sorted.at(-1)!,
      kernels,
      gflops,
      gbs,
      roofline: share,
      error: errors[i],
    };
  });
  return Object.defineProperty(rows, "toString", { value: () => table(rows) });
}

/** Wall milliseconds of one run, of `repeats`. */
async function time(run: () => Promise<void>, repeats: number): Promise<number> {
  const started = performance.now();
  for (let i = 0; i < repeats; i++) await run();
  return (performance.now() - started) / repeats;
}

function relativeError(name: string, got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length)
    throw new Error(`benchmark: ${name} has ${got.length} values, the first entry ${want.length}`);
  let [largest, difference] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    if (Number.isNaN(want[i]) && Number.isNaN(got[i])) continue;
    largest = Math.max(largest, Math.abs(want[i]));
    difference = Math.max(difference, got[i] === want[i] ? 0 : Math.abs(got[i] - want[i]));
  }
  return difference === 0 ? 0 : difference / Math.max(largest, 1e-30);
}

function table(rows: readonly BenchmarkRow[]): string {
  const head = ["", "ms", "best", "worst", "kernels", "GFLOP/s", "GB/s", "% of roofline", "error"];
  const cells = rows.map((r) => [
    r.name,
    r.ms.toFixed(3),
    r.best.toFixed(3),
    r.worst.toFixed(3),
    String(r.kernels),
    r.gflops ? r.gflops.toFixed(1) : "-",
    r.gbs.toFixed(2),
    r.roofline.toFixed(0),
    r.error.toExponential(1),
  ]);
  const widths = head.map((h, c) => Math.max(h.length, ...cells.map((row) => row[c].length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]) : cell.padStart(widths[c]))).join("  ");
  return [head, ...cells].map(line).join("\n");
}
