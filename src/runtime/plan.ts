import { kindsOf } from "../compile/codegen/kernel.ts";
import { type CompiledGraph, listing } from "../compile/compile.ts";
import type { Location } from "../compile/memory/location.ts";
import type { Graph } from "../graph/collect.ts";
import { byteSize } from "../graph/dtype.ts";
import type { Node, Region, Storage } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";
import type { Device } from "./device.ts";
import { fromBytes, toWords } from "./host-values.ts";
import type { Pipeline } from "./pipeline.ts";

/** One dispatch and its bindings. */
export interface Step {
  readonly label: string;
  readonly pipeline: Pipeline;
  readonly bind: readonly Location[];
  readonly grid: readonly [number, number, number];
  readonly flops?: number;
  readonly bytes: number;
}

interface PlanParts extends Pick<CompiledGraph, "finishes" | "temps" | "uploads" | "uploadBytes" | "peakBytes"> {
  readonly steps: readonly Step[];
  /** All uniforms of the plan. */
  readonly uniforms: GPUBuffer;
  readonly text: string;
}

/** Makes the plan of a compiled graph on a device. Its pipelines compile in parallel. */
export async function makePlan(compiled: CompiledGraph, device: Device): Promise<Plan> {
  const { kernels, leaves } = compiled;
  const pipelines = await Promise.all(kernels.map((k) => device.pipelines.get({ ...k, kinds: kindsOf(k) })));
  const { words, spans } = layOutUniforms(kernels);
  return device.guard(() => {
    const uniforms = device.pool.permanent(Math.max(words.length * 4, 256), 0x40 | 0x08 /* UNIFORM | COPY_DST */);
    device.gpu.queue.writeBuffer(uniforms, 0, new Uint32Array(words));
    const steps = kernels.map(
      (k, i): Step => ({
        label: k.label,
        pipeline: pipelines[i],
        grid: k.grid,
        flops: k.flops,
        bytes: k.at.reduce((sum, at) => sum + (at?.bytes ?? 0), 0),
        bind: k.at.map((at, j): Location => at ?? { in: "fixed", buffer: uniforms, ...spans[i][j]! }),
      }),
    );
    // Not all of `compiled`: it refers to the graph, whose nodes would keep the memory of dropped models alive.
    const { finishes, temps, uploads, uploadBytes, peakBytes } = compiled;
    return new Plan(
      device,
      { finishes, temps, uploads, uploadBytes, peakBytes, steps, uniforms, text: listing(kernels) },
      leaves,
    );
  });
}

type Span = { readonly offset: number; readonly bytes: number };

/** The words of all uniforms, and the bytes of each. Bindings start on 256-byte boundaries. */
function layOutUniforms(kernels: CompiledGraph["kernels"]): { words: number[]; spans: (Span | undefined)[][] } {
  const words: number[] = [];
  const add = (own: readonly number[]): Span => {
    const offset = words.length * 4;
    for (const x of own) words.push(x >>> 0);
    while (words.length % 64 || words.length * 4 === offset) words.push(0);
    return { offset, bytes: Math.max(16, Math.ceil(own.length / 4) * 16) };
  };
  return { spans: kernels.map((k) => k.bind.map((b) => ("words" in b ? add(b.words) : undefined))), words };
}

/** Times the kernels of a plan: descriptor of the pass of each kernel, and commands after the last pass. */
export interface PassTimer {
  pass(index: number): GPUComputePassDescriptor;
  resolve(encoder: GPUCommandEncoder): void;
}

interface ReadValue {
  readonly node: Node;
  readonly at: number;
  readonly bytes: number;
}

/** Values on their way to the host, in one staging buffer. */
interface Reads {
  readonly staging: GPUBuffer;
  readonly bytes: number;
  readonly values: readonly ReadValue[];
}

/** Compiled work: replaying it writes the host inputs, encodes one pass and submits once. */
export class Plan {
  runs = 0;
  private readonly temps: GPUBuffer[];
  private readonly upload?: GPUBuffer;
  private readonly uploadWords: Uint32Array<ArrayBuffer>;
  private readonly groups: (GPUBindGroup | undefined)[];
  private readonly usersOfLeaf: number[][];
  private readonly usersOfRoot = new Map<number, number[]>();
  private bound: (GPUBuffer | undefined)[] = [];
  private boundOffsets: number[] = [];
  private boundRoots: (GPUBuffer | undefined)[] = [];

