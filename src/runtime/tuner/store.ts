/** What the library remembers of an adapter between runs: a file in Node, Deno and Bun, IndexedDB in browsers. */

import type { Roofline } from "../roofline.ts";
import type { TunedEntry } from "./tuner.ts";

export interface Memory {
  /** The adapter's own words: another driver starts afresh. */
  readonly adapter: string;
  readonly roofline?: Roofline;
  readonly entries: Readonly<Record<string, TunedEntry>>;
}

const runsNode = (): boolean =>
  (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node !== undefined;

const fileOf = (adapter: string): string => `${adapter.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.json`;

/** What is remembered of `adapter`; nothing when there is no place to remember in, or what lies there is damaged. */
export async function recall(adapter: string): Promise<Memory | undefined> {
  try {
    const found = runsNode() ? await readFile(adapter) : await withStore("readonly", (s) => s.get(adapter));
    return (found as Memory | undefined)?.adapter === adapter ? (found as Memory) : undefined;
  } catch {
    return undefined;
  }
}

/** Adds to what is remembered of an adapter; false when it could not be kept. */
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
