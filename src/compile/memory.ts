/** A value that needs memory from step `from` (written) to step `to` (last read). */
export interface Lifetime {
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Assigns lifetimes to as few buffers as it can: each takes the best-fitting buffer free at its first step.
 * Whole buffers, because WebGPU forbids one buffer as input and output of a dispatch even on disjoint ranges.
 */
export function planMemory(lifetimes: readonly Lifetime[]): { slots: number[]; sizes: number[]; lowerBound: number } {
  const order = lifetimes
    .map((_, i) => i)
    .sort((a, b) => lifetimes[a].from - lifetimes[b].from || lifetimes[b].bytes - lifetimes[a].bytes);
  const slots = new Array<number>(lifetimes.length);
  const sizes: number[] = [];
  const busyUntil: number[] = [];
  for (const i of order) {
    const { bytes, from, to } = lifetimes[i];
    let best = -1;
    for (let s = 0; s < sizes.length; s++) {
      if (busyUntil[s] >= from) continue;
      if (best < 0) best = s;
      else {
        const [a, b] = [sizes[s], sizes[best]];
        // The smallest that fits, else the largest to grow.
        if (a >= bytes ? b < bytes || a < b : b < bytes && a > b) best = s;
      }
    }
    if (best < 0 || (sizes[best] > 4 * bytes && sizes[best] > 1 << 20)) {
      best = sizes.length;
      sizes.push(0);
      busyUntil.push(-1);
    }
    sizes[best] = Math.max(sizes[best], bytes);
    busyUntil[best] = to;
    slots[i] = best;
  }
  const steps = lifetimes.reduce((n, l) => Math.max(n, l.to + 1), 0);
  const change = new Float64Array(steps + 1);
  for (const { bytes, from, to } of lifetimes) {
    change[from] += bytes;
    change[to + 1] -= bytes;
  }
  let live = 0;
  let lowerBound = 0;
  for (const delta of change) lowerBound = Math.max(lowerBound, (live += delta));
  return { slots, sizes, lowerBound };
}
