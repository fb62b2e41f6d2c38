// `npm run bench:report`: writes the tables of README.md, docs/benchmarks.md and kernels/README.md from the stored results.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { median, round } from "./clock.ts";
import { gpuSection } from "./gpus.ts";
import type { LadderFile } from "./ladder.ts";
import {
  type BenchFile,
  bestPeer,
  bestUnrepaired,
  type PeerResult,
  type PeersFile,
  ratio,
  readResults,
} from "./results.ts";
import type { TunedFile } from "./tuned.ts";

const RESULTS = "bench/results";

/** Rows of docs/benchmarks.md, in its order. */
const TITLES: Record<string, string> = {
  matmul_256: "matmul 256³",
  matmul_512: "matmul 512³",
  matmul_1024: "matmul 1024³",
  matmul_512_at_b: "Aᵀ · B, 512³",
  matmul_512_a_bt: "A · Bᵀ, 512³",
  matmul_1024_at_b: "Aᵀ · B, 1024³",
  matmul_1024_a_bt: "A · Bᵀ, 1024³",
  matmul_1024_at_bt: "Aᵀ · Bᵀ, 1024³",
  matmul_2048: "matmul 2048³",
  bmm_32x128x64x128: "batched matmul 32 × [128, 64] × [64, 128]",
  matvec_2048x2048: "matvec [1, 2048] × [2048, 2048]",
  matvec_2048x8192: "matvec [1, 2048] × [2048, 8192]",
  matmul_4x2048x8192_a_bt: "[4, 2048] × [8192, 2048]ᵀ",
  matvec_int8_2048x8192: "matvec [1, 2048] × [8192, 2048]ᵀ, weights in 8 bits",
  matvec_int4_2048x8192: "the same, weights in 4 bits",
  softmax_4096x1024: "softmax 4096 × 1024",
  layernorm_4096x1024: "layer norm 4096 × 1024",
  rmsnorm_4096x1024: "RMS norm 4096 × 1024",
  gelu_chain_4M: "six elementwise ops, 4M values",
  attn_causal_fwd_512: "causal attention, 8 × 512 × 64",
  attn_causal_fwd_1024: "causal attention, 8 × 1024 × 64",
  attn_causal_fwdbwd_512: "the same forward + backward, 512",
  attn_causal_fwdbwd_1024: "the same forward + backward, 1024",
  mlp_train_step: "MLP train step, 128 × 784-512-512-10, Adam",
  llama_block_fwd: "LLaMA block forward, width 512, 256 tokens",
  decoder_train_step: "decoder train step, 4 layers of 256, 4 × 128 tokens, AdamW",
  dispatch_1000: "1,000 dependent tiny ops",
  dispatch_1000_unfused: "the same, fusion off",
};

/** Rows of the README. Their titles do not refer to other rows. */
const FIRST_SCREEN: Record<string, string> = {
  matmul_1024: "matmul 1024³",
  matvec_int4_2048x8192: "one row × int4 weights, 2048 × 8192",
  attn_causal_fwdbwd_1024: "causal attention with gradients, 8 × 1024 × 64",
  llama_block_fwd: "LLaMA block, width 512, 256 tokens",
  decoder_train_step: "decoder train step, 4 layers of 256, 512 tokens",
};

const LIBRARIES: Record<string, string> = { jax: "jax-js", tfjs: "TensorFlow.js", ort: "ONNX Runtime Web" };

