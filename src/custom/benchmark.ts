import { untracked } from "../graph/build.ts";
import { withRecording } from "../graph/recording.ts";
import { show } from "../graph/shape.ts";
import { planNodes } from "../runtime/dry-run.ts";
import { flushNodes, synchronize } from "../runtime/engine.ts";
import { rooflineOf } from "../runtime/roofline.ts";
import { openSession } from "../runtime/session.ts";
import { Tensor } from "../tensor/tensor.ts";
import { kindOf } from "./definition.ts";

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
 * Times ways to compute the same value, or values, against each other: runs them in turn, so that a busy machine slows all alike, and
 * takes medians. The values of all are compared with those of the first.
 *
 * @example
 * const x = rand(1024, 1024);
 * const table = await benchmark({ mine: () => mySoftmax(x), library: () => x.softmax(-1) });
 * console.log(String(table));
 * @throws if there is no GPU, an entry computes nothing, or its values differ by more than `tolerance`.
 */
export async function benchmark(
  entries: Readonly<Record<string, () => Tensor | readonly Tensor[]>>,
  options: BenchmarkOptions = {},
): Promise<BenchmarkTable> {
  const { rounds = 9, sampleMs = 5, tolerance = 1e-3 } = checkedOptions(options);
  if (kindOf(entries) !== "object" || Object.keys(entries).length === 0)
    throw new Error("benchmark: at least one entry expected: { name: () => tensor }");
  const { device } = await openSession();
  if (!device) throw new Error("benchmark: needs a GPU; the reference backend measures nothing");
  const runs = Object.entries(entries).map(([name, build]) => new Entry(name, build));
  for (const entry of runs) await entry.prepare();
  const errors = runs.map((entry) => entry.errorAgainst(runs[0]));
  errors.forEach((error, i) => {
    if (!(error <= tolerance))
      throw new Error(
        `benchmark: ${runs[i].name} differs from ${runs[0].name} by ${error.toPrecision(2)} of the largest value; allowed is ${tolerance}`,
      );
  });
  for (const entry of runs) await entry.setRepeats(sampleMs);
  for (let round = 0; round < rounds; round++) for (const entry of runs) await entry.sample();
  const peak = await rooflineOf(device);
  const rows = runs.map((entry, i) => entry.row(options, peak, errors[i]));
  return Object.defineProperty(rows, "toString", { value: () => table(rows) });
}

const LIMITS = { rounds: 1, sampleMs: 0, flops: 0, bytes: 0, tolerance: 0 };

function checkedOptions(options: BenchmarkOptions): BenchmarkOptions {
  for (const [key, value] of Object.entries(options)) {
    if (!(key in LIMITS))
      throw new Error(`benchmark: unknown option ${key}; options: ${Object.keys(LIMITS).join(", ")}`);
    const least = LIMITS[key as keyof typeof LIMITS];
    const fits = value === undefined || (Number.isFinite(value) && value >= least);
    if (!fits || (key === "rounds" && value !== undefined && !Number.isInteger(value)))
      throw new Error(
        `benchmark: ${key} must be ${key === "rounds" ? "an integer" : "a number"} from ${least} on, got ${value}`,
      );
  }
  return options;
}

/** One way to compute the value. */
class Entry {
  private readonly samples: number[] = [];
  private plan = { kernels: 0, flops: 0, bytes: 0 };
  private values: { readonly shape: readonly number[]; readonly data: ArrayLike<number> }[] = [];
  private repeats = 1;

  constructor(
    readonly name: string,
    private readonly given: () => Tensor | readonly Tensor[],
  ) {
    if (typeof given !== "function") this.fail(`a function expected, got ${kindOf(given)}`);
  }

  /** Compiles the entry, and keeps its values. */
  async prepare(): Promise<void> {
    const first = this.build();
    const second = this.build();
    if (first.some((t, i) => t.node.realized || t.node === second[i]?.node))
      this.fail("it returns a tensor that was made before, so nothing would be measured; make it inside the function");
    this.plan = (await planNodes(first.map((t) => t.node))) ?? this.plan;
    this.values = [];
    for (const t of second) this.values.push({ shape: t.shape, data: await t.data() });
  }

  /** Largest difference from the values of `other`, relative to their largest. */
  errorAgainst(other: Entry): number {
    const shapes = (e: Entry): string => e.values.map((v) => show(v.shape)).join(", ");
    if (shapes(this) !== shapes(other))
      this.fail(`its values have the shapes ${shapes(this)}, those of ${other.name} ${shapes(other)}`);
    return Math.max(...this.values.map(({ data }, k) => this.relativeError(data, other.values[k].data, other.name)));
  }

  /** Sets how often a sample repeats the run, from the time of one. */
  async setRepeats(sampleMs: number): Promise<void> {
    this.repeats = Math.max(1, Math.min(1000, Math.ceil(sampleMs / (await this.time(1)))));
  }

  async sample(): Promise<void> {
    this.samples.push(await this.time(this.repeats));
  }

  row(options: BenchmarkOptions, peak: { gflops: number; gbs: number }, error: number): BenchmarkRow {
    const sorted = this.samples.sort((a, b) => a - b);
    const ms = sorted[sorted.length >> 1];
    const { kernels, flops, bytes } = this.plan;
    const [gflops, gbs] = [(options.flops ?? flops) / ms / 1e6, (options.bytes ?? bytes) / ms / 1e6];
    const roofline = 100 * Math.max(gflops / peak.gflops, gbs / peak.gbs);
    return { name: this.name, ms, best: sorted[0], worst: sorted.at(-1)!, kernels, gflops, gbs, roofline, error };
  }

  private build(): Tensor[] {
    let value: Tensor | readonly Tensor[];
    try {
      value = withRecording(false, () => untracked(this.given));
    } catch (error) {
      throw new Error(`benchmark: ${this.name} threw: ${(error as Error)?.message ?? error}`, { cause: error });
    }
    const list = Array.isArray(value) ? (value as readonly Tensor[]) : [value as Tensor];
    const stranger = list.find((t) => !(t instanceof Tensor));
    if (list.length === 0 || stranger !== undefined || value === undefined)
      this.fail(
        `a tensor or a list of tensors expected, got ${kindOf(value)}${value instanceof Promise ? "; return the tensor as it is, benchmark computes it" : ""}`,
      );
    return [...list];
  }

  /** Wall milliseconds of one run, of `repeats`. */
  private async time(repeats: number): Promise<number> {
    const started = performance.now();
    for (let i = 0; i < repeats; i++) {
      await flushNodes(this.build().map((t) => t.node));
      await synchronize();
    }
    return (performance.now() - started) / repeats;
  }

  private relativeError(got: ArrayLike<number>, want: ArrayLike<number>, other: string): number {
    let [largest, difference] = [0, 0];
    for (let i = 0; i < want.length; i++) {
      if (Object.is(got[i], want[i])) {
        if (Number.isFinite(want[i])) largest = Math.max(largest, Math.abs(want[i]));
        continue;
      }
      if (!Number.isFinite(got[i]) || !Number.isFinite(want[i]))
        this.fail(`its element ${i} is ${got[i]}, that of ${other} ${want[i]}`);
      largest = Math.max(largest, Math.abs(want[i]));
      difference = Math.max(difference, Math.abs(got[i] - want[i]));
    }
    return difference === 0 ? 0 : difference / Math.max(largest, 1e-30);
  }

  private fail(problem: string): never {
    throw new Error(`benchmark: ${this.name}: ${problem}`);
  }
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
