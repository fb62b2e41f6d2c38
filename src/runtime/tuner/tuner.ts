import { kernelNames, kernelSource } from "../../../kernels/index.ts";
import shipped from "../../../kernels/tuned.json";
import type { DeviceInfo } from "../../graph/device-info.ts";
import type { Candidate, FusedNames, Signature, VariantChooser } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { recall, remember } from "./store.ts";

/** The measured answer for one key, as it is stored. */
export interface TunedEntry {
  /** The best candidate. */
  readonly pick: Candidate;
  /** Kernels of the pick and of the heuristic's choice, and a hash of their code. Other code makes the entry stale. */
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
  readonly fused: FusedNames;
}

/** The measurements of one question. */
export interface TuneResult {
  readonly key: string;
  /** The heuristic's choice comes first. A candidate without a time does not run on the adapter, or would lose the prologue. */
  readonly candidates: readonly { readonly candidate: Candidate; readonly ms?: number }[];
  readonly entry: TunedEntry;
}

export const MAX_CANDIDATES = 12;

/** Which variant of a kernel is fastest on this adapter: measured answers, else the first candidate. */
export class Tuner implements VariantChooser {
  /** Whether compilation asks open questions and measures them. */
  asking = false;
  readonly open = new Map<string, Question>();
  /** Answers of this process's measurements, in order. */
  readonly results: TuneResult[] = [];
  private readonly table = new Map<string, TunedEntry>();

  /** Whether there are no answers at all. */
  get empty(): boolean {
    return this.table.size === 0;
  }

  /** Adds answers. Skips those whose kernels have changed since. */
  learn(entries: Readonly<Record<string, TunedEntry>>): void {
    for (const [key, entry] of Object.entries(entries)) if (isCurrent(entry)) this.table.set(key, entry);
  }

  /** The answer for this fused work; else the one without the prologue; else the one without any fused work. */
  choose<C extends Candidate>(
    node: Node,
    template: string,
    signature: Signature,
    candidates: readonly C[],
    { prologue, epilogue }: FusedNames = {},
  ): C {
    if (candidates.length === 0 || candidates.length > MAX_CANDIDATES)
      throw new Error(`internal: ${template} has ${candidates.length} candidates, allowed are 1 to ${MAX_CANDIDATES}`);
    if (candidates.length === 1 || this.empty) return candidates[0];
    const nearer: FusedNames[] = [
      ...(prologue ? [{ prologue, epilogue }] : []),
      ...(epilogue ? [{ epilogue }] : []),
      {},
    ];
    for (const fused of nearer) {
      const known = this.answer(tuningKey(node, template, signature, fused), candidates);
      if (known) return known;
    }
    return candidates[0];
  }

  /** As `choose`. Without an answer for exactly this case, it also records an open question. */
  ask<C extends Candidate>(
    node: Node,
    template: string,
    signature: Signature,
    candidates: readonly C[],
    fused: FusedNames,
  ): C {
    const key = tuningKey(node, template, signature, fused);
    if (candidates.length > 1 && !this.answer(key, candidates)) this.open.set(key, { key, node, candidates, fused });
    return this.choose(node, template, signature, candidates, fused);
  }

  private answer<C extends Candidate>(key: string, candidates: readonly C[]): C | undefined {
    const pick = JSON.stringify(this.table.get(key)?.pick);
    return candidates.find((c) => JSON.stringify(c) === pick); // undefined if that candidate no longer exists
  }

  /** The next question, if any, to be answered by `settle`. */
  next(): Question | undefined {
    const [question] = this.open.values();
    return question;
  }

  settle(result: TuneResult): void {
    this.open.delete(result.key);
    this.table.set(result.key, result.entry);
    this.results.push(result);
  }
}

/** Whether the measured kernels have not changed since. */
function isCurrent({ kernels, hash }: TunedEntry): boolean {
  const known = kernelNames();
  return kernels.every((k) => known.includes(k)) && hash === hashOf(kernels);
}

/**
 * Key of a case: template, dtypes, signature with sizes rounded up to powers of two, and names of the fused ops. Fused loads
 * and arithmetic can change which variant is fastest.
 */
export function tuningKey(
  node: Node,
  template: string,
  signature: Signature,
  { prologue, epilogue }: FusedNames = {},
): string {
  const dtypes = [node, ...node.src].map((n) => n.dtype);
  const parts = Object.entries(signature).map(([name, x]) => `${name}=${typeof x === "number" ? bucket(x) : x}`);
  const fused = [...(prologue ? [`prologue=${prologue}`] : []), ...(epilogue ? [`epilogue=${epilogue}`] : [])];
  return [template, dtypes.join(), ...parts, ...fused].join(" ");
}

const bucket = (x: number): number => (x > 1 ? 2 ** Math.ceil(Math.log2(x)) : x);

const hashes = new Map<string, string>();

/** FNV-1a hash of the kernels' code without comments: editing a comment keeps the measurements. */
export function hashOf(kernels: readonly string[]): string {
  const name = kernels.join();
  let known = hashes.get(name);
  if (known === undefined) {
    let h = 0x811c9dc5;
    for (const kernel of kernels) {
      const code = kernelSource(kernel).replace(/\s*\/\/.*$/gm, "");
      for (let i = 0; i < code.length; i++) h = Math.imul(h ^ code.charCodeAt(i), 0x01000193);
    }
    hashes.set(name, (known = (h >>> 0).toString(16).padStart(8, "0")));
  }
  return known;
}

/** The name under which answers for an adapter are stored: its description and the limits that kernels depend on. */
export const adapterOf = ({ description, subgroupSize, f16, maxInvocations, maxWorkgroupBytes }: DeviceInfo): string =>
  [description, `subgroups ${subgroupSize}`, f16 ? "f16" : "f32", maxInvocations, maxWorkgroupBytes].join(" · ");

/** `adapterOf` without versions: shipped answers apply to all drivers of an adapter. */
export const familyOf = (info: DeviceInfo): string => adapterOf(info).replace(/\S*\d+\.\d\S*/g, "*");

/** A tuner with the shipped answers for this adapter. Answers measured on this machine replace them. */
export async function tunerFor(info: DeviceInfo): Promise<Tuner> {
  const tuner = new Tuner();
  const families = shipped as unknown as Record<string, Record<string, TunedEntry>>; // a file has no pairs, only arrays
  tuner.learn(families[familyOf(info)] ?? {});
  tuner.learn((await recall(adapterOf(info)))?.entries ?? {});
  return tuner;
}

/** Stores answers for later runs. Returns false if they cannot be stored. */
export const keep = (info: DeviceInfo, results: readonly TuneResult[]): Promise<boolean> =>
  remember({ adapter: adapterOf(info), entries: Object.fromEntries(results.map((r) => [r.key, r.entry])) });