function peersTable(file: PeersFile): string {
  const lines: string[] = [];
  for (const [name, title] of Object.entries(TITLES)) {
    const results = file.workloads[name]?.results;
    const best = results && bestPeer(results);
    const times = results && ratio(results);
    if (!best || !times) continue;
    const [peer, peerResult] = best;
    const time = ({ cpuMs, wallMs }: PeerResult): string => `${cpuMs} (${wallMs})`;
    const { ours, native } = results;
    const [other, otherResult] = bestUnrepaired(name, results) ?? [];
    const unrepaired = other ? ` (${(otherResult!.cpuMs! / ours.cpuMs!).toFixed(1)}× ${LIBRARIES[other]})` : "";
    const share = native?.right ? `${round((100 * native.cpuMs!) / ours.cpuMs!)} %` : "";
    lines.push(
      `| ${title} | ${time(ours)} | ${time(peerResult)} ${LIBRARIES[peer]}${other ? ", repaired" : ""} | ${times.toFixed(1)}×${unrepaired} | ${share} |` +
        ` ${ours.error!.toExponential(0)} / ${peerResult.error!.toExponential(0)} |`,
    );
  }
  return [
    `${adapterOf(file)}. Latest run: ${latest(file)}. Times are medians of interleaved runs in one process: CPU milliseconds ` +
      "over all threads, with wall milliseconds in brackets. Errors are the largest differences from f64 values.",
    "",
    `*Best peer* is the fastest of ${versionsOf(file)} whose values are right. Peers with wrong values are patched (their ` +
      "shaders alone) and marked *repaired*; the ratio then names the fastest peer without a patch in brackets. *Of native* " +
      "compares with ONNX Runtime's CPU code on 2 threads: 100 % is its speed.",
    "",
    "| f32 | shadegrad | best peer | ratio | of native | largest error, ours / theirs |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
    ...lines,
    ...Object.entries(file.cold ?? {}).flatMap(([name, results]) => coldLine(name, results)),
  ].join("\n");
}

/** Names of software adapters. */
const SOFTWARE = /llvmpipe|swiftshader|warp/i;

function adapterOf({ driver, cores }: PeersFile): string {
  if (!SOFTWARE.test(driver)) return `Measured on ${driver.trim()}`;
  return `Measured on a software adapter on ${cores} CPU cores (${driver.trim()}). No figure is from a GPU`;
}

const latest = ({ workloads }: PeersFile): string =>
  Object.values(workloads)
    .map((w) => w.date)
    .sort()
    .at(-1)!;

function versionsOf({ versions }: PeersFile): string {
  const libraries = Object.entries(versions).filter(([name]) => !/^shadegrad|CPU$/.test(name));
  const named = libraries.map(([name, version]) => `${name} ${version}`);
  return `${named.slice(0, -1).join(", ")} and ${named.at(-1)}`;
}

/** The README's table, and the sentence about the adapter. */
function shortTable(file: PeersFile): string {
  const lines = Object.entries(FIRST_SCREEN).flatMap(([name, title]) => {
    const results = file.workloads[name]?.results;
    const best = results && bestPeer(results);
    const times = results && ratio(results);
    if (!best || !times) return [];
    const repaired = bestUnrepaired(name, results) ? ", repaired" : "";
    return [
      `| ${title} | ${results.ours.cpuMs} ms | ${best[1].cpuMs} ms (${LIBRARIES[best[0]]}${repaired}) | ${times.toFixed(1)}× |`,
    ];
  });
  const ratios = Object.keys(TITLES).flatMap((name) => ratio(file.workloads[name]?.results ?? {}) ?? []);
  return [
    "| CPU time, f32 | shadegrad | fastest peer | ratio |",
    "| --- | ---: | ---: | ---: |",
    ...lines,
    "",
    `${adapterOf(file)}. Peers: ${versionsOf(file)}. Over all ${ratios.length} rows of [the full table](docs/benchmarks.md) the ` +
      `ratio is ${Math.min(...ratios).toFixed(1)}× to ${Math.max(...ratios).toFixed(1)}×.`,
  ].join("\n");
}

/** First calls in new processes: one line of the table, if at least one peer finished. */
function coldLine(name: string, results: NonNullable<PeersFile["cold"]>[string]): string[] {
  const best = Object.entries(results)
    .filter(([library, r]) => library in LIBRARIES && r.cpuMs)
    .sort(([, a], [, b]) => a.cpuMs! - b.cpuMs!)[0];
  const { ours } = results;
  if (!best || !ours?.cpuMs) return [];
  const [library, { cpuMs, wallMs }] = best;
  const title = `first ${name.replaceAll("_", " ")} of a process, no shader cache`;
  const ratio = (cpuMs! / ours.cpuMs).toFixed(1);
  return [`| ${title} | ${ours.cpuMs} (${ours.wallMs}) | ${cpuMs} (${wallMs}) ${LIBRARIES[library]} | ${ratio}× | | |`];
}

