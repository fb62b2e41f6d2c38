import { mix } from "../graph/generator.ts";

/** A generator of numbers in [0, 1) that depends on `keys` alone, not on earlier draws. */
export function randomOf(...keys: readonly number[]): () => number {
  let state = keys.reduce((h, key) => mix((h ^ key) + 0x9e3779b9), 0x5eed);
  return () => mix((state = (state + 0x9e3779b9) >>> 0)) / 2 ** 32;
}

/** A shuffled copy (Fisher and Yates). `random` returns numbers in [0, 1). */
export function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}
