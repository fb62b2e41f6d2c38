/** Milliseconds of one call. CPU time counts all threads of the process: on a software adapter it is the work of the GPU. */
export interface Sample {
  readonly cpu: number;
  readonly wall: number;
}

export async function timed(run: () => Promise<unknown>): Promise<Sample> {
  const before = process.cpuUsage();
  const started = performance.now();
  await run();
  const wall = performance.now() - started;
  const { user, system } = process.cpuUsage(before);
  return { cpu: (user + system) / 1000, wall };
}

export const median = (x: readonly number[]): number => [...x].sort((a, b) => a - b)[Math.floor((x.length - 1) / 2)];

/** Rounded to three significant digits: more would be noise. */
export const round = (x: number): number => Number(x.toPrecision(3));
