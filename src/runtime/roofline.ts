import type { Device } from "./device.ts";
import { patiently } from "./polling.ts";
import { workClock } from "./tuner/clock.ts";
import { recall, remember } from "./tuner/store.ts";
import { adapterOf } from "./tuner/tuner.ts";

/** Measured peak rates of an adapter. Reports give other figures as a share of these. */
export interface Roofline {
  /** GFLOP/s of f32 multiply-adds on registers. */
  gflops: number;
  /** GB/s of a kernel that copies a buffer, bytes read plus bytes written. */
  gbs: number;
}

// Only arithmetic: eight independent chains of multiply-adds per invocation, STEPS of each per iteration.
const STEPS = 8;
const PEAK = `
@group(0) @binding(0) var<uniform> dims: vec4u;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = f32(id.x) * 1e-9;
  ${[0, 1, 2, 3, 4, 5, 6, 7].map((i) => `var a${i} = x + ${i}.0;`).join("\n  ")}
  for (var t = 0u; t < dims.x; t++) {
    ${Array.from({ length: STEPS }, () => [0, 1, 2, 3, 4, 5, 6, 7].map((i) => `a${i} = fma(a${i}, 0.999, x);`).join(" ")).join("\n    ")}
  }
  out[id.x] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7;
}`;

const COPY = `
@group(0) @binding(0) var<uniform> dims: vec4u;
@group(0) @binding(1) var<storage, read> source: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> sink: array<vec4f>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let at = id.x * 4u + dims.y;
  let a = source[at]; let b = source[at + 1u]; let c = source[at + 2u]; let d = source[at + 3u];
  sink[at] = a; sink[at + 1u] = b; sink[at + 2u] = c; sink[at + 3u] = d;
}`;

/** The roofline of a device's adapter in wall time. Measured once, then stored for later runs. */
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

/**
 * Measures the roofline of a device. With `cores`, the number of cores of a software adapter, it uses CPU time per core: other
 * processes do not count. Otherwise wall time.
 */
export async function measureRoofline(device: GPUDevice, cores?: number): Promise<Roofline> {
  const uniform = device.createBuffer({ size: 16, usage: 0x40 | 0x08 }); // UNIFORM | COPY_DST
  const [gflops, gbs] = [await peakArithmetic(device, uniform, cores), await peakCopy(device, uniform, cores)];
  uniform.destroy();
  return { gflops, gbs };
}

async function peakArithmetic(device: GPUDevice, uniform: GPUBuffer, cores?: number): Promise<number> {
  const groups = 2048;
  const out = device.createBuffer({ size: groups * 64 * 4, usage: 0x80 /* STORAGE */ });
  const launch = await launcher(device, PEAK, [uniform, out], groups, cores);
  let iterations = 16;
  let seconds = 0;
  // Enough iterations that one launch takes at least 50 ms.
  for (; seconds < 0.05; iterations *= 4) {
    device.queue.writeBuffer(uniform, 0, Uint32Array.of(iterations, 0, 0, 0));
    seconds = await launch();
  }
  iterations /= 4;
  const gflops = (2 * groups * 64 * 8 * STEPS * iterations) / (await best(launch)) / 1e9;
  out.destroy();
  return gflops;
}

async function peakCopy(device: GPUDevice, uniform: GPUBuffer, cores?: number): Promise<number> {
  const bytes = 64 << 20;
  const [from, to] = [0, 1].map(() => device.createBuffer({ size: bytes, usage: 0x80 /* STORAGE */ }));
  const gbs =
    (2 * bytes) / (await best(await launcher(device, COPY, [uniform, from, to], bytes / 64 / 64, cores))) / 1e9;
  for (const b of [from, to]) b.destroy();
  return gbs;
}

/** Compiles a shader. The function that it returns runs it once, and resolves to the seconds that it took. */
async function launcher(
  device: GPUDevice,
  code: string,
  buffers: readonly GPUBuffer[],
  groups: number,
  cores?: number,
): Promise<() => Promise<number>> {
  const clock = workClock(cores !== undefined);
  const ask = (): Promise<unknown> => device.queue.onSubmittedWorkDone();
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  return async () => {
    const started = clock.now();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(groups);
    pass.end();
    device.queue.submit([encoder.finish()]);
    await (cores === undefined ? ask() : patiently(ask));
    return (clock.now() - started) / (clock.cpu ? cores! : 1) / 1000;
  };
}

/** The shortest of five launches after a first one, in which drivers compile. */
async function best(launch: () => Promise<number>): Promise<number> {
  await launch();
  let least = Infinity;
  for (let i = 0; i < 5; i++) least = Math.min(least, await launch());
  return least;
}