  constructor(
    private readonly device: Device,
    private readonly parts: PlanParts,
    leaves: number,
  ) {
    this.temps = device.pool.scratchFor(parts.temps);
    if (parts.uploadBytes) this.upload = device.pool.permanent(parts.uploadBytes);
    this.uploadWords = new Uint32Array(parts.uploadBytes / 4);
    this.groups = new Array(parts.steps.length);
    this.usersOfLeaf = Array.from({ length: leaves }, () => []);
    parts.steps.forEach((step, i) => {
      for (const at of step.bind) {
        if (at.in === "leaf") this.usersOfLeaf[at.leaf].push(i);
        if (at.in === "output") this.usersOfRoot.set(at.root, [...(this.usersOfRoot.get(at.root) ?? []), i]);
      }
    });
  }

  /** Frees the buffers that only this plan uses. Called when it leaves the cache. */
  dispose(): void {
    this.device.pool.destroy(this.parts.uniforms);
    if (this.upload) this.device.pool.destroy(this.upload);
  }

  get steps(): readonly Step[] {
    return this.parts.steps;
  }

  get text(): string {
    return this.parts.text;
  }

  get peakBytes(): number {
    return this.parts.peakBytes;
  }

  /**
   * Runs the plan on a graph with its key; encodes and submits before it returns. Host values of `read` roots arrive later,
   * in `node.reading`. If the GPU refuses the work, no node has changed.
   */
  async run(graph: Graph, timer?: PassTimer): Promise<void> {
    let staging: GPUBuffer | undefined;
    try {
      const { outputs, reads, mapped } = await this.device.guard(() => {
        const submitted = this.submit(graph, timer);
        const { reads } = submitted;
        staging = reads?.staging;
        const mapped = reads && this.device.wait(() => reads.staging.mapAsync(1 /* READ */, 0, reads.bytes));
        mapped?.catch(() => undefined); // reported by the guard, or to whoever awaits the values
        return { ...submitted, mapped };
      });
      for (const [i, storage] of outputs) {
        graph.roots[i].node.storage = storage;
        graph.roots[i].node.forgetSources();
      }
      if (reads) this.readBack(reads, mapped!);
    } catch (error) {
      if (staging) this.device.pool.destroy(staging);
      throw error;
    }
  }

  private submit(graph: Graph, timer?: PassTimer): { outputs: ReadonlyMap<number, Storage>; reads?: Reads } {
    const { gpu, pool } = this.device;
    this.runs++;
    const leaves = this.bindLeaves(graph);
    const outputs = new Map<number, Storage>();
    graph.roots.forEach((r, i) => {
      if (r.mode === "keep") outputs.set(i, pool.own(byteSize(r.node.dtype, numel(r.node.shape))));
    });
    this.rebind(leaves, outputs);
    const encoder = gpu.createCommandEncoder();
    this.encodePasses(encoder, timer);
    const reads = this.encodeFinishes(encoder, graph, leaves, outputs);
    gpu.queue.submit([encoder.finish()]);
    return { outputs, reads };
  }

  /** One pass for all kernels; with a timer one per kernel. */
  private encodePasses(encoder: GPUCommandEncoder, timer?: PassTimer): void {
    const count = this.parts.steps.length;
    const each = timer ? 1 : count;
    for (let i = 0; i < count; i += each) {
      const pass = encoder.beginComputePass(timer?.pass(i));
      this.encode(pass, i, i + each);
      pass.end();
    }
    timer?.resolve(encoder);
  }

