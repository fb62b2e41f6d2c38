import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { measureRoofline } from "../src/bench/index.ts";
import { round } from "./clock.ts";
import { benchGeneration } from "./generate.ts";
import { header, type Machine } from "./harness.ts";
import { benchKernels } from "./kernels.ts";
import { benchLadder, type LadderFile } from "./ladder.ts";
import { openOurs } from "./ours.ts";
import { profile } from "./profile.ts";
import { adapterName, type BenchFile, readResults } from "./results.ts";
import { benchTraining, coldChild, measureCold, measureOverhead, overheadChild } from "./train.ts";
import { benchTuned, type TunedFile } from "./tuned.ts";
import { workloads } from "./workloads/train.ts";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" }, // substrings of names, separated by commas
    parts: { type: "string", default: "kernels,train,generate,overhead,cold" },
    ship: { type: "boolean", default: false }, // with the part tuned: update kernels/tuned.json
    dry: { type: "boolean", default: false }, // store nothing
    profile: { type: "string" }, // print the kernels of this workload
    "cold-child": { type: "string" },
    "overhead-child": { type: "boolean" },
  },
});
if (options["cold-child"]) {
  await coldChild(options["cold-child"]);
  process.exit(0);
}

if (options["overhead-child"]) {
  await overheadChild();
  process.exit(0);
}

if (options.profile) {
  await profile(await openOurs(), options.profile);
  process.exit(0);
}

const parts = options.parts.split(",");
const only = (name: string) => options.only.split(",").some((part) => name.includes(part));
const ours = await openOurs();
const { device } = ours;
const cores = cpus().length;
const measured = await measureRoofline({ cores: device.kind === "software" ? cores : undefined });
const roofline = { gflops: round(measured.gflops), gbs: round(measured.gbs) };
const machine: Machine = { device, cores, roofline };
console.log(`${device.description}; ${cpus()[0].model}, ${cores} cores`);
console.log(`roofline: ${roofline.gflops} GFLOP/s (f32 multiply-add), ${roofline.gbs} GB/s (copy, read + write)`);

const today = new Date().toISOString().slice(0, 10);
/** Updates bench/results/<kind>-<adapter>.json: `make` gets the stored results, if any, and returns the new ones. */
function store<T>(kind: string, make: (old: T | undefined) => T): T {
  const file = `bench/results/${kind}-${adapterName(device.description)}.json`;
  const result = make(readResults<T>(file));
  mkdirSync("bench/results", { recursive: true });
  if (!options.dry) writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
  return result;
}

const rows: BenchFile["rows"] = {};
if (parts.includes("kernels")) {
  header("kernels");
  for (const row of await benchKernels(ours, machine, only)) rows[row.name] = row;
}
if (parts.includes("train")) {
  header("train steps");
  for (const row of await benchTraining(ours, machine, only)) rows[row.name] = row;
}
if (parts.includes("generate")) {
  header("generation");
  for (const row of await benchGeneration(machine, only)) rows[row.name] = row;
}
if (parts.includes("ladder")) {
  header("ladder", ["ms", "GFLOP/s", "× first", "× last"]);
  const ladders = await benchLadder(ours, only);
  store<LadderFile>("ladder", (old) => ({
    adapter: device.description,
    date: today,
    clock: device.kind === "software" ? "CPU" : "wall",
    ladders: { ...old?.ladders, ...ladders },
  }));
}
if (parts.includes("tuned")) {
  header("choices", ["ratio", "heuristic", "best ms"]);
  const found = await benchTuned(only, options.ship ? (options.only ? "these" : "all") : undefined);
  store<TunedFile>("tuned", (old) => ({
    adapter: device.description,
    date: today,
    rows: options.only ? { ...old?.rows, ...found.rows } : found.rows,
    choices: options.only ? { ...old?.choices, ...found.choices } : found.choices,
  }));
}
const overhead = parts.includes("overhead") && !options.only ? measureOverhead() : undefined;
if (overhead) {
  const { dispatches, replayUs, flushUs, buildUs } = overhead;
  console.log(
    `\nhost, µs per dispatch (${dispatches} per plan): replay ${replayUs}, with hashing ${flushUs}, building ${buildUs}`,
  );
}
const cold = parts.includes("cold") ? workloads.filter((w) => only(w.name)).map((w) => measureCold(w.name)) : [];
for (const { name, init, first, second, pipelines } of cold) {
  console.log(
    `cold ${name}, no shader cache: init ${init} s, first step ${first} s (${pipelines} pipelines), second ${second} s`,
  );
}

if (Object.keys(rows).length === 0 && !overhead && cold.length === 0) process.exit(0);
const result = store<BenchFile>("bench", (old) => ({
  adapter: device.description,
  cpu: cpus()[0].model,
  cores,
  date: today,
  roofline,
  rows: { ...old?.rows, ...rows },
  overhead: overhead ?? old?.overhead,
  cold: [...(old?.cold ?? []).filter((c) => cold.every((n) => n.name !== c.name)), ...cold],
}));
console.log(JSON.stringify(result));
process.exit(0);
