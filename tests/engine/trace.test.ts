import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { init, type KernelTime, onKernelTimes, rand, type Trace, type TraceEvent, trace } from "../../src/index.ts";
import { Linear, SGD } from "../../src/nn/index.ts";
import { line } from "../../src/runtime/profile.ts";

async function steps(count: number): Promise<void> {
  const layer = new Linear(16, 8);
  const optimizer = new SGD(layer.parameters(), { lr: 0.1 });
  for (let i = 0; i < count; i++) {
    optimizer.zeroGrad();
    layer.forward(rand(4, 16)).square().mean().backward();
    await optimizer.step();
  }
}

const eventsOf = ({ traceEvents }: Trace, tid: number): TraceEvent[] =>
  traceEvents.filter((e) => e.ph === "X" && e.tid === tid).sort((a, b) => a.ts - b.ts || b.dur! - a.dur!);

/** Every two events of a track are apart, or one lies in the other. */
function expectNested(events: readonly TraceEvent[]): void {
  const open: TraceEvent[] = [];
  for (const e of events) {
    while (open.length && open[open.length - 1].ts + open[open.length - 1].dur! <= e.ts + 1e-6) open.pop();
    const parent = open[open.length - 1];
    if (parent)
      expect(e.ts + e.dur!, `${e.name} in ${parent.name}`).toBeLessThanOrEqual(parent.ts + parent.dur! + 1e-6);
    open.push(e);
  }
}

function expectWhole(made: Trace, flushes: number): void {
  expect(JSON.parse(JSON.stringify(made))).toEqual(made);
  const [host, gpu] = [eventsOf(made, 1), eventsOf(made, 2)];
  const names = (name: string) => host.filter((e) => e.name === name).length;
  expect(names("flush")).toBeGreaterThanOrEqual(flushes);
  expect(names("graph")).toBe(names("flush"));
  for (const phase of ["hash", "compile", "encode", "wait"]) expect(names(phase), phase).toBeGreaterThan(0);
  expect(names("compile")).toBeLessThan(names("encode")); // plans are replayed
  expect(gpu.length).toBeGreaterThan(names("encode"));
  for (const e of [...host, ...gpu]) expect(e.dur).toBeGreaterThanOrEqual(0);
  expectNested(host);
  expectNested(gpu);
  const inside = (e: TraceEvent) => host.some((h) => h.name === "flush" && h.ts <= e.ts && e.ts <= h.ts + h.dur!);
  expect(gpu.filter((e) => !inside(e))).toEqual([]);
}

test("a trace has the host's phases and the kernels, and they nest", async () => {
  await init({ backend: "webgpu", tune: false });
  const made = await trace(() => steps(4));
  expectWhole(made, 4);
  const kernel = eventsOf(made, 2).find((e) => e.name.startsWith("matmul"))!;
  expect(kernel.args).toMatchObject({ flops: 2 * 4 * 16 * 8 });
  expect((await trace(() => {})).traceEvents.every((e) => e.ph === "M")).toBe(true);
});

test("without timestamps a submit is one event", async () => {
  await init({ backend: "webgpu", tune: false, disable: ["timestamp-query"] });
  const made = await trace(() => steps(2));
  const gpu = eventsOf(made, 2);
  expect(gpu.length).toBeGreaterThanOrEqual(2);
  expect(gpu[0].name).toMatch(/^\d+ kernels$/);
  expectNested(gpu);
});

test("a plan of more kernels than a query set holds is timed whole", async () => {
  await init({ backend: "webgpu", tune: false, fuse: false });
  let times: readonly KernelTime[] = [];
  onKernelTimes((t) => (times = t.length > times.length ? t : times));
  let x = rand(4);
  for (let i = 0; i < 2100; i++) x = x.add(1);
  await x.data();
  onKernelTimes(undefined);
  expect(times.length).toBeGreaterThan(2100);
  expect(times.every((t, i) => t.ms >= 0 && t.start >= (times[i - 1]?.start ?? 0))).toBe(true);
});

test("a report line has rates and the share of the roofline", () => {
  const time = { label: "matmul", grid: [1, 1, 1] as const, flops: 2e9, bytes: 1e8, start: 0, ms: 100 };
  expect(line(time, { gflops: 80, gbs: 5 })).toMatch(
    /matmul +100000 µs +20\.0 GFLOP\/s +1\.00 GB\/s +25 % of roofline/,
  );
  expect(line({ ...time, flops: undefined }, { gflops: 80, gbs: 5 })).toMatch(/µs +1\.00 GB\/s +20 % of roofline/);
  expect(line({ ...time, ms: 0 }, { gflops: 80, gbs: 5 })).not.toMatch(/Infinity|NaN|%/);
});

test("SHADEGRAD_TRACE writes a whole process, SHADEGRAD_DEBUG=2 a line a kernel", async () => {
  const folder = join(root, ".build/trace");
  mkdirSync(folder, { recursive: true });
  const [file, program] = [join(folder, "trace.json"), join(folder, "program.ts")];
  writeFileSync(
    program,
    `import { rand } from "shadegrad";
for (let i = 0; i < 3; i++) await rand(64, 64).matmul(rand(64, 64)).sum().item();
process.exit(0);`,
  );
  const env = { ...childEnvironment(), SHADEGRAD_TRACE: file, SHADEGRAD_DEBUG: "2", SHADEGRAD_CACHE: folder };
  const script = `${await bundle(program)}`;
  const printed = execFileSync("sh", ["-c", `"${process.execPath}" "${script}" 2>&1`], { encoding: "utf8", env });
  expect(printed).toMatch(/matmul\S* +\d+ µs/);
  expectWhole(JSON.parse(readFileSync(file, "utf8")), 3);
});