function ownFigures(file: BenchFile): string {
  const { roofline, overhead, rows, cold } = file;
  const share = rows.matmul_1024?.gflops && Math.round((100 * rows.matmul_1024.gflops) / roofline.gflops);
  const facts = [
    share && `Matmul 1024³ runs at ${share} % of the ${roofline.gflops} GFLOP/s that the adapter's registers reach.`,
    overhead && `Replaying a plan costs the host ${overhead.replayUs} µs per dispatch.`,
    rows.decode_64?.extra &&
      `A small LLaMA (4 layers of 256) decodes ${rows.decode_64.extra["tokens/s"]} tokens per second.`,
    ...cold.map((c) => `The first ${c.name.replaceAll("_", " ")} takes ${c.first} s without a shader cache.`),
  ].filter(Boolean);
  return facts.length ? ["On the same adapter:", "", ...facts.map((fact) => `- ${fact}`)].join("\n") : "";
}

/** A section of a page: the tables of all stored files of one kind. There is one file per adapter. */
const sectionOf =
  <T>(kind: string, table: (file: T) => string) =>
  (): string =>
    readdirSync(RESULTS)
      .filter((f) => f.startsWith(`${kind}-`))
      .sort()
      .map((f) => table(readResults<T>(`${RESULTS}/${f}`)!))
      .join("\n\n");

function benchSection(): string {
  return [sectionOf("peers", peersTable)(), sectionOf("bench", ownFigures)()].filter(Boolean).join("\n\n");
}

function ladderTables({ adapter, date, clock, ladders }: LadderFile): string {
  const tables = Object.values(ladders).map(({ title, rungs }) => {
    const rows = rungs.map((r, i) => {
      const times = [r.ms, r.gflops, `${r.overLast}×`, `${r.overFirst}×`].join(" | ");
      return `| ${i + 1} | \`${r.name}\` | ${r.change} | ${r.why} | ${times} |`;
    });
    return [
      `| | ${title} | what changed | why | ${clock} ms | GFLOP/s | over the last step | over the first |`,
      "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: |",
      ...rows,
    ].join("\n");
  });
  return [`${adapter.trim()}, ${date}: medians of interleaved runs.`, ...tables].join("\n\n");
}

const NOTABLE = 1.05; // lists choices slower than the best by this factor

function tunedTable({ adapter, date, rows, choices }: TunedFile): string {
  const ratios = Object.values(rows)
    .map((r) => r.ratio)
    .sort((a, b) => a - b);
  const slow = Object.entries(choices)
    .filter(([, c]) => c.ratio >= NOTABLE)
    .sort(([, a], [, b]) => b.ratio - a.ratio);
  return [
    `${adapter.trim()}, ${date}: with the heuristic's choices the ${ratios.length} rows of the benchmark table take ` +
      `${ratios[0]}× to ${ratios.at(-1)}× (median ${median(ratios)}×) of their time with measured choices. ` +
      `${Object.keys(choices).length} choices were measured alone. These take at least ${NOTABLE}× the time of the best one:`,
    "",
    "| choice | row | heuristic, ms | best, ms | ratio |",
    "| --- | --- | ---: | ---: | ---: |",
    ...slow.map(([key, c]) => `| ${key} | ${c.workload} | ${c.ms[1]} | ${c.ms[0]} | ${c.ratio}× |`),
  ].join("\n");
}

/** The page with a new section between its markers `<!-- name -->` and `<!-- /name -->`. */
export function withSection(page: string, name: string, section: string): string {
  const [opening, closing] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [start, end] = [page.indexOf(opening), page.indexOf(closing)];
  if (start < 0 || end < start) throw new Error(`bench:report: there is no ${opening} … ${closing}`);
  return `${page.slice(0, start + opening.length)}\n${section}\n${page.slice(end)}`;
}

/** Sections generated from stored results. A test compares them with the pages. */
export const sections: readonly (readonly [page: string, name: string, make: () => string])[] = [
  ["README.md", "bench", sectionOf("peers", shortTable)],
  ["docs/benchmarks.md", "bench", benchSection],
  ["kernels/README.md", "ladder", sectionOf("ladder", ladderTables)],
  ["kernels/README.md", "tuned", sectionOf("tuned", tunedTable)],
];

/** Sections computed from the sources. Written with the others, but no test compares them: they may be older than the sources. */
const computed: typeof sections = [["kernels/README.md", "gpus", gpuSection]];

if (process.argv.includes("--write")) {
  for (const [page, name, make] of [...sections, ...computed]) {
    writeFileSync(page, withSection(readFileSync(page, "utf8"), name, make()));
    console.log(`${page}: ${name} written`);
  }
}
