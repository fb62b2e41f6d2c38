import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { median, round, type Sample, timed } from "../clock.ts";
import { openOurs } from "../ours.ts";
import { adapterName, type PeerResult, type PeersFile, ratio, readResults, writePeers } from "../results.ts";
import { allWorkloads } from "../workloads/index.ts";
import type { Case, Workload } from "../workloads/workload.ts";
import { installAdapter, opening } from "./adapter.ts";
import { measureCold } from "./cold.ts";
import { loadJax } from "./libraries/jax.ts";
import { loadNative } from "./libraries/native.ts";
import { loadOrt } from "./libraries/ort.ts";
import { loadTfjs } from "./libraries/tfjs.ts";
import type { Variants } from "./variants.ts";
import * as attention from "./work/attention.ts";
import * as llama from "./work/llama.ts";
import * as matmul from "./work/matmul.ts";
import * as rows from "./work/rows.ts";
import * as train from "./work/train.ts";

const variants: Record<string, Variants> = Object.assign(
  {},
  ...[matmul, rows, attention, train, llama].map((file) => file.variants),
);

const loaders: Record<string, () => Promise<any>> = {
  ours: async () => {
    const [ours, opened] = await opening(() => openOurs());
    return { ...ours, opened, name: "shadegrad", version: "0.1.0" };
  },
  jax: loadJax,
  tfjs: loadTfjs,
  native: loadNative, // before ORT Web, whose wasm then keeps the threads busy that load it
  ort: loadOrt,
};
/** Whose form of a workload a library takes. */
const formOf = (name: string): string => (name === "native" ? "ort" : name);

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" }, // parts of workload names
    peers: { type: "string", default: "ours,jax,tfjs,ort,native" },
    runs: { type: "string", default: "30" },
    seconds: { type: "string", default: "30" }, // a workload's runs stop after that, 3 at least; after a third, 9 at least
    list: { type: "boolean", default: false },
    dry: { type: "boolean", default: false }, // store nothing
    cold: { type: "string", default: "" }, // first calls of a workload, each library in a new process without shader cache
    "cold-child": { type: "string" },
  },
});
const chosen = allWorkloads.filter((w) => options.only.split(",").some((part) => w.name.includes(part)));
const wanted = Object.keys(loaders).filter((name) => options.peers.split(",").includes(name));
if (options.list || chosen.length === 0 || wanted.length === 0) {
  console.log(allWorkloads.map((w) => w.name).join("\n"));
  process.exit(options.list ? 0 : 1);
}

if (options.cold) {
  measureCold(options.cold, wanted, Math.min(Number(options.runs), 3), options.dry);
  process.exit(0);
}
const adapter = await installAdapter();
const libraries: Record<string, any> = {};
for (const name of wanted) {
  const { wall } = await timed(async () => (libraries[name] = await loaders[name]()));
  if (!options["cold-child"])
    console.log(`${libraries[name].name} ${libraries[name].version}: ready in ${Math.round(wall)} ms`);
}
if (options["cold-child"]) {
  const work = allWorkloads.find((w) => w.name === options["cold-child"])!;
  const [name] = wanted;
  const inputs = work.inputs();
  const made = await (name === "ours" ? work.ours : (variants[work.name] as any)[formOf(name)])(
    libraries[name],
    inputs,
  );
  const absent = "absent" in made ? made.absent : undefined;
  const { cpu, wall } = absent ? { cpu: 0, wall: 0 } : await timed(() => made.run());
  console.log(JSON.stringify(absent ? { absent } : { cpuMs: round(cpu), wallMs: round(wall) }));
  process.exit(0);
}

/** Largest difference, relative to the largest expected value (or 1). */
function errorOf(value: Float32Array, expected: Float64Array): number {
  if (value.length !== expected.length) throw new Error(`${value.length} values, expected ${expected.length}`);
  let worst = 0;
  let size = 1;
  for (let i = 0; i < value.length; i++) {
    if (Number.isNaN(expected[i])) continue;
    const distance = Math.abs(value[i] - expected[i]);
    if (!(distance <= worst)) worst = distance; // NaN is wrong
    size = Math.max(size, Math.abs(expected[i]));
  }
  return worst / size;
}

