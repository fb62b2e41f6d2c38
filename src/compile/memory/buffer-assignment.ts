import type { Graph } from "../../graph/collect.ts";
import { byteSize } from "../../graph/dtype.ts";
import type { BufferRef } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import type { Kernel } from "../codegen/kernel.ts";
import { aliasOf, isContiguous, viewOf } from "../expression/operand.ts";
import { bytesOf, elementBytes, wholeBuffer } from "../expression/window.ts";
import type { Expanded } from "../lower/expand.ts";
import type { Schedule } from "../schedule/schedule.ts";
import { type Lifetime, planMemory } from "./lifetimes.ts";
import type { Finish, Location, Upload } from "./location.ts";

const SMALL = 4096; // bytes. Host inputs up to this size share one upload buffer; kept results up to it are copied

/** A value of the plan that needs memory, from its first use to its last (in kernels, counted from 1). */
interface Value {
  /** Identity of the value: a node, an output of a node, or scratch. */
  readonly key: object;
  readonly bytes: number;
  readonly from: number;
  to: number;
  locate(at: Location): void;
}

/** Assigns a location to everything that kernels bind: leaves, temporaries (by lifetime), packed arenas, outputs. */
export class BufferAssignment {
  /** Nodes that must end in buffers, one per root. */
  readonly wanted: Node[] = [];
  readonly finishes: Finish[] = [];
  readonly uploads: (Upload | undefined)[] = [];
  uploadBytes = 0;
  /** Bytes of each temporary. */
  temps: readonly number[] = [];
  /** Bytes that the plan allocates, and the least that any assignment needs; see `PlanReport`. */
  peakBytes = 0;
  lowerBound = 0;
  /** The kernel, counted from 1, at which most memory is in use. */
  fullest = 0;
  private readonly arenas = new Map<string, number>();
  private readonly leafOf: ReadonlyMap<Node, number>;
  private readonly located = new Map<object, Location>();
  private readonly outputs = new Map<Node, Map<number, Location>>();
  /** Keys of the outputs of nodes with several outputs. */
  private readonly outputKeys = new Map<Node, object[]>();

  constructor(
    private readonly graph: Graph,
    private readonly expanded: Expanded,
  ) {
    this.leafOf = new Map(graph.leaves.map((n, i) => [n, i]));
    this.wanted = graph.roots.map((r) => this.sourceOf(r.node).base);
  }

  /** Location of a bound buffer. */
  of(bound: BufferRef): Location {
    const { ref, offset } = wholeBuffer(bound);
    if (ref !== bound) {
      const at = this.of(ref);
      return { ...at, offset: at.offset + offset, bytes: bytesOf(bound as Node) };
    }
    if ("temp" in ref) return this.located.get(ref)!;
    if ("output" in ref) return this.outputAt(ref.node, ref.output);
    return this.nodeAt(ref);
  }

  /** Assigns locations once kernels and their order are known. */
  assign(plan: Schedule, kernels: readonly Kernel[]): void {
    this.placeArenas(plan);
    const end = kernels.length + 1;
    const { values, lastUseOfLeaf } = this.lifetimesOf(kernels, end);
    const kept = this.keptInPlace();
    const temps = values.filter((v) => !kept.has(v.key));
    const lifetimes = temps.map(({ bytes, from, to }): Lifetime => ({ bytes, from, to }));
    this.planUploads(lifetimes, lastUseOfLeaf, end);
    const { slots, sizes, lowerBound, fullest } = planMemory(lifetimes);
    this.fullest = fullest;
    this.temps = sizes;
    this.uploads.forEach((upload, i) => {
      if (upload && "slot" in upload) this.uploads[i] = { slot: slots[upload.slot] };
    });
    temps.forEach((v, i) => v.locate({ in: "temp", slot: slots[i], offset: 0, bytes: v.bytes }));
    for (const v of values) {
      const root = kept.get(v.key);
      if (root !== undefined) v.locate({ in: "output", root, offset: 0, bytes: v.bytes });
    }
    this.countBytes(lowerBound);
    this.graph.roots.forEach((_, i) => this.finish(i));
  }

  /** The buffer of a node. Parts of a buffer that can be copied are read from there; other views get a buffer of their own. */
  private sourceOf(n: Node): { base: Node; offset: number } {
    const node = this.expanded.standIn.get(n) ?? n;
    const view = viewOf(node);
    return view && isPart(view) ? { base: view.buffer, offset: view.offset } : { base: node, offset: 0 };
  }

