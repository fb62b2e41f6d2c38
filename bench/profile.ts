import { kernelTimes } from "./harness.ts";
import type { Ours } from "./ours.ts";
import { allWorkloads } from "./workloads/index.ts";

/** Prints every kernel of one run: time of its first call (with compilation), time of a later call, rates. Then sums by kernel. */
export async function profile(ours: Ours, name: string): Promise<void> {
  const work = allWorkloads.find((w) => w.name === name);
  if (!work) throw new Error(`no workload ${name}; there are ${allWorkloads.map((w) => w.name).join(", ")}`);
  if (!ours.device.timestamps) throw new Error("profile: the adapter has no timestamp-query");
  const { run } = work.ours(ours, work.inputs());
  const first = await kernelTimes(run);
  await run();
  const later = await kernelTimes(run);
  const sums = new Map<string, { count: number; ms: number; first: number }>();
  const columns = (label: string, grid: string, ms: string[]) =>
    console.log(label.padEnd(56) + grid.padEnd(14) + ms.map((x) => x.padStart(12)).join(""));
  columns("kernel", "workgroups", ["first ms", "ms", "GFLOP/s", "GB/s"]);
  // The first run may begin with another plan, which packs the parameters: compare the last kernels.
  first.slice(-later.length).forEach((cold, i) => {
    const { label, grid, ms, flops, bytes } = later[i];
    const rate = (x?: number) => (x && ms ? (x / ms / 1e6).toFixed(1) : "");
    columns(label, grid.join("×"), [cold.ms.toFixed(0), ms.toFixed(2), rate(flops), rate(bytes)]);
    const sum = sums.get(label) ?? { count: 0, ms: 0, first: 0 };
    sums.set(label, { count: sum.count + 1, ms: sum.ms + ms, first: sum.first + cold.ms });
  });
  const total = later.reduce((sum, t) => sum + t.ms, 0);
  console.log(`\n${later.length} kernels, ${total.toFixed(1)} ms of GPU time`);
  for (const [label, { count, ms, first: cold }] of [...sums].sort(([, a], [, b]) => b.ms - a.ms)) {
    columns(label, `${count} calls`, [cold.toFixed(0), ms.toFixed(2), `${((100 * ms) / total).toFixed(1)} %`]);
  }
}