interface Running {
  readonly made: Case;
  readonly values: Float32Array;
  readonly samples: Sample[];
}

/** Compiles, checks the values, and counts the GPU calls of one more run. */
async function start(work: Workload, name: string, inputs: unknown): Promise<[PeerResult, Running?]> {
  const library = libraries[name];
  const { counts, errors } = library.opened;
  try {
    const made = await (name === "ours" ? work.ours : (variants[work.name] as any)[formOf(name)])(library, inputs);
    if ("absent" in made) return [made];
    errors.length = 0;
    const cold = await timed(() => made.run());
    // V8 warms up for a second or thirty runs; a train step is judged by its first three losses, long runs need no more.
    const started = performance.now();
    for (let i = 1; i < 3 || (i < 30 && performance.now() - started < 1000); i++) {
      const { wall } = await timed(() => made.run());
      if (wall > 500 && !work.agree) break;
    }
    const values = await made.result();
    Object.assign(counts, { dispatches: 0, passes: 0, submits: 0 });
    const first = await timed(() => made.run());
    if (errors.length > 0) throw new Error(errors[0]);
    return [
      { coldMs: round(cold.wall), ...counts },
      { made, values, samples: [first] },
    ];
  } catch (error) {
    if (process.env.SHADEGRAD_DEBUG) console.error(error);
    return [{ absent: `failed: ${(error as Error).message.split("\n")[0]}` }];
  }
}

async function measure(work: Workload): Promise<Record<string, PeerResult>> {
  const inputs = work.inputs();
  const expected = work.expected(inputs);
  const results: Record<string, PeerResult> = {};
  const running = new Map<string, Running>();
  for (const name of wanted) {
    const [result, run] = await start(work, name, inputs);
    results[name] = result;
    if (run) running.set(name, run);
  }
  if (work.agree) {
    for (let i = 0; i < expected.length; i++) {
      if (Number.isNaN(expected[i])) expected[i] = median([...running.values()].map((r) => r.values[i]));
    }
  }
  // Library after library within a round, so that a busy machine slows all of them alike.
  const started = performance.now();
  for (let i = 1; i < Number(options.runs); i++) {
    const left = Number(options.seconds) - (performance.now() - started) / 1000;
    if (left < 0 ? i >= 3 : i >= 9 && left < (2 / 3) * Number(options.seconds)) break;
    for (const { made, samples } of running.values()) samples.push(await timed(() => made.run()));
  }
  for (const [name, { made, values, samples }] of running) {
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
    await made.dispose?.();
  }
  return results;
}

const print = (columns: string[]) =>
  console.log(columns.map((text, i) => (i === 0 ? text.padEnd(26) : text.padStart(16))).join(""));
print(["CPU ms (dispatches)", ...wanted, "ratio"]);
const { device, description, vendor } = adapter.info;
const file = `bench/results/peers-${adapterName(`${device} ${description}`)}.json`;

/** Adds to what earlier runs measured; a library that was not asked for keeps its figures. */
function store(name: string, results: Record<string, PeerResult>): void {
  const old = readResults<PeersFile>(file);
  const versions = Object.fromEntries(wanted.map((library) => [libraries[library].name, libraries[library].version]));
  const date = new Date().toISOString().slice(0, 10);
  writePeers(file, {
    ...old,
    adapter: device,
    driver: description,
    vendor,
    cpu: cpus()[0].model,
    cores: cpus().length,
    versions: { ...old?.versions, ...versions },
    workloads: { ...old?.workloads, [name]: { date, results: { ...old?.workloads[name]?.results, ...results } } },
  });
}

for (const work of chosen) {
  const results = await measure(work);
  const cells = wanted.map((name) => {
    const { absent, cpuMs, right, dispatches } = results[name];
    return absent ? "n/a" : `${cpuMs}${right ? "" : " WRONG"} (${dispatches})`;
  });
  print([work.name, ...cells, ratio(results)?.toFixed(2) ?? ""]);
  for (const name of wanted) if (results[name].absent) console.log(`  ${name}: ${results[name].absent}`);
  if (!options.dry) store(work.name, results);
}
if (!options.dry) console.log(`stored in ${file}`);
process.exit(0); // ORT keeps handles open