  private nodeAt(node: Node): Location {
    const leaf = this.leafOf.get(node);
    if (leaf !== undefined) return { in: "leaf", leaf, offset: 0, bytes: bytesOf(node) };
    if (node.op.kind === "pick") return this.outputAt(node.src[0], node.attrs.output as number);
    const known = this.located.get(node);
    if (known) return known;
    const target = overwritten(node, 0);
    if (!target) throw new Error(`internal: ${node.op.name} node ${node.id} has no location`);
    return this.nodeAt(target);
  }

  private outputAt(node: Node, output: number): Location {
    const target = overwritten(node, output);
    return target ? this.nodeAt(target) : this.outputs.get(node)!.get(output)!;
  }

  private setOutput(node: Node, output: number, at: Location): void {
    if (!this.outputs.has(node)) this.outputs.set(node, new Map());
    this.outputs.get(node)!.set(output, at);
  }

  /** The key of a value that still needs memory; undefined for leaves and for values with a location. */
  private keyOf(ref: BufferRef): object | undefined {
    if ("temp" in ref) return ref;
    if ("op" in ref && this.leafOf.has(ref)) return undefined; // a picked leaf has no source any more
    const [node, output] =
      "output" in ref
        ? [ref.node, ref.output]
        : ref.op.kind === "pick"
          ? [ref.src[0], ref.attrs.output as number]
          : [ref, undefined];
    if (this.leafOf.has(node) || this.located.has(node) || this.outputs.get(node)?.has(output ?? 0)) return undefined;
    const target = overwritten(node, output ?? 0);
    if (target) return this.keyOf(target);
    if (output === undefined) return node;
    const keys = this.outputKeys.get(node) ?? node.outputs!.map(() => ({}));
    this.outputKeys.set(node, keys);
    return keys[output];
  }

  private newValue(ref: BufferRef, key: object, step: number): Value {
    const spec = "temp" in ref ? undefined : "output" in ref ? ref.node.outputs![ref.output] : ref;
    return {
      key,
      bytes: spec ? bytesOf(spec) : (ref as { bytes: number }).bytes,
      from: step,
      to: step,
      locate: (at) => {
        if ("temp" in ref || !("output" in ref || ref.op.kind === "pick")) this.located.set(ref, at);
        else if ("output" in ref) this.setOutput(ref.node, ref.output, at);
        else this.setOutput(ref.src[0], ref.attrs.output as number, at);
      },
    };
  }

  /** All values that need memory. Roots live to the end of the plan. */
  private lifetimesOf(
    kernels: readonly Kernel[],
    end: number,
  ): { values: Value[]; lastUseOfLeaf: ReadonlyMap<number, number> } {
    const byKey = new Map<object, Value>();
    const lastUseOfLeaf = new Map<number, number>();
    const use = (bound: BufferRef, step: number): void => {
      const { ref } = wholeBuffer(bound);
      const leaf = "op" in ref ? this.leafOf.get(ref) : undefined;
      if (leaf !== undefined) lastUseOfLeaf.set(leaf, step);
      const key = this.keyOf(ref);
      if (!key) return;
      const known = byKey.get(key);
      if (known) known.to = Math.max(known.to, step);
      else byKey.set(key, this.newValue(ref, key, step));
    };
    kernels.forEach((k, i) => {
      for (const b of k.bind) if ("ref" in b) use(b.ref, i + 1);
    });
    for (const n of this.wanted) use(n, end);
    return { values: [...byKey.values()], lastUseOfLeaf };
  }

  /**
   * Kept roots that alone own their buffer are written in place: key of the value → root. Small ones are copied, since that
   * costs the host less than a bind group per run.
   */
  private keptInPlace(): Map<object, number> {
    const kept = new Map<object, number>();
    this.graph.roots.forEach((r, i) => {
      const { base, offset } = this.sourceOf(r.node);
      const alone = offset === 0 && !base.realized && numel(base.shape) === numel(r.node.shape);
      const key = r.mode === "keep" && bytesOf(r.node) > SMALL && alone ? this.keyOf(base) : undefined;
      if (key && !kept.has(key)) kept.set(key, i);
    });
    return kept;
  }

