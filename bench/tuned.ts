import { readFileSync, writeFileSync } from "node:fs";
import { adapterFamily, setChoices } from "../src/bench/index.ts";
import { type DeviceInfo, init, type TuneResult, tune } from "../src/index.ts";
import { median, round, timed } from "./clock.ts";
import { openOurs } from "./ours.ts";
import { allWorkloads } from "./workloads/index.ts";

/** Times with the heuristic's choices, compared with measured choices. */
export interface TunedFile {
  adapter: string;
  date: string;
  /** Rows of the benchmark table: times of a run with both, interleaved. CPU time on a software adapter. */
  rows: Record<string, { ratio: number; ms: readonly [best: number, heuristic: number] }>;
  /** Every choice in these workloads, measured alone: heuristic's time over best time, and both in ms. Median of three measurements. */
  choices: Record<
    string,
    { workload: string; ratio: number; ms: readonly [best: number, heuristic: number]; of: number }
  >;
}

const SHIPPED = "kernels/tuned.json";
const MIN_GAIN = 1.25; // ships a choice only if it is faster than the heuristic by this factor: it is one more shader to compile
const PASSES = 3;
const ROUNDS = 11;
const SAMPLE_MS = 30; // runs repeat until a sample takes this long

/** Tunes all workloads without earlier answers. `ship` writes choices that beat the heuristic to kernels/tuned.json. */
export async function benchTuned(
  only: (name: string) => boolean,
  ship?: "all" | "these",
): Promise<Pick<TunedFile, "rows" | "choices">> {
  const ours = await openOurs({ tune: false });
  const rows: TunedFile["rows"] = {};
  const choices: TunedFile["choices"] = {};
  const results: TuneResult[] = [];
  const passes = Array.from({ length: PASSES }, (): TuneResult[] => []); // each measures all workloads on its own
  for (const work of allWorkloads.filter((w) => only(w.name))) {
    const benchCase = work.ours(ours, work.inputs());
    const measured = new Map<string, TuneResult[]>();
    for (const known of passes) {
      await setChoices(known);
      const found = await tune(() => benchCase.run());
      for (const r of found) measured.set(r.key, [...(measured.get(r.key) ?? []), r]);
      known.push(...found);
    }
    rows[work.name] = await interleaved(ours.device, passes.at(-1)!, benchCase.run);
    await benchCase.dispose?.();
    line(work.name, rows[work.name], "the row");
    for (const [key, all] of measured) {
      const middle = all.sort((x, y) => slower(x) - slower(y))[(all.length - 1) >> 1];
      const { candidates, entry } = middle;
      results.push(middle);
      choices[key] = { workload: work.name, ratio: round(slower(middle)), ms: entry.ms, of: candidates.length };
      line("", choices[key], `${key}  ${JSON.stringify(entry.pick)}`);
    }
  }
  const worst = (x: Record<string, { ratio: number }>) => Math.max(1, ...Object.values(x).map((c) => c.ratio));
  console.log(`with the heuristic rows take at most ${worst(rows)}× the time, kernels alone ${worst(choices)}×`);
  if (ship) {
    const shipped = JSON.parse(readFileSync(SHIPPED, "utf8"));
    const family = await adapterFamily();
    const entries = results.filter((r) => slower(r) >= MIN_GAIN).map((r) => [r.key, r.entry]);
    shipped[family] = { ...(ship === "these" && shipped[family]), ...Object.fromEntries(entries.sort()) };
    writeFileSync(SHIPPED, `${JSON.stringify(shipped, null, 1)}\n`);
  }
  await init({ backend: "webgpu" });
  return { rows, choices };
}

/** The heuristic's time over the best one's. */
const slower = ({ entry }: TuneResult): number => entry.ms[1] / entry.ms[0];

function line(name: string, { ratio, ms }: { ratio: number; ms: readonly number[] }, what: string): void {
  const cells = [ratio, ms[1], ms[0]].map((x) => String(x).padStart(11));
  console.log(`${name.padEnd(30)}${cells.join("")}  ${what}`);
}

/** Times a run with measured choices, and with the heuristic only. Interleaved, so that load slows both equally. */
async function interleaved(
  { kind }: DeviceInfo,
  best: readonly TuneResult[],
  run: () => Promise<unknown>,
): Promise<TunedFile["rows"][string]> {
  const choices = [best, []];
  const samples: number[][] = [[], []];
  let runs = 1;
  for (let round = -1; round < ROUNDS; round++) {
    for (const i of round % 2 ? [1, 0] : [0, 1]) {
      await setChoices(choices[i]);
      await run(); // compiles the plan
      const { cpu, wall } = await timed(async () => {
        for (let n = 0; n < runs; n++) await run();
      });
      const ms = kind === "software" ? cpu : wall;
      if (round < 0) runs = Math.max(runs, Math.ceil(SAMPLE_MS / ms));
      else samples[i].push(ms / runs);
    }
  }
  await setChoices(best);
  const [fast, heuristic] = samples;
  const ratio = median(heuristic.map((ms, i) => ms / fast[i]));
  return { ratio: round(ratio), ms: [round(median(fast)), round(median(heuristic))] };
}
