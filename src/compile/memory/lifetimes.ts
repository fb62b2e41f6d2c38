/** A value that needs memory from step `from` (written) to step `to` (last read). */
export interface Lifetime {
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
}

interface Assignment {
  readonly slots: number[];
  readonly sizes: number[];
}

/**
 * Assigns lifetimes to buffers, so that those who share one are never alive together; the better of two orders.
 * Whole buffers, because WebGPU forbids one buffer as input and output of a dispatch even on disjoint ranges.
 */
export function planMemory(lifetimes: readonly Lifetime[]): Assignment & { lowerBound: number; fullest: number } {
  const byStep = (a: Lifetime, b: Lifetime): number => a.from - b.from || b.bytes - a.bytes;
  const bySize = (a: Lifetime, b: Lifetime): number => b.bytes - a.bytes || a.from - b.from;
  const [first, second] = [byStep, bySize].map((order) => assign(lifetimes, order));
  return { ...(total(second) < total(first) ? second : first), ...mostAlive(lifetimes) };
}

const total = ({ sizes }: Assignment): number => sizes.reduce((a, b) => a + b, 0);

/** Each lifetime in `order` takes the buffer that fits best among those that are free for all of it. */
function assign(lifetimes: readonly Lifetime[], order: (a: Lifetime, b: Lifetime) => number): Assignment {
  const slots = new Array<number>(lifetimes.length);
  const sizes: number[] = [];
  const users: Lifetime[][] = [];
  const indices = lifetimes.map((_, i) => i).sort((a, b) => order(lifetimes[a], lifetimes[b]));
  for (const i of indices) {
    const life = lifetimes[i];
    const { bytes, from, to } = life;
    let best = -1;
    for (let s = 0; s < sizes.length; s++) {
      if (users[s].some((u) => u.from <= to && from <= u.to)) continue;
      // The smallest that fits, else the largest to grow.
      if (best < 0 || (sizes[s] >= bytes ? sizes[best] < bytes || sizes[s] < sizes[best] : sizes[s] > sizes[best]))
        best = s;
    }
    if (best < 0) {
      best = sizes.push(0) - 1;
      users.push([]);
    }
    sizes[best] = Math.max(sizes[best], bytes);
    users[best].push(life);
    slots[i] = best;
  }
  return { slots, sizes };
}

/** The fullest step, and the bytes alive at it. */
function mostAlive(lifetimes: readonly Lifetime[]): { lowerBound: number; fullest: number } {
  const steps = lifetimes.reduce((n, l) => Math.max(n, l.to + 1), 0);
  const change = new Float64Array(steps + 1);
  for (const { bytes, from, to } of lifetimes) {
    change[from] += bytes;
    change[to + 1] -= bytes;
  }
  let [live, lowerBound, fullest] = [0, 0, 0];
  change.forEach((delta, step) => {
    live += delta;
    if (live > lowerBound) [lowerBound, fullest] = [live, step];
  });
  return { lowerBound, fullest };
}
