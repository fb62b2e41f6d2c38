import { cpus } from "node:os";
import { attentionSteps, best, matmulDims, matmulSteps, type Step } from "../kernels/ladder/index.ts";
import { gpuDevice, specializeKernel } from "../src/bench/index.ts";
import { f32Bits } from "../src/custom/index.ts";
import { median, round, timed } from "./clock.ts";
import type { Ours } from "./ours.ts";
import { type Input, normal } from "./workloads/workload.ts";

/** One rung: its time, and its speed-up over the first rung and over the rung before. */
export interface Rung {
  readonly name: string;
  readonly change: string;
  readonly why: string;
  readonly ms: number;
  readonly gflops: number;
  readonly overFirst: number;
  readonly overLast: number;
}

export interface LadderFile {
  adapter: string;
  date: string;
  /** CPU time of all threads (software adapters) or wall time. */
  clock: "CPU" | "wall";
  ladders: Record<string, { title: string; rungs: Rung[] }>;
}

const ROUNDS = 7;
const CORES = cpus().length;

/** Times the steps of both ladders, interleaved with the library's kernels. */
export async function benchLadder(ours: Ours, only: (name: string) => boolean): Promise<LadderFile["ladders"]> {
  const [N, H, T, D] = [512, 8, 512, 64];
  const [a, b] = [normal(1, [N, N]), normal(2, [N, N])];
  const [q, k, v] = [3, 4, 5].map((seed) => normal(seed, [1, H, T, D]));
  const ladders: LadderFile["ladders"] = {};
  if (only("matmul")) {
    const own = ours.bench((x, y) => x.matmul(y), a, b).run;
    const runs = await prepared(ours, matmulSteps, [a, b], N * N, matmulDims(N, N, N), ([rows, columns]) => [
      N / columns,
      N / rows,
    ]);
    ladders.matmul = {
      title: `C = A · B, ${N}³`,
      rungs: await climb(matmulSteps, best.matmul, [...runs, own], 2 * N ** 3, ours),
    };
  }
  if (only("attention")) {
    const own = ours.bench((x, y, z) => ours.sg.scaledDotProductAttention(x, y, z, { isCausal: true }), q, k, v).run;
    const dims = [T, T, D / 4, 1, f32Bits(1 / Math.sqrt(D))];
    const runs = await prepared(ours, attentionSteps, [q, k, v], H * T * D, dims, ([rows]) => [T / rows, H]);
    ladders.attention = {
      title: `causal attention, ${H} heads, ${T} tokens, head size ${D}`,
      rungs: await climb(attentionSteps, best.attention, [...runs, own], (4 * H * D * T * (T + 1)) / 2, ours),
    };
  }
  return ladders;
}

type Run = (() => Promise<void>) | undefined;

/** One function per step, which dispatches it once and waits. Undefined if the adapter lacks subgroups that the step needs. */
async function prepared(
  { device: { subgroupSize: SG } }: Ours,
  steps: readonly Step[],
  inputs: readonly Input[],
  count: number,
  dims: readonly number[],
  grid: (tile: readonly [number, number]) => [number, number],
): Promise<Run[]> {
  const gpu = await gpuDevice();
  const buffer = (data: Float32Array | Uint32Array | number, usage = GPUBufferUsage.STORAGE): GPUBuffer => {
    const size = typeof data === "number" ? data : data.byteLength;
    const created = gpu.createBuffer({ size, usage: usage | GPUBufferUsage.COPY_DST });
    if (typeof data !== "number") gpu.queue.writeBuffer(created, 0, data as Float32Array<ArrayBuffer>);
    return created;
  };
  const uniform = buffer(
    new Uint32Array(8).map((_, i) => dims[i] ?? 0),
    GPUBufferUsage.UNIFORM,
  );
  const buffers = [uniform, ...inputs.map((x) => buffer(x.data as Float32Array)), buffer(4 * count)];
  return Promise.all(
    steps.map(async (step): Promise<Run> => {
      if (step.subgroups && SG === 0) return undefined;
      const code = specializeKernel(step.code, step.subgroups ? { SG } : {});
      const module = gpu.createShaderModule({ code, label: step.name });
      const pipeline = await gpu.createComputePipelineAsync({ layout: "auto", compute: { module } });
      const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
      const group = gpu.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
      const [x, y] = grid(step.tile(SG)).map(Math.ceil);
      return async () => {
        const encoder = gpu.createCommandEncoder();
        const pass = encoder.beginComputePass();
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(x, y);
        pass.end();
        gpu.queue.submit([encoder.finish()]);
        await gpu.queue.onSubmittedWorkDone();
      };
    }),
  );
}

/** Times all steps interleaved, prints and returns the rungs. */
async function climb(
  steps: readonly Step[],
  last: Pick<Step, "name" | "change" | "why">,
  runs: readonly Run[],
  flops: number,
  { device }: Ours,
): Promise<Rung[]> {
  const entries = [...steps, last].flatMap((step, i) =>
    runs[i] ? [{ step, run: runs[i], samples: [] as number[] }] : [],
  );
  const software = device.kind === "software";
  for (const { run } of entries) await run(); // compiles
  for (let i = 0; i < ROUNDS; i++) {
    for (const { run, samples } of entries) {
      const { cpu, wall } = await timed(run);
      samples.push(software ? cpu : wall);
    }
  }
  const times = entries.map((e) => median(e.samples));
  const rungs = entries.map(({ step: { name, change, why } }, i): Rung => {
    const rate = round((flops / times[i] / 1e6) * (software ? CORES : 1));
    const ratio = (to: number): number => round(times[to] / times[i]);
    return {
      name,
      change,
      why,
      ms: round(times[i]),
      gflops: rate,
      overFirst: ratio(0),
      overLast: ratio(Math.max(0, i - 1)),
    };
  });
  for (const r of rungs) {
    const cells = [r.ms, r.gflops, r.overFirst, r.overLast].map((x) => String(x).padStart(11));
    console.log(r.name.padEnd(30) + cells.join(""));
  }
  return rungs;
}
