import type { Graph } from "../graph/collect.ts";
import { byteSize, fromHalf, type HostArray, toHalf } from "../graph/dtype.ts";
import type { Node } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";
import type { Device } from "./device.ts";
import type { Pipeline } from "./pipeline.ts";
import type { Storage } from "./pool.ts";

/** Where a value lies while a plan runs. Offsets and sizes in bytes. */
export type Location = {
  readonly offset: number;
  readonly bytes: number;
} & (
  | { readonly in: "leaf"; readonly leaf: number }
  | { readonly in: "temp"; readonly slot: number }
  | { readonly in: "output"; readonly root: number }
  | { readonly in: "fixed"; readonly buffer: GPUBuffer }
  /** Packed values: one buffer a layout, for all plans. */
  | { readonly in: "arena"; readonly layout: string; readonly size: number }
);

/** One dispatch with everything bound. */
export interface Step {
  readonly label: string;
  readonly pipeline: Pipeline;
  readonly bind: readonly Location[];
  readonly grid: readonly [number, number, number];
  readonly flops?: number;
  readonly bytes: number;
}

/** What to do with a root after the last dispatch. */
export type Finish =
  | { readonly mode: "read"; readonly root: number; readonly from: Location }
  | { readonly mode: "keep"; readonly root: number; readonly from?: Location }
  | { readonly mode: "assign"; readonly root: number; readonly leaf: number; readonly from?: Location };

export interface PlanParts {
  readonly steps: readonly Step[];
  readonly finishes: readonly Finish[];
  /** Bytes of each temporary buffer. */
  readonly temps: readonly number[];
  /** For leaves that come from the host: a temp slot (large) or an offset in the upload buffer (small). */
  readonly uploads: readonly ({ readonly slot: number } | { readonly at: number } | undefined)[];
  readonly uploadBytes: number;
  /** All uniforms of the plan. */
  readonly uniforms: GPUBuffer;
  /** Bytes that the plan needs while it runs, beside its leaves. */
  readonly peakBytes: number;
  readonly text: string;
}

/** Puts timestamps around the passes of a plan. */
interface Timer {
  pass(index: number): GPUComputePassDescriptor;
  resolve(encoder: GPUCommandEncoder): void;
}

/** A value that is copied to the staging buffer. */
interface Read {
  readonly node: Node;
  readonly at: number;
  readonly bytes: number;
}

/** Work that the GPU has: buffers of the roots that are kept, and what is read back. */
interface Submission {
  readonly outputs: ReadonlyMap<number, Storage>;
  readonly staging?: GPUBuffer;
  readonly reads: readonly Read[];
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

  /** Frees what is the plan's alone; called when it leaves the cache. */
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
   * Runs the plan on a graph with its key; encodes and submits before it returns. Host values of `read` roots arrive
   * later, in `node.reading`. If the GPU refuses the work, no node has changed.
   */
  async run(graph: Graph, timer?: Timer): Promise<void> {
    let staging: GPUBuffer | undefined;
    try {
      const { outputs, reads, mapped } = await this.device.guard(() => {
        const submitted = this.submit(graph, timer);
        staging = submitted.staging;
        const mapped = staging && this.device.wait(() => staging!.mapAsync(1 /* GPUMapMode.READ */));
        mapped?.catch(() => undefined); // reported by the guard, or to whoever awaits the values
        return { ...submitted, mapped };
      });
      for (const [i, storage] of outputs) {
        graph.roots[i].node.storage = storage;
        graph.roots[i].node.forgetSources();
      }
      if (mapped) this.readBack(staging!, mapped, reads);
    } catch (error) {
      if (staging) this.device.pool.destroy(staging);
      throw error;
    }
  }

