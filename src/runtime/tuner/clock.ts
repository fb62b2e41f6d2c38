type Usage = { user: number; system: number };

/**
 * A clock in milliseconds for measurements. On a software adapter: CPU time of all threads of the process, if the runtime reports
 * it, so that other processes do not count. Otherwise wall time.
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
