import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Roofline } from "../src/bench/index.ts";
import type { Row } from "./harness.ts";
import type { Cold, Overhead } from "./train.ts";

/** One library on one workload, as bench/results/peers-*.json stores it. */
export interface PeerResult {
  /** Medians. CPU time counts all threads of the process. */
  cpuMs?: number;
  cpuMinMs?: number;
  wallMs?: number;
  runs?: number;
  /** Wall time of the first call: tracing, compiling (the driver may have a warm disk cache), running. */
  coldMs?: number;
  /** Largest difference from the f64 values, relative to the largest value (at least 1). */
  error?: number;
  right?: boolean;
  /** GPU calls of one run. */
  dispatches?: number;
  passes?: number;
  submits?: number;
  /** Why there is no figure. */
  absent?: string;
}

export interface PeersFile {
  adapter: string;
  driver: string;
  vendor: string;
  cpu: string;
  cores: number;
  versions: Record<string, string>;
  workloads: Record<string, { date: string; results: Record<string, PeerResult> }>;
  /** First calls in new processes without shader cache. */
  cold?: Record<string, Record<string, Pick<PeerResult, "cpuMs" | "wallMs" | "absent">>>;
}

export function writePeers(file: string, stored: PeersFile): void {
  mkdirSync("bench/results", { recursive: true });
  writeFileSync(file, `${JSON.stringify(stored, null, 1)}\n`);
}

export function readResults<T>(file: string): T | undefined {
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as T) : undefined;
}

/** Entries that are no peers: shadegrad itself, and native CPU code, which no software adapter reaches. */
const NO_PEERS = ["ours", "native"];

/** The fastest peer whose values are right. */
export function bestPeer(results: Record<string, PeerResult>): [string, PeerResult] | undefined {
  return Object.entries(results)
    .filter(([name, r]) => !NO_PEERS.includes(name) && r.right)
    .sort(([, a], [, b]) => a.cpuMs! - b.cpuMs!)[0];
}

/** Workloads that ONNX Runtime Web computes correctly only with patched shaders (peers/README.md). */
const REPAIRED = ["attn_causal_fwd_512", "attn_causal_fwd_1024", "llama_block_fwd"];

/** The fastest correct peer without a patch, if the fastest correct peer is patched. Otherwise undefined. */
export function bestUnrepaired(name: string, results: Record<string, PeerResult>): [string, PeerResult] | undefined {
  const { ort, ...others } = results;
  return REPAIRED.includes(name) && bestPeer(results)?.[1] === ort ? bestPeer(others) : undefined;
}

/** CPU time of the best peer over shadegrad's. */
export function ratio(results: Record<string, PeerResult>): number | undefined {
  const peer = bestPeer(results);
  return peer && results.ours?.right ? peer[1].cpuMs! / results.ours.cpuMs! : undefined;
}

/** Contents of bench/results/bench-*.json, which `npm run bench` stores. */
export interface BenchFile {
  adapter: string;
  cpu: string;
  cores: number;
  date: string;
  roofline: Roofline;
  rows: Record<string, Row>;
  overhead?: Overhead;
  cold: Cold[];
}

/** Part of a file name: the adapter's description without versions. */
export const adapterName = (description: string): string =>
  /llvmpipe/.test(description)
    ? "llvmpipe"
    : description
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, "-")
        .slice(0, 40);
