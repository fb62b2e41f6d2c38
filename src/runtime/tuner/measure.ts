import { type Kernel, kindsOf } from "../../compile/codegen/kernel.ts";
import type { CompiledGraph } from "../../compile/compile.ts";
import { lowerContext } from "../../compile/lower/context.ts";
import { log } from "../../graph/debug.ts";
import { byteSize } from "../../graph/dtype.ts";
import type { BufferRef, Candidate, KernelCall } from "../../graph/kernel-call.ts";
import { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { loweringOf } from "../../lowering/index.ts";
import type { Device } from "../device.ts";
import type { Pipeline } from "../pipeline.ts";
import { workClock } from "./clock.ts";
import { hashOf, keep, type Question, type TuneResult, tuningKey } from "./tuner.ts";

const SAMPLE_MS = 8; // kernels repeat until a sample takes this long, because clocks and timestamps are coarse
const ROUNDS = 7;
const SLOW_MS = 100; // kernels that take this long are timed in three rounds
const HOPELESS = 1.6; // a candidate slower than the best by this factor leaves after the second round
const GAIN = 0.97; // a candidate wins only below this share of the heuristic's time: the rest is noise

interface Contestant {
  readonly candidate: Candidate;
  readonly calls: readonly KernelCall[];
  readonly dispatches: readonly {
    readonly pipeline: Pipeline;
    readonly group: GPUBindGroup;
    readonly grid: Kernel["grid"];
  }[];
  readonly samples: number[];
}

/** The methods of a compiled graph that measuring its kernels needs. */
type Asker = Pick<CompiledGraph, "kernelOf" | "keepsPrologues">;

/**
 * Compiles a graph. If the tuner asks, measures the variants of its kernels that were never measured, and compiles the graph
 * again with the answers.
 */
export async function withMeasurements(device: Device, compile: () => CompiledGraph): Promise<CompiledGraph> {
  const compiled = compile();
  if (device.tuner.asking) compiled.ask();
  if (device.tuner.open.size === 0) return compiled;
  await answer(device, compiled);
  return compile();
}

/** Measures every open question of the tuner, and the questions that these raise. Stores the answers. */
async function answer(device: Device, asker: Asker): Promise<void> {
  const { tuner } = device;
  const results: TuneResult[] = [];
  for (let question = tuner.next(); question; question = tuner.next()) {
    const result = await measure(question, device, asker);
    tuner.settle(result);
    results.push(result);
  }
  await keep(device.info, results);
}

/** Times the candidates of `question`, interleaved, so that a busy machine slows all of them equally. */
async function measure(question: Question, device: Device, asker: Asker): Promise<TuneResult> {
  await device.idle();
  const buffers = new Buffers(device, question.node);
  try {
    const contestants: Contestant[] = [];
    for (const candidate of question.candidates) {
      const calls = lowerWith(question, candidate, device);
      if (!calls || (contestants.length > 0 && !asker.keepsPrologues(question.node, calls))) continue;
      const kernels = calls.map((call) => asker.kernelOf(question.node, call));
      const dispatches = await prepare(kernels, device, buffers);
      if (dispatches) contestants.push({ candidate, calls, dispatches, samples: [] });
    }
    if (contestants[0]?.candidate !== question.candidates[0])
      throw new Error(`tuning ${question.key}: the heuristic's choice does not run on this adapter`);
    return resultOf(question, contestants, await race(contestants, device));
  } finally {
    buffers.destroy();
  }
}

function lowerWith(
  { node, key, candidates, fused }: Question,
  candidate: Candidate,
  device: Device,
): KernelCall[] | undefined {
  const cx = lowerContext(node, device, fused, "ask");
  // Other choices of the same lowering use their current answers.
  return loweringOf(node.op.name)!(node, {
    ...cx,
    choose: (template, signature, offered) =>
      tuningKey(node, template, signature, fused) === key
        ? offered[candidates.indexOf(candidate)]
        : cx.choose(template, signature, offered),
  });
}

/**
 * The winner. First all candidates run interleaved. Then the fastest runs against the heuristic's choice again, because the
 * minimum of many noisy times is biased.
 */
async function race(contestants: readonly Contestant[], device: Device): Promise<Contestant> {
  const clock = clockOf(device);
  let best = Infinity;
  for (const c of contestants) {
    await clock(c, 1); // drivers compile at the first dispatch
    best = Math.min(best, await clock(c, 1));
  }
  const repeats = Math.max(1, Math.min(1000, Math.round(SAMPLE_MS / Math.max(best, 0.001))));
  const rounds = best > SLOW_MS ? 3 : ROUNDS;
  const [first] = contestants;
  let left = [...contestants];
  for (let round = 0; round < rounds; round++) {
    for (const c of left) c.samples.push((await clock(c, repeats)) / repeats);
    if (round !== 1) continue;
    const least = Math.min(...left.flatMap((c) => c.samples));
    left = left.filter((c) => c === first || Math.min(...c.samples) < HOPELESS * least);
  }
  const fastest = contestants.reduce((a, b) => (time(b) < time(a) ? b : a));
  if (time(fastest) >= GAIN * time(first)) return first;
  for (const c of [first, fastest]) c.samples.length = 0;
  for (let round = 0; round < 2 * rounds; round++)
    for (const c of [first, fastest]) c.samples.push((await clock(c, repeats)) / repeats);
  return time(fastest) < GAIN * time(first) ? fastest : first;
}

/** The lower quartile of the samples: other load only makes a sample longer. */
const time = ({ samples }: Contestant): number => [...samples].sort((a, b) => a - b)[(samples.length - 1) >> 2];

type Clock = (contestant: Contestant, repeats: number) => Promise<number>;

/** Milliseconds: CPU time on a software adapter, else timestamps, else wall time. */
function clockOf(device: Device): Clock {
  const { gpu, info } = device;
  const work = workClock(info.kind === "software");
  return async ({ dispatches }, repeats) => {
    const stamps = !work.cpu && info.timestamps ? new Stamps(gpu) : undefined;
    const started = work.now();
    const checked = device.guard(() => {
      const encoder = gpu.createCommandEncoder();
      const pass = encoder.beginComputePass(stamps?.pass);
      for (let i = 0; i < repeats; i++) {
        for (const { pipeline, group, grid } of dispatches) {
          pass.setPipeline(pipeline.pipeline);
          pass.setBindGroup(0, group);
          pass.dispatchWorkgroups(...grid);
        }
      }
      pass.end();
      stamps?.resolve(encoder);
      gpu.queue.submit([encoder.finish()]);
    });
    await Promise.all([checked, device.idle()]);
    return stamps ? stamps.read() : work.now() - started;
  };
}

/** Timestamps at the begin and end of one pass. */
class Stamps {
  readonly pass: GPUComputePassDescriptor;
  private readonly querySet: GPUQuerySet;
  private readonly resolved: GPUBuffer;
  private readonly staging: GPUBuffer;

  constructor(gpu: GPUDevice) {
    this.querySet = gpu.createQuerySet({ type: "timestamp", count: 2 });
    this.resolved = gpu.createBuffer({ size: 16, usage: 0x200 | 0x04 }); // QUERY_RESOLVE | COPY_SRC
    this.staging = gpu.createBuffer({ size: 16, usage: 0x01 | 0x08 }); // MAP_READ | COPY_DST
    this.pass = {
      timestampWrites: { querySet: this.querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    };
  }

  resolve(encoder: GPUCommandEncoder): void {
    encoder.resolveQuerySet(this.querySet, 0, 2, this.resolved, 0);
    encoder.copyBufferToBuffer(this.resolved, 0, this.staging, 0, 16);
  }

  /** Milliseconds between the two timestamps. */
  async read(): Promise<number> {
    await this.staging.mapAsync(1);
    const [from, to] = new BigUint64Array(this.staging.getMappedRange());
    for (const x of [this.staging, this.resolved, this.querySet]) x.destroy();
    return Number(to - from) / 1e6;
  }
}

async function prepare(
  kernels: readonly Kernel[],
  device: Device,
  buffers: Buffers,
): Promise<Contestant["dispatches"] | undefined> {
  try {
    const pipelines = await Promise.all(kernels.map((k) => device.pipelines.get({ ...k, kinds: kindsOf(k) })));
    return await device.guard(() =>
      kernels.map(({ bind, grid }, i) => {
        const bound = bind.map((b) => ("words" in b ? buffers.uniform(b.words) : buffers.of(b.ref)));
        const group = device.gpu.createBindGroup({
          layout: pipelines[i].layout,
          entries: bound.map((buffer, binding) => ({ binding, resource: { buffer } })),
        });
        return { pipeline: pipelines[i], group, grid };
      }),
    );
  } catch (error) {
    log(1, `tuning: a candidate was refused: ${(error as Error).message.split("\n")[0]}`);
    return undefined;
  }
}

/** Buffers of an op's operands, outputs and scratch. Floats are pseudo-random; integers keep their known values. */
class Buffers {
  private readonly created: GPUBuffer[] = [];
  private readonly byRef = new Map<unknown, GPUBuffer>();

  constructor(
    private readonly device: Device,
    private readonly node: Node,
  ) {}

  uniform(words: readonly number[]): GPUBuffer {
    const padded = new Uint32Array(Math.max(4, Math.ceil(words.length / 4) * 4));
    padded.set(words.map((w) => w >>> 0));
    const buffer = this.create(padded.byteLength, 0x40 | 0x08); // UNIFORM | COPY_DST
    this.device.gpu.queue.writeBuffer(buffer, 0, padded);
    return buffer;
  }

  of(ref: BufferRef): GPUBuffer {
    const key =
      "output" in ref && ref.node === this.node ? `output ${ref.output}` : ref === this.node ? "output 0" : ref;
    const known = this.byRef.get(key);
    if (known) return known;
    const spec = "temp" in ref ? undefined : "output" in ref ? ref.node.outputs![ref.output] : ref;
    const bytes = spec ? byteSize(spec.dtype, numel(spec.shape)) : (ref as { bytes: number }).bytes;
    const buffer = this.create(bytes, 0x80 | 0x08); // STORAGE | COPY_DST
    if (ref instanceof Node && ref !== this.node) this.fill(buffer, ref, bytes);
    this.byRef.set(key, buffer);
    return buffer;
  }

  private fill(buffer: GPUBuffer, node: Node, bytes: number): void {
    const { gpu } = this.device;
    if (node.dtype === "f32") gpu.queue.writeBuffer(buffer, 0, noise(bytes / 4));
    else if (node.storage) {
      const encoder = gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(
        node.storage.buffer,
        node.storage.offset,
        buffer,
        0,
        Math.min(bytes, node.storage.bytes),
      );
      gpu.queue.submit([encoder.finish()]);
    } else if (node.host && node.dtype !== "f16") gpu.queue.writeBuffer(buffer, 0, Int32Array.from(node.host));
  }

  private create(size: number, usage: number): GPUBuffer {
    const buffer = this.device.gpu.createBuffer({ size, usage });
    this.created.push(buffer);
    return buffer;
  }

  destroy(): void {
    for (const buffer of this.created) buffer.destroy();
  }
}

function noise(count: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) out[i] = (state = (Math.imul(state, 1664525) + 1013904223) | 0) / 2 ** 31;
  return out;
}

function resultOf({ key, candidates }: Question, contestants: readonly Contestant[], best: Contestant): TuneResult {
  const [first] = contestants;
  const kernels = [...new Set([...first.calls, ...best.calls].map((c) => c.kernel))].sort();
  const round = (ms: number): number => Number(ms.toPrecision(4));
  return {
    key,
    candidates: candidates.map((candidate) => {
      const ran = contestants.find((c) => c.candidate === candidate);
      return { candidate, ms: ran && round(time(ran)) };
    }),
    entry: { pick: best.candidate, kernels, hash: hashOf(kernels), ms: [round(time(best)), round(time(first))] },
  };
}
