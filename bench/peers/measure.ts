import { median, round, type Sample, timed } from "../clock.ts";
import type { PeerResult } from "../results.ts";
import type { Case, Workload } from "../workloads/workload.ts";
import type { Counts } from "./common/adapter.ts";
import * as attention from "./work/attention.ts";
import * as conv from "./work/conv.ts";
import * as llama from "./work/llama.ts";
import * as matmul from "./work/matmul.ts";
import * as rows from "./work/rows.ts";
import * as scan from "./work/scan.ts";
import * as train from "./work/train.ts";
import type { Absent, Variants } from "./work/variants.ts";

const variants: Record<string, Variants> = Object.assign(
  {},
  ...[matmul, rows, scan, conv, attention, train, llama].map((file) => file.variants),
);

/** Libraries by name, as the loaders return them. */
export type Libraries = Readonly<
  Record<string, any & { readonly opened: { readonly counts: Counts; readonly errors: string[] } }>
>;

export interface Limits {
  readonly runs: number;
  /** No more runs start after this time: 3 at least. After a third of it: 9 at least. */
  readonly seconds: number;
}

/** A workload in one library. The native library runs the ONNX graphs of ONNX Runtime Web. */
export async function caseOf(work: Workload, name: string, library: any, inputs: unknown): Promise<Case | Absent> {
  const form = name === "native" ? "ort" : name;
  return name === "ours" ? work.ours(library, inputs) : (variants[work.name] as any)[form](library, inputs);
}

/** Measures a workload in all libraries. Their runs are interleaved, so that a busy machine slows all of them equally. */
export async function measure(
  work: Workload,
  libraries: Libraries,
  { runs, seconds }: Limits,
): Promise<Record<string, PeerResult>> {
  const inputs = work.inputs();
  const expected = work.expected(inputs);
  const results: Record<string, PeerResult> = {};
  const running = new Map<string, Running>();
  for (const name of Object.keys(libraries)) {
    const [result, run] = await start(work, name, libraries[name], inputs);
    results[name] = result;
    if (run) running.set(name, run);
  }
  if (work.agree) {
    for (let i = 0; i < expected.length; i++) {
      if (Number.isNaN(expected[i])) expected[i] = median([...running.values()].map((r) => r.values[i]));
    }
  }
  const started = performance.now();
  for (let i = 1; i < runs; i++) {
    const left = seconds - (performance.now() - started) / 1000;
    if (left < 0 ? i >= 3 : i >= 9 && left < (2 / 3) * seconds) break;
    for (const { benchCase, samples } of running.values()) samples.push(await timed(() => benchCase.run()));
  }
  for (const [name, { benchCase, values, samples }] of running) {
    const error = errorOf(values, expected);
    const cpu = samples.map((s) => s.cpu);
    results[name] = {
      cpuMs: round(median(cpu)),
      cpuMinMs: round(Math.min(...cpu)),
      wallMs: round(median(samples.map((s) => s.wall))),
      runs: samples.length,
      error: round(error),
      right: error <= work.tolerance,
      ...results[name],
    };
    await benchCase.dispose?.();
  }
  return results;
}

interface Running {
  readonly benchCase: Case;
  readonly values: Float32Array;
  readonly samples: Sample[];
}

/** Compiles and warms up a workload, reads its values, and counts the GPU calls of one more run. */
async function start(
  work: Workload,
  name: string,
  library: Libraries[string],
  inputs: unknown,
): Promise<[PeerResult, Running?]> {
  const { counts, errors } = library.opened;
  try {
    const benchCase = await caseOf(work, name, library, inputs);
    if ("absent" in benchCase) return [benchCase];
    errors.length = 0;
    const cold = await timed(() => benchCase.run());
    // V8 optimises for about a second or thirty runs. Train steps stop after three, whose losses are checked; so do long runs.
    const started = performance.now();
    for (let i = 1; i < 3 || (i < 30 && performance.now() - started < 1000); i++) {
      const { wall } = await timed(() => benchCase.run());
      if (wall > 500 && !work.agree) break;
    }
    const values = await benchCase.result();
    Object.assign(counts, { dispatches: 0, passes: 0, submits: 0 });
    const first = await timed(() => benchCase.run());
    if (errors.length > 0) throw new Error(errors[0]);
    return [
      { coldMs: round(cold.wall), ...counts },
      { benchCase, values, samples: [first] },
    ];
  } catch (error) {
    if (process.env.SHADEGRAD_DEBUG) console.error(error);
    return [{ absent: `failed: ${(error as Error).message.split("\n")[0]}` }];
  }
}

/** Largest difference from the expected values, relative to the largest of these (at least 1). */
function errorOf(value: Float32Array, expected: Float64Array): number {
  if (value.length !== expected.length) throw new Error(`${value.length} values, expected ${expected.length}`);
  let worst = 0;
  let size = 1;
  for (let i = 0; i < value.length; i++) {
    if (Number.isNaN(expected[i])) continue;
    const distance = Math.abs(value[i] - expected[i]);
    if (!(distance <= worst)) worst = distance; // also NaN, which is wrong
    size = Math.max(size, Math.abs(expected[i]));
  }
  return worst / size;
}