  private submit(graph: Graph, timer?: Timer): Submission {
    const { gpu, pool } = this.device;
    this.runs++;
    const leaves = this.placeLeaves(graph);
    const outputs = new Map<number, Storage>();
    graph.roots.forEach((r, i) => {
      if (r.mode === "keep") outputs.set(i, pool.own(byteSize(r.node.dtype, numel(r.node.shape))));
    });
    this.rebind(leaves, outputs);

    const encoder = gpu.createCommandEncoder();
    if (timer) {
      this.parts.steps.forEach((_, i) => {
        const pass = encoder.beginComputePass(timer.pass(i));
        this.encode(pass, i, i + 1);
        pass.end();
      });
      timer.resolve(encoder);
    } else if (this.parts.steps.length) {
      const pass = encoder.beginComputePass();
      this.encode(pass, 0, this.parts.steps.length);
      pass.end();
    }
    const resolve = (at: Location): Storage => this.resolve(at, leaves, outputs);
    const reads: Read[] = [];
    let readBytes = 0;
    for (const f of this.parts.finishes) {
      if (f.mode === "read") {
        const { node } = graph.roots[f.root];
        const bytes = byteSize(node.dtype, numel(node.shape));
        reads.push({ node, at: readBytes, bytes });
        readBytes += bytes;
      }
    }
    const staging = readBytes ? pool.stagingFor(readBytes) : undefined;
    for (const f of this.parts.finishes) {
      if (!f.from) continue;
      const from = resolve(f.from);
      if (f.mode === "read") {
        const r = reads.find((x) => x.node === graph.roots[f.root].node)!;
        encoder.copyBufferToBuffer(from.buffer, from.offset, staging!, r.at, Math.min(r.bytes, from.bytes));
      } else {
        const to = f.mode === "keep" ? outputs.get(f.root)! : leaves[f.leaf];
        encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, Math.min(from.bytes, to.bytes));
      }
    }
    gpu.queue.submit([encoder.finish()]);
    return { outputs, staging, reads };
  }

  private encode(pass: GPUComputePassEncoder, from: number, to: number): void {
    const { groups } = this;
    const { steps } = this.parts;
    let current: Pipeline | undefined;
    for (let i = from; i < to; i++) {
      const { pipeline, grid } = steps[i];
      if (pipeline !== current) pass.setPipeline((current = pipeline).pipeline);
      pass.setBindGroup(0, groups[i]!);
      // Every argument costs: in Node it is converted one by one.
      if (grid[2] > 1) pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
      else if (grid[1] > 1) pass.dispatchWorkgroups(grid[0], grid[1]);
      else pass.dispatchWorkgroups(grid[0]);
    }
  }

  /** Storage of every leaf; host values are written to the upload buffer (one write) or to their temp. */
  private placeLeaves(graph: Graph): Storage[] {
    let small = false;
    const { queue } = this.device.gpu;
    const storages = graph.leaves.map((leaf, i): Storage => {
      if (leaf.storage) return leaf.storage;
      const upload = this.parts.uploads[i]!;
      const words = toWords(leaf);
      const bytes = byteSize(leaf.dtype, numel(leaf.shape));
      if ("at" in upload) {
        this.uploadWords.set(words, upload.at / 4);
        small = true;
        return { buffer: this.upload!, offset: upload.at, bytes };
      }
      queue.writeBuffer(this.temps[upload.slot], 0, words as Uint32Array<ArrayBuffer>);
      return { buffer: this.temps[upload.slot], offset: 0, bytes };
    });
    if (small) queue.writeBuffer(this.upload!, 0, this.uploadWords);
    return storages;
  }

  private resolve(at: Location, leaves: readonly Storage[], outputs: ReadonlyMap<number, Storage>): Storage {
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

  /** Makes bind groups for the first run, and again only where a leaf or an output moved. */
  private rebind(leaves: readonly Storage[], outputs: ReadonlyMap<number, Storage>): void {
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

  private readBack(staging: GPUBuffer, mapped: Promise<unknown>, reads: readonly Read[]): void {
    const arrived = mapped.then(
      () => {
        const bytes = staging.getMappedRange();
        for (const { node, at } of reads) {
          node.host = fromBytes(node, bytes, at);
          node.forgetSources();
        }
        staging.unmap();
        this.device.pool.returnStaging(staging);
      },
      (error: Error) => {
        this.device.check();
        throw error;
      },
    );
    for (const { node } of reads) {
      node.reading = arrived.finally(() => (node.reading = undefined));
      node.reading.catch(() => {}); // reported to whoever awaits it
    }
  }
}

/** The words of a host value as the GPU stores them. */
export function toWords(node: Node): Uint32Array {
  const host = node.host!;
  if (node.dtype === "f16") {
    const words = new Uint32Array(Math.ceil(host.length / 2));
    for (let i = 0; i < host.length; i++) words[i >> 1] |= toHalf(host[i]) << (16 * (i & 1));
    return words;
  }
  if (host instanceof Float64Array) {
    const typed =
      node.dtype === "f32"
        ? Float32Array.from(host)
        : node.dtype === "i32"
          ? Int32Array.from(host)
          : Uint32Array.from(host);
    return new Uint32Array(typed.buffer);
  }
  return new Uint32Array(host.buffer, host.byteOffset, host.length);
}

function fromBytes(node: Node, mapped: ArrayBuffer, at: number): HostArray {
  const count = numel(node.shape);
  if (node.dtype === "f16") return Float32Array.from(new Uint16Array(mapped, at, count), fromHalf);
  if (node.dtype === "f32") return new Float32Array(mapped, at, count).slice();
  return node.dtype === "i32" ? new Int32Array(mapped, at, count).slice() : new Uint32Array(mapped, at, count).slice();
}
