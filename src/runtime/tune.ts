import { kernelSource } from "../../kernels/index.ts";
import type { Candidate, Signature } from "../compile/lower.ts";
import type { Node } from "../node.ts";
import { log } from "./debug.ts";

/** What was measured for one key, as it is stored. */
export interface TunedEntry {
  /** The best candidate. */
  readonly pick: Candidate;
  /** Kernels of the pick and of the heuristic's choice, and a hash of their texts: another text makes the entry stale. */
  readonly kernels: readonly string[];
  readonly hash: string;
  /** Milliseconds of the pick and of the heuristic's choice. */
  readonly ms: readonly [number, number];
}

/** A question that has no answer in the table. */
export interface Question {
  readonly key: string;
  readonly node: Node;
  readonly candidates: readonly Candidate[];
}

export const MAX_CANDIDATES = 12;

/** Which way of lowering an op is best on this adapter: measured answers, else the first candidate. */
export class Tuner {
  /** Keep what has no answer in `open`. */
  asking = false;
  readonly open = new Map<string, Question>();

  constructor(readonly table: Map<string, TunedEntry> = new Map()) {}

  choose<C extends Candidate>(node: Node, template: string, signature: Signature, candidates: readonly C[]): C {
    if (candidates.length === 0 || candidates.length > MAX_CANDIDATES)
      throw new Error(`internal: ${template} has ${candidates.length} candidates, allowed are 1 to ${MAX_CANDIDATES}`);
    const key = keyOf(node, template, signature);
    const known = this.lookup(key, candidates);
    if (!known && this.asking && candidates.length > 1) this.open.set(key, { key, node, candidates });
    return known ?? candidates[0];
  }

  /** The measured pick, if the kernels are still those that were measured and it is still on offer. */
  private lookup<C extends Candidate>(key: string, candidates: readonly C[]): C | undefined {
    const entry = this.table.get(key);
    if (!entry) return undefined;
    const pick = JSON.stringify(entry.pick);
    const found = candidates.find((c) => JSON.stringify(c) === pick);
    if (found && entry.hash === hashOf(entry.kernels)) return found;
    this.table.delete(key);
    log(1, `tuning: ${key} is stale`);
    return undefined;
  }
}

/** Template, dtypes and signature, its sizes rounded up to powers of two. */
export function keyOf(node: Node, template: string, signature: Signature): string {
  const dtypes = [node, ...node.src].map((n) => n.dtype);
  const parts = Object.entries(signature).map(([name, x]) => `${name}=${typeof x === "number" ? bucket(x) : x}`);
  return [template, dtypes.join(), ...parts].join(" ");
}

const bucket = (x: number): number => (x > 1 ? 2 ** Math.ceil(Math.log2(x)) : x);

const hashes = new Map<string, string>();

/** FNV-1a of the kernels' texts. */
export function hashOf(kernels: readonly string[]): string {
  const name = kernels.join();
  let known = hashes.get(name);
  if (known === undefined) {
    let h = 0x811c9dc5;
    for (const kernel of kernels) {
      const text = kernelSource(kernel);
      for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
    }
    hashes.set(name, (known = (h >>> 0).toString(16).padStart(8, "0")));
  }
  return known;
}
