type Usage = { user: number; system: number };

/**
 * Milliseconds of work so far: CPU time of all threads on a software adapter, where the runtime tells it (what else
 * runs on the machine does not count), else wall time.
 */
export function workClock(software: boolean): { readonly cpu: boolean; now(): number } {
  const usage = (globalThis as { process?: { cpuUsage?: () => Usage } }).process?.cpuUsage;
  if (!software || !usage) return { cpu: false, now: () => performance.now() };
  return {
    cpu: true,
    now: () => {
      const { user, system } = usage();
      return (user + system) / 1000;
    },
  };
}
