import { parseArgs } from "node:util";
import { init, type Tensor, type TuneResult, tune } from "../../src/index.ts";
import { works } from "./tune-works.ts";

export const summary = "measures the kernel variants on this adapter and keeps the best";

const HELP = `usage: shadegrad tune [--only matmul,attention] [--again] [--list] [--json]

Measures every variant of the kernels at common sizes, interleaved, and keeps the best ones for
later runs in the user's cache folder (SHADEGRAD_CACHE names another). Your own model is tuned by
init({ tune: true }) or tune(() => step()), with its own sizes.

  --only   parts of names (--list shows them)
  --again  measure also what was measured before
  --json   print the results as JSON`;

export async function run(args: string[]): Promise<void> {
  const { values: options } = parseArgs({
    args,
    options: {
      only: { type: "string", default: "" },
      again: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (options.help) return console.log(HELP);
  const chosen = works.filter((w) => options.only.split(",").some((part) => w.name.includes(part)));
  if (options.list || chosen.length === 0) {
    console.log(works.map((w) => w.name).join("\n"));
    if (!options.list) throw new Error(`nothing is called ${options.only}`);
    return;
  }

  const device = await init({ backend: "webgpu", tune: options.again ? false : undefined });
  console.error(`${device!.description}: ${chosen.length} workloads`);
  const results: TuneResult[] = [];
  const started = performance.now();
  for (const [i, work] of chosen.entries()) {
    progress(i, chosen.length, work.name, started);
    results.push(...(await tune(async () => void (await compute(work.make())))));
  }
  progress(chosen.length, chosen.length, "", started);
  if (process.stderr.isTTY) console.error();
  console.log(options.json ? JSON.stringify(results) : table(results));
}

/** Compiles and runs the plan of `outputs`. */
async function compute(outputs: Tensor | Tensor[]): Promise<void> {
  const sums = [outputs].flat().map((x) => x.sum());
  await Promise.all(sums.map((s) => s.item()));
}

function progress(done: number, all: number, name: string, started: number): void {
  const WIDTH = 30;
  const full = Math.round((WIDTH * done) / all);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const line = `[${"█".repeat(full)}${"░".repeat(WIDTH - full)}] ${done}/${all}  ${seconds} s  ${name}`;
  if (process.stderr.isTTY) process.stderr.write(`\r${line.slice(0, process.stderr.columns - 1)}\x1b[K`);
  else console.error(line);
}

/** One line per measurement: the heuristic's time, the best time, and the fastest variant. */
export function table(results: readonly TuneResult[]): string {
  if (results.length === 0) return "nothing to measure: all of it was measured before (--again measures it again)";
  const text = (candidate: object): string =>
    Object.entries(candidate)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ");
  const width = Math.max(...results.map((r) => r.key.length));
  const rows = results.map(({ key, candidates, entry: { pick, ms } }) => {
    const gain = ms[1] / ms[0];
    const verdict =
      gain > 1 ? `${gain.toFixed(2)}x  ${text(pick)}  (was ${text(candidates[0].candidate)})` : `1.00x  ${text(pick)}`;
    return `${key.padEnd(width)} ${String(candidates.length).padStart(3)} ${ms[1].toFixed(3).padStart(10)} ${ms[0].toFixed(3).padStart(10)}  ${verdict}`;
  });
  const head = `${"kernel, dtypes, sizes".padEnd(width)} ${"of".padStart(3)} ${"heuristic".padStart(10)} ${"best ms".padStart(10)}`;
  return [head, ...rows].join("\n");
}
