/** Each random op draws its own seed from this pair. Seeds are data, not attributes: equal graphs keep equal keys. */
let state = { seed: 0, calls: 0 };

/** 32-bit hash of the random numbers. The WGSL of `rand` computes the same. */
export function mix(x: number): number {
  const a = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  const b = Math.imul(a ^ (a >>> 15), 0x846ca68b);
  return (b ^ (b >>> 16)) >>> 0;
}

/** Restarts the random numbers with an integer seed: the same calls give the same values again. */
export function manualSeed(seed: number): void {
  if (!Number.isInteger(seed)) throw new RangeError(`manualSeed: an integer expected, got ${seed}`);
  state = { seed: seed >>> 0, calls: 0 };
}

export type GeneratorState = Readonly<typeof state>;
/** State of the random numbers, for `setRngState`. */
export const saveGenerator = (): GeneratorState => ({ ...state });
/** Continues the random numbers from a saved state. */
export const restoreGenerator = (saved: GeneratorState): void => void (state = { ...saved });

/** A u32 seed. No two calls return the same one until the state restarts. */
export const drawSeed = (): number => mix(mix(state.seed + 0x9e3779b9) ^ state.calls++);
