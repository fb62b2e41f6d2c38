/** Each call takes a seed of its own from this pair. Seeds are data, so equal graphs keep equal keys. */
let state = { seed: 0, calls: 0 };

/** 32-bit mixing function of the random numbers; the WGSL of `rand` computes the same. */
export function mix(x: number): number {
  const a = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  const b = Math.imul(a ^ (a >>> 15), 0x846ca68b);
  return (b ^ (b >>> 16)) >>> 0;
}

/** Restarts the random numbers: the same calls after it give the same values. */
export function manualSeed(seed: number): void {
  if (!Number.isInteger(seed)) throw new RangeError(`manualSeed: an integer expected, got ${seed}`);
  state = { seed: seed >>> 0, calls: 0 };
}

export type GeneratorState = Readonly<typeof state>;
export const saveGenerator = (): GeneratorState => ({ ...state });
export const restoreGenerator = (saved: GeneratorState): void => void (state = { ...saved });

/** A u32 seed that no other call has. */
export const drawSeed = (): number => mix(mix(state.seed + 0x9e3779b9) ^ state.calls++);
