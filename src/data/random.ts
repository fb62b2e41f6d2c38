import { mix } from "../graph/generator.ts";

/** Numbers in [0, 1) that follow from `keys` alone: what a sample gets does not depend on what came before it. */
export function randomOf(...keys: readonly number[]): () => number {
  let state = keys.reduce((h, key) => mix((h ^ key) + 0x9e3779b9), 0x5eed);
  return () => mix((state = (state + 0x9e3779b9) >>> 0)) / 2 ** 32;
}

/** A shuffled copy (Fisher and Yates). */
export function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}