  /** Large host inputs live in temporaries from the start of the plan to their last use; adds these to `lifetimes`. */
  private planUploads(lifetimes: Lifetime[], lastUseOfLeaf: ReadonlyMap<number, number>, end: number): void {
    this.graph.leaves.forEach((leaf, i) => {
      if (!this.graph.fed[i]) return;
      const bytes = bytesOf(leaf);
      if (bytes <= SMALL) {
        this.uploads[i] = { at: this.uploadBytes };
        this.uploadBytes += Math.ceil(bytes / 256) * 256;
      } else {
        this.uploads[i] = { slot: lifetimes.length };
        lifetimes.push({ bytes, from: 0, to: this.wanted.includes(leaf) ? end : (lastUseOfLeaf.get(i) ?? 0) });
      }
    });
  }

  private countBytes(lowerBound: number): void {
    const sum = (list: Iterable<number>): number => [...list].reduce((a, b) => a + b, 0);
    const kept = this.graph.roots.map((r) => (r.mode === "keep" ? bytesOf(r.node) : 0));
    const fixed = sum(this.arenas.values()) + sum(kept);
    this.peakBytes = fixed + sum(this.temps);
    this.lowerBound = fixed + lowerBound;
  }

  /** What happens to root `i` after the last dispatch. */
  private finish(i: number): void {
    const r = this.graph.roots[i];
    const { base, offset } = this.sourceOf(r.node);
    const whole = this.nodeAt(base);
    const from = { ...whole, offset: whole.offset + offset * elementBytes(base.dtype), bytes: bytesOf(r.node) };
    if (r.mode === "read") this.finishes.push({ mode: "read", root: i, from });
    else if (r.mode === "keep") {
      if (!(whole.in === "output" && whole.root === i)) this.finishes.push({ mode: "keep", root: i, from });
    } else if (!this.isStorageOf(from, r.target!))
      this.finishes.push({ mode: "assign", root: i, leaf: this.leafOf.get(r.target!)!, from });
  }

  /** Whether a location is the buffer of `target` already: the value was computed in place. */
  private isStorageOf(at: Location, target: Node): boolean {
    if (at.in !== "leaf") return false;
    const leaf = this.graph.leaves[at.leaf];
    if (leaf === target) return at.offset === 0;
    const [a, b] = [leaf.storage, target.storage];
    return a !== undefined && b !== undefined && a.buffer === b.buffer && a.offset + at.offset === b.offset;
  }

  /** Packed values: leaves that are packed already are used in place, other sources are written into an arena. */
  private placeArenas(plan: Schedule): void {
    for (const { root } of plan.groups) {
      const layout = root.op.arena?.(root.attrs);
      if (!layout) continue;
      const { offsets, total } = layout;
      const bases = root.src.map((s) => aliasOf(s)!);
      if (isPacked(bases, offsets)) {
        const leaf = this.leafOf.get(bases[0])!;
        this.located.set(root, { in: "leaf", leaf, offset: -offsets[0] * 4, bytes: total * 4 });
        continue;
      }
      let name = `${offsets.join()}:${total}`;
      while (this.arenas.has(name)) name += "'"; // parameters and gradients, or groups of equal sizes, in one plan
      const size = Math.max(16, total * 4);
      this.arenas.set(name, size);
      this.located.set(root, { in: "arena", layout: name, size, offset: 0, bytes: total * 4 });
      bases.forEach((b, i) => {
        const bytes = byteSize("f32", numel(b.shape));
        const at: Location = { in: "arena", layout: name, size, offset: offsets[i] * 4, bytes };
        if (b.op.kind === "pick") this.setOutput(b.src[0], b.attrs.output as number, at);
        else this.located.set(b, at);
      });
    }
  }
}

/** The node whose buffer output `output` of a node overwrites, if any. */
function overwritten(node: Node, output: number): Node | undefined {
  const source = node.op.inPlace?.[output] ?? -1;
  return source < 0 ? undefined : (aliasOf(node.src[source]) ?? node.src[source]);
}

/** Whether leaves already lie in one buffer, at these offsets. */
function isPacked(bases: readonly Node[], offsets: readonly number[]): boolean {
  const first = bases[0].storage;
  return (
    first?.shared === true &&
    bases.every(
      ({ storage }, i) =>
        storage?.buffer === first.buffer && storage.offset - first.offset === (offsets[i] - offsets[0]) * 4,
    )
  );
}

/** A contiguous part of its buffer, on a 16-byte boundary so that it can be copied. */
function isPart(view: { offset: number; shape: readonly number[]; strides: readonly number[] }): boolean {
  return view.offset % 4 === 0 && isContiguous({ ...view, offset: 0 } as never);
}
