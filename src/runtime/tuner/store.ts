// Measurements of an adapter, stored between runs: a file in Node, Deno and Bun, IndexedDB in browsers.

import type { Roofline } from "../roofline.ts";
import type { TunedEntry } from "./tuner.ts";

export interface Memory {
  /** Description of adapter and driver. Another driver has its own entry. */
  readonly adapter: string;
  readonly roofline?: Roofline;
  readonly entries: Readonly<Record<string, TunedEntry>>;
}

const runsNode = (): boolean =>
  (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node !== undefined;

const fileOf = (adapter: string): string => `${adapter.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.json`;

/** The stored measurements of `adapter`. Undefined if there is no storage, or the entry is damaged. */
export async function recall(adapter: string): Promise<Memory | undefined> {
  try {
    const found = runsNode() ? await readFile(adapter) : await withStore("readonly", (s) => s.get(adapter));
    return (found as Memory | undefined)?.adapter === adapter ? (found as Memory) : undefined;
  } catch {
    return undefined;
  }
}

/** Merges measurements into those stored for the adapter. Returns false if they cannot be stored. */
export async function remember(memory: Memory): Promise<boolean> {
  const old = await recall(memory.adapter);
  const merged: Memory = { ...old, ...memory, entries: { ...old?.entries, ...memory.entries } };
  try {
    if (runsNode()) {
      const bytes = new TextEncoder().encode(`${JSON.stringify(merged, null, 1)}\n`);
      await (await cache()).write!(fileOf(memory.adapter), [bytes]);
    } else await withStore("readwrite", (s) => s.put(merged, memory.adapter));
    return true;
  } catch {
    return false;
  }
}

async function cache() {
  const { folder, cacheFolder } = await import("../node.ts");
  return folder(cacheFolder());
}

async function readFile(adapter: string): Promise<unknown> {
  return JSON.parse(new TextDecoder().decode(await (await cache()).read(fileOf(adapter))));
}

function withStore(mode: "readonly" | "readwrite", ask: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("shadegrad", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("adapters");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const db = opening.result;
      const request = ask(db.transaction("adapters", mode).objectStore("adapters"));
      request.onerror = () => reject(request.error);
      request.onsuccess = () => resolve(request.result);
      request.transaction!.oncomplete = () => db.close();
    };
  });
}
