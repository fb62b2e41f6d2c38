import type { Device } from "./device.ts";
import { patiently } from "./polling.ts";
import { workClock } from "./tuner/clock.ts";
import { recall, remember } from "./tuner/store.ts";
import { adapterOf } from "./tuner/tuner.ts";

/** What the adapter can do at best, measured: the yardstick of every other figure. */
export interface Roofline {
  /** f32 multiply-adds on registers, GFLOP/s. */
  gflops: number;
  /** Copy of a buffer by a kernel, read + written GB/s. */
  gbs: number;
}

// Eight independent chains per invocation, four lanes wide, several steps per turn: nothing but arithmetic.
const STEPS = 8;
const PEAK = `
@group(0) @binding(0) var<uniform> turns: vec4u;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = f32(id.x) * 1e-9;
  ${[0, 1, 2, 3, 4, 5, 6, 7].map((i) => `var a${i} = x + ${i}.0;`).join("\n  ")}
  for (var t = 0u; t < turns.x; t++) {
    ${Array.from({ length: STEPS }, () => [0, 1, 2, 3, 4, 5, 6, 7].map((i) => `a${i} = fma(a${i}, 0.999, x);`).join(" ")).join("\n    ")}
  }
  out[id.x] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7;
}`;

const COPY = `
@group(0) @binding(0) var<uniform> turns: vec4u;
@group(0) @binding(1) var<storage, read> source: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> sink: array<vec4f>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let at = id.x * 4u + turns.y;
  let a = source[at]; let b = source[at + 1u]; let c = source[at + 2u]; let d = source[at + 3u];
  sink[at] = a; sink[at + 1u] = b; sink[at + 2u] = c; sink[at + 3u] = d;
}`;

/** The adapter's roofline in wall time: measured once, then remembered. */
export async function rooflineOf({ gpu, info }: Device): Promise<Roofline> {
  const known = rooflines.get(gpu);
  if (known) return known;
  const adapter = adapterOf(info);
  let roofline = (await recall(adapter))?.roofline;
  if (!roofline) {
    roofline = await measureRoofline(gpu);
    await remember({ adapter, roofline, entries: {} });
  }
  rooflines.set(gpu, roofline);
  return roofline;
}

const rooflines = new WeakMap<GPUDevice, Roofline>();

/** On a software adapter (`cores` of them do the work) CPU time counts, else wall time. */
export async function measureRoofline(device: GPUDevice, cores?: number): Promise<Roofline> {
  const clock = workClock(cores !== undefined);
  const time = async (run: () => Promise<void>): Promise<number> => {
    const started = clock.now();
    await run();
    return (clock.now() - started) / (clock.cpu ? cores! : 1) / 1000;
  };
  const ask = (): Promise<unknown> => device.queue.onSubmittedWorkDone();
  const buffer = (size: number, usage: number): GPUBuffer => device.createBuffer({ size, usage });
  const uniform = buffer(16, 0x40 | 0x08); // UNIFORM | COPY_DST
  const launch = async (code: string, buffers: GPUBuffer[], groups: number) => {
    const module = device.createShaderModule({ code });
    const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    const entries = [uniform, ...buffers].map((b, binding) => ({ binding, resource: { buffer: b } }));
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    return async () => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(groups);
      pass.end();
      device.queue.submit([encoder.finish()]);
      await (cores === undefined ? ask() : patiently(ask));
    };
  };
  const best = async (run: () => Promise<void>) => {
    await run();
    let least = Infinity;
    for (let i = 0; i < 5; i++) least = Math.min(least, await time(run));
    return least;
  };

  const groups = 2048;
  const out = buffer(groups * 64 * 4, 0x80 /* STORAGE */);
  const arithmetic = await launch(PEAK, [out], groups);
  // Enough turns that one launch takes at least 50 ms.
  let turns = 16;
  let seconds = 0;
  for (; seconds < 0.05; turns *= 4) {
    device.queue.writeBuffer(uniform, 0, Uint32Array.of(turns, 0, 0, 0));
    seconds = await time(arithmetic);
  }
  turns /= 4;
  const gflops = (2 * groups * 64 * 8 * STEPS * turns) / (await best(arithmetic)) / 1e9;

  const bytes = 64 << 20;
  const [from, to] = [0, 1].map(() => buffer(bytes, 0x80 /* STORAGE */));
  const gbs = (2 * bytes) / (await best(await launch(COPY, [from, to], bytes / 64 / 64))) / 1e9;
  for (const b of [uniform, out, from, to]) b.destroy();
  return { gflops, gbs };
}