  /** Copies results to their final buffers. Values that the host reads go to one staging buffer. */
  private encodeFinishes(
    encoder: GPUCommandEncoder,
    graph: Graph,
    leaves: readonly Region[],
    outputs: ReadonlyMap<number, Storage>,
  ): Reads | undefined {
    const reads: ReadValue[] = [];
    let bytes = 0;
    for (const f of this.parts.finishes) {
      if (f.mode !== "read") continue;
      const { node } = graph.roots[f.root];
      const size = byteSize(node.dtype, numel(node.shape));
      reads.push({ node, at: bytes, bytes: size });
      bytes += size;
    }
    const staging = bytes ? this.device.pool.stagingFor(bytes) : undefined;
    let next = 0;
    for (const f of this.parts.finishes) {
      if (!f.from) continue;
      const from = this.resolve(f.from, leaves, outputs);
      if (f.mode === "read") {
        const r = reads[next++];
        encoder.copyBufferToBuffer(from.buffer, from.offset, staging!, r.at, Math.min(r.bytes, from.bytes));
      } else {
        const to = f.mode === "keep" ? outputs.get(f.root)! : leaves[f.leaf];
        encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, Math.min(from.bytes, to.bytes));
      }
    }
    return staging && { staging, bytes, values: reads };
  }

  private encode(pass: GPUComputePassEncoder, from: number, to: number): void {
    const { groups } = this;
    const { steps } = this.parts;
    let current: Pipeline | undefined;
    for (let i = from; i < to; i++) {
      const { pipeline, grid } = steps[i];
      if (pipeline !== current) pass.setPipeline((current = pipeline).pipeline);
      pass.setBindGroup(0, groups[i]!);
      // Passes as few arguments as possible: Node's binding converts each one.
      if (grid[2] > 1) pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
      else if (grid[1] > 1) pass.dispatchWorkgroups(grid[0], grid[1]);
      else pass.dispatchWorkgroups(grid[0]);
    }
  }

  /** Storage of every leaf; host values are written to the upload buffer (one write) or to their temp. */
  private bindLeaves(graph: Graph): Region[] {
    let small = false;
    const { queue } = this.device.gpu;
    const storages = graph.leaves.map((leaf, i): Region => {
      if (leaf.storage) return leaf.storage;
      const upload = this.parts.uploads[i]!;
      const words = toWords(leaf);
      const bytes = byteSize(leaf.dtype, numel(leaf.shape));
      if ("at" in upload) {
        this.uploadWords.set(words, upload.at / 4);
        small = true;
        return { buffer: this.upload!, offset: upload.at, bytes };
      }
      queue.writeBuffer(this.temps[upload.slot], 0, words);
      return { buffer: this.temps[upload.slot], offset: 0, bytes };
    });
    if (small) queue.writeBuffer(this.upload!, 0, this.uploadWords);
    return storages;
  }

  private resolve(at: Location, leaves: readonly Region[], outputs: ReadonlyMap<number, Storage>): Region {
    const { offset, bytes } = at;
    switch (at.in) {
      case "temp":
        return { buffer: this.temps[at.slot], offset, bytes };
      case "fixed":
        return { buffer: at.buffer, offset, bytes };
      case "arena":
        return { buffer: this.device.pool.arena(at.layout, at.size), offset, bytes };
      case "output":
        return { ...outputs.get(at.root)!, offset, bytes };
      case "leaf":
        return { buffer: leaves[at.leaf].buffer, offset: leaves[at.leaf].offset + offset, bytes };
    }
  }

  /** Makes bind groups for the first run. Later runs make only those whose leaf or output has another buffer now. */
  private rebind(leaves: readonly Region[], outputs: ReadonlyMap<number, Storage>): void {
    const stale = new Set<number>();
    if (this.runs === 1) this.parts.steps.forEach((_, i) => stale.add(i));
    leaves.forEach((storage, i) => {
      if (this.bound[i] !== storage.buffer || this.boundOffsets[i] !== storage.offset)
        for (const step of this.usersOfLeaf[i]) stale.add(step);
      this.bound[i] = storage.buffer;
      this.boundOffsets[i] = storage.offset;
    });
    for (const [root, { buffer }] of outputs) {
      if (this.boundRoots[root] !== buffer) for (const step of this.usersOfRoot.get(root) ?? []) stale.add(step);
      this.boundRoots[root] = buffer;
    }
    for (const i of stale) {
      const { pipeline, bind } = this.parts.steps[i];
      this.groups[i] = this.device.gpu.createBindGroup({
        layout: pipeline.layout,
        entries: bind.map((at, binding) => {
          const { buffer, offset, bytes } = this.resolve(at, leaves, outputs);
          return { binding, resource: { buffer, offset, size: bytes } };
        }),
      });
    }
  }

  private readBack({ staging, bytes, values }: Reads, mapped: Promise<unknown>): void {
    const arrived = mapped.then(
      () => {
        const range = staging.getMappedRange(0, bytes);
        const arrays = values.map(({ node, at }) => fromBytes(node, range, at));
        values.forEach(({ node }, i) => {
          if (node.stale === undefined) node.host = arrays[i]; // a later flush may have overwritten the value meanwhile
          node.forgetSources();
        });
        staging.unmap();
        this.device.pool.returnStaging(staging);
        return arrays;
      },
      (error: Error) => {
        this.device.check();
        throw error;
      },
    );
    this.device.arriving(arrived);
    values.forEach(({ node }, i) => {
      const done = (): void => void (node.reading = undefined);
      node.reading = arrived.finally(done).then((arrays) => arrays[i]);
      node.reading.catch(() => {}); // reported to whoever awaits it
    });
  }
}
