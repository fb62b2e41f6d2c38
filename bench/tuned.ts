import { readFileSync, writeFileSync } from "node:fs";
import { currentDevice } from "../src/engine.ts";
import { init, type TuneResult, tune } from "../src/index.ts";
import { familyOf } from "../src/runtime/tune.ts";
import { round } from "./clock.ts";
import { openOurs } from "./ours.ts";
import { allWorkloads } from "./workloads/index.ts";

/** What the heuristic's choice costs over the measured one, for every choice that the bench table's work meets. */
export interface TunedFile {
  adapter: string;
  date: string;
  /** Heuristic's time over the best time; milliseconds of both. */
  choices: Record<
    string,
    { workload: string; ratio: number; ms: readonly [best: number, heuristic: number]; of: number }
  >;
}

const SHIPPED = "kernels/tuned.json";
const WORTH = 1.1; // shipped only if that much faster than the heuristic: less is noise, and one more text to compile

/** Tunes all workloads from nothing; `ship` writes what beats the heuristic into kernels/tuned.json. */
export async function benchTuned(
  only: (name: string) => boolean,
  ship?: "all" | "these",
): Promise<TunedFile["choices"]> {
  const ours = await openOurs({ tune: false });
  const choices: TunedFile["choices"] = {};
  const results: TuneResult[] = [];
  for (const work of allWorkloads.filter((w) => only(w.name))) {
    const made = work.ours(ours, work.inputs());
    const measured = await tune(() => made.run());
    await made.dispose?.();
    results.push(...measured);
    for (const { key, candidates, entry } of measured) {
      const ratio = round(entry.ms[1] / entry.ms[0]);
      choices[key] = { workload: work.name, ratio, ms: entry.ms, of: candidates.length };
      const cells = [ratio, entry.ms[1], entry.ms[0], candidates.length].map((x) => String(x).padStart(11));
      console.log(`${work.name.padEnd(30)}${cells.join("")}  ${key}  ${JSON.stringify(entry.pick)}`);
    }
  }
  const ratios = Object.values(choices).map((c) => c.ratio);
  if (ratios.length) console.log(`the heuristic's choice takes at most ${Math.max(...ratios)}× the best one's time`);
  if (ship) {
    const shipped = JSON.parse(readFileSync(SHIPPED, "utf8"));
    const family = familyOf(currentDevice()!.info);
    const entries = results.filter((r) => r.entry.ms[1] / r.entry.ms[0] >= WORTH).map((r) => [r.key, r.entry]);
    shipped[family] = { ...(ship === "these" && shipped[family]), ...Object.fromEntries(entries.sort()) };
    writeFileSync(SHIPPED, `${JSON.stringify(shipped, null, 1)}\n`);
  }
  await init({ backend: "webgpu" });
  return choices;
}
