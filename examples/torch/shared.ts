import { pathToFileURL } from "node:url";

/** Whether the module with this URL is the program that runs, rather than imported by a test. */
export const isMain = (url: string): boolean =>
  process.argv[1] !== undefined && pathToFileURL(process.argv[1]).href === url;

/** Numbers that every language can repeat: a hash of a counter (mulberry32). The examples' data come from it. */
export function uniform(seed: number, n: number, low = 0, high = 1): Float32Array {
  return Float32Array.from({ length: n }, (_, i) => {
    const state = (seed + Math.imul(i + 1, 0x6d2b79f5)) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return low + ((high - low) * ((t ^ (t >>> 14)) >>> 0)) / 2 ** 32;
  });
}

/** Whole numbers in [0, below). */
export const integers = (seed: number, n: number, below: number): Int32Array =>
  Int32Array.from(uniform(seed, n), (x) => Math.min(below - 1, Math.floor(x * below)));
