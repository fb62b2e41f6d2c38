import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { round, timed } from "../clock.ts";
import { openOurs } from "../ours.ts";
import { adapterName, type PeerResult, type PeersFile, ratio, readResults, writePeers } from "../results.ts";
import { allWorkloads } from "../workloads/index.ts";
import { measureCold } from "./cold.ts";
import { installAdapter, opening } from "./common/adapter.ts";
import { loadJax } from "./libraries/jax.ts";
import { loadNative } from "./libraries/native.ts";
import { loadOrt } from "./libraries/ort.ts";
import { loadTfjs } from "./libraries/tfjs.ts";
import { caseOf, measure } from "./measure.ts";

const loaders: Record<string, () => Promise<any>> = {
  ours: async () => {
    const [ours, opened] = await opening(() => openOurs());
    return { ...ours, opened, name: "shadegrad", version: "0.1.0" };
  },
  jax: loadJax,
  tfjs: loadTfjs,
  native: loadNative, // before ORT Web: its wasm keeps the threads busy that load it
  ort: loadOrt,
};

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" }, // substrings of workload names, separated by commas
    peers: { type: "string", default: "ours,jax,tfjs,ort,native" },
    runs: { type: "string", default: "30" },
    seconds: { type: "string", default: "30" }, // per workload, see `Limits`
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
  await firstCall(options["cold-child"], wanted[0]);
  process.exit(0);
}

const { device, description, vendor } = adapter.info;
const file = `bench/results/peers-${adapterName(`${device} ${description}`)}.json`;
print(["CPU ms (dispatches)", ...wanted, "ratio"]);
for (const work of chosen) {
  const results = await measure(work, libraries, { runs: Number(options.runs), seconds: Number(options.seconds) });
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

/** Times the first call of a workload in this process, and prints the result for `measureCold`. */
async function firstCall(workload: string, name: string): Promise<void> {
  const work = allWorkloads.find((w) => w.name === workload)!;
  const benchCase = await caseOf(work, name, libraries[name], work.inputs());
  if ("absent" in benchCase) return console.log(JSON.stringify(benchCase));
  const { cpu, wall } = await timed(() => benchCase.run());
  console.log(JSON.stringify({ cpuMs: round(cpu), wallMs: round(wall) }));
}

function print(columns: readonly string[]): void {
  console.log(columns.map((cell, i) => (i === 0 ? cell.padEnd(26) : cell.padStart(16))).join(""));
}

/** Adds to the stored results. A library that was not measured now keeps its figures. */
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
