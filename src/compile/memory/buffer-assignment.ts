import type { Graph } from "../../graph/collect.ts";
import { byteSize } from "../../graph/dtype.ts";
import type { BufferRef } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import type { Finish, Location } from "../../runtime/plan.ts";
import type { Kernel } from "../codegen/elementwise.ts";
import { aliasOf, isContiguous, viewOf } from "../expression/operand.ts";
import { bytesOf, whole } from "../expression/window.ts";
import type { Expanded } from "../lower/expand.ts";
import type { Group, Schedule } from "../schedule/schedule.ts";
import { type Lifetime, planMemory } from "./lifetimes.ts";

const SMALL = 4096; // bytes; host inputs up to this size share one upload buffer, kept results are copied

/** Where everything lies: leaves, temporaries (planned by lifetime), packed arenas and outputs. */
export class Places {
  readonly wanted: Node[] = [];
  readonly finishes: Finish[] = [];
  readonly uploads: ({ slot: number } | { at: number } | undefined)[] = [];
  uploadBytes = 0;
  temps: number[] = [];
  /** Bytes of the plan's own memory, and the least that any placement needs; see `PlanReport`. */
  peakBytes = 0;
  lowerBound = 0;
  /** The step, from 1, at which most is alive. */
  fullest = 0;
  private readonly arenas = new Map<string, number>();
  private readonly leafOf: Map<Node, number>;
  private readonly located = new Map<object, Location>();
  private readonly outputs = new Map<Node, Map<number, Location>>();

  constructor(
    private readonly graph: Graph,
    private readonly expanded: Expanded,
  ) {
    this.leafOf = new Map(graph.leaves.map((n, i) => [n, i]));
    for (const r of graph.roots) {
      const node = this.standIn(r.node);
      const view = viewOf(node);
      // Contiguous parts of another buffer are copied from there; anything else gets a buffer of its own.
      this.wanted.push(view && isPart(view) ? view.buffer : node);
    }
  }

  private standIn(n: Node): Node {
    return this.expanded.standIn.get(n) ?? n;
  }

  of(bound: BufferRef): Location {
    const { ref, offset } = whole(bound);
    if (ref !== bound) {
      const at = this.of(ref);
      return { ...at, offset: at.offset + offset, bytes: bytesOf(bound as Node) };
    }
    if ("temp" in ref) return this.located.get(ref)!;
    if ("output" in ref) return this.outputAt(ref.node, ref.output);
    return this.nodeAt(ref);
  }

  private nodeAt(node: Node): Location {
    const leaf = this.leafOf.get(node);
    if (leaf !== undefined) return { in: "leaf", leaf, offset: 0, bytes: bytesOf(node) };
    if (node.op.kind === "pick") return this.outputAt(node.src[0], node.attrs.output as number);
    const known = this.located.get(node);
    if (known) return known;
    const over = node.op.inPlace?.[0] ?? -1;
    if (over >= 0) return this.nodeAt(aliasOf(node.src[over]) ?? node.src[over]);
    throw new Error(`internal: ${node.op.name} node ${node.id} has no place`);
  }

  private outputAt(node: Node, output: number): Location {
    const over = node.op.inPlace?.[output] ?? -1;
    if (over >= 0) return this.nodeAt(aliasOf(node.src[over]) ?? node.src[over]);
    return this.outputs.get(node)!.get(output)!;
  }

  /** Places everything once kernels and their order are known. */
  locate(plan: Schedule, kernels: readonly (Kernel & { group: Group })[]): void {
    this.locatePacks(plan);
    const values: { key: object; set(at: Location): void; bytes: number; from: number; to: number }[] = [];
    const byKey = new Map<object, (typeof values)[number]>();
    const outputKeys = new Map<Node, object[]>();
    const keyOf = (ref: BufferRef): object | undefined => {
      if ("temp" in ref) return ref;
      if ("op" in ref && this.leafOf.has(ref)) return undefined; // a leaf that was picked has no source any more
      const [node, output] =
        "output" in ref
          ? [ref.node, ref.output]
          : ref.op.kind === "pick"
            ? [ref.src[0], ref.attrs.output as number]
            : [ref, undefined];
      if (this.leafOf.has(node) || this.located.has(node) || this.outputs.get(node)?.has(output ?? 0)) return undefined;
      if ((node.op.inPlace?.[output ?? 0] ?? -1) >= 0) {
        const source = node.src[node.op.inPlace![output ?? 0]];
        return keyOf(aliasOf(source) ?? source);
      }
      if (output === undefined) return node;
      const keys = outputKeys.get(node) ?? node.outputs!.map(() => ({}));
      outputKeys.set(node, keys);
      return keys[output];
    };
    const add = (bound: BufferRef, step: number): void => {
      const { ref } = whole(bound);
      const key = keyOf(ref);
      if (!key) return;
      const known = byKey.get(key);
      if (known) {
        known.to = Math.max(known.to, step);
        return;
      }
      const spec = "temp" in ref ? undefined : "output" in ref ? ref.node.outputs![ref.output] : ref;
      const value = {
        key,
        bytes: spec ? bytesOf(spec) : (ref as { bytes: number }).bytes,
        from: step,
        to: step,
        set: (at: Location) => {
          if ("temp" in ref || !("output" in ref || ref.op.kind === "pick")) this.located.set(ref, at);
          else {
            const [node, output] = "output" in ref ? [ref.node, ref.output] : [ref.src[0], ref.attrs.output as number];
            if (!this.outputs.has(node)) this.outputs.set(node, new Map());
            this.outputs.get(node)!.set(output, at);
          }
        },
      };
      byKey.set(key, value);
      values.push(value);
    };
    const leafUse = new Map<number, number>();
    kernels.forEach((k, i) => {
      for (const b of k.bind) {
        if (!("ref" in b)) continue;
        const { ref } = whole(b.ref);
        if ("op" in ref && this.leafOf.has(ref)) leafUse.set(this.leafOf.get(ref)!, i + 1);
        add(b.ref, i + 1);
      }
    });
    const end = kernels.length + 1;
    const roots = this.graph.roots.map((r) => this.rootSource(r.node));
    roots.forEach((r) => r.base && add(r.base, end));

    // A kept root that alone owns its buffer is written in place; a small one is copied, as that takes the host less than
    // a bind group for every run.
    const kept = new Map<object, number>();
    this.graph.roots.forEach((r, i) => {
      const { base, view } = roots[i];
      const key =
        r.mode === "keep" &&
        bytesOf(r.node) > SMALL &&
        !base.realized &&
        view.offset === 0 &&
        numel(base.shape) === numel(r.node.shape)
          ? keyOf(base)
          : undefined;
      if (key && !kept.has(key)) kept.set(key, i);
    });
    const temps = values.filter((v) => !kept.has(v.key));
    const lifetimes: Lifetime[] = temps.map(({ bytes, from, to }) => ({ bytes, from, to }));
    // Large host inputs live in temporaries from the start of the plan to their last use.
    this.graph.leaves.forEach((leaf, i) => {
      if (!this.graph.fed[i]) return;
      const bytes = bytesOf(leaf);
      if (bytes <= SMALL) {
        this.uploads[i] = { at: this.uploadBytes };
        this.uploadBytes += Math.ceil(bytes / 256) * 256;
      } else {
        const read = this.graph.roots.some((_, j) => roots[j].base === leaf);
        this.uploads[i] = { slot: lifetimes.length };
        lifetimes.push({ bytes, from: 0, to: read ? end : (leafUse.get(i) ?? 0) });
      }
    });
    const { slots, sizes, lowerBound, fullest } = planMemory(lifetimes);
    this.fullest = fullest;
    this.temps = sizes;
    const sum = (list: Iterable<number>): number => [...list].reduce((a, b) => a + b, 0);
    const fixed =
      sum(this.arenas.values()) + sum(this.graph.roots.map((r) => (r.mode === "keep" ? bytesOf(r.node) : 0)));
    this.peakBytes = fixed + sum(sizes);
    this.lowerBound = fixed + lowerBound;
    for (const upload of this.uploads as { slot: number }[])
      if (upload && "slot" in upload) upload.slot = slots[upload.slot];
    temps.forEach((v, i) => v.set({ in: "temp", slot: slots[i], offset: 0, bytes: v.bytes }));
    for (const v of values)
      if (kept.has(v.key)) v.set({ in: "output", root: kept.get(v.key)!, offset: 0, bytes: v.bytes });

    this.graph.roots.forEach((r, i) => {
      const { base, view } = roots[i];
      const whole = this.nodeAt(base);
      const size = base.dtype === "f16" ? 2 : 4;
      const from = {
        ...whole,
        offset: whole.offset + view.offset * size,
        bytes: bytesOf(r.node),
      };
      if (r.mode === "read") this.finishes.push({ mode: "read", root: i, from });
      else if (r.mode === "keep") {
        if (!(whole.in === "output" && whole.root === i)) this.finishes.push({ mode: "keep", root: i, from });
      } else if (!this.sameStorage(from, r.target!))
        this.finishes.push({ mode: "assign", root: i, leaf: this.leafOf.get(r.target!)!, from });
    });
  }

  private rootSource(n: Node): { base: Node; view: { offset: number } } {
    const node = this.standIn(n);
    const view = viewOf(node);
    return view && isPart(view) ? { base: view.buffer, view } : { base: node, view: { offset: 0 } };
  }

  /** Whether a location is already the buffer of `target`: the value was computed in place. */
  private sameStorage(at: Location, target: Node): boolean {
    if (at.in !== "leaf") return false;
    const leaf = this.graph.leaves[at.leaf];
    if (leaf === target) return at.offset === 0;
    const [a, b] = [leaf.storage, target.storage];
    return a !== undefined && b !== undefined && a.buffer === b.buffer && a.offset + at.offset === b.offset;
  }

  /** Packed values: leaves that lie packed already are used where they are; others are written into an arena. */
  private locatePacks(plan: Schedule): void {
    for (const { root } of plan.groups) {
      if (root.op.name !== "pack") continue;
      const { offsets, total } = root.attrs as unknown as { offsets: number[]; total: number };
      const bases = root.src.map((s) => aliasOf(s)!);
      const first = bases[0].storage;
      if (
        first?.shared &&
        bases.every(
          (b, i) =>
            b.storage?.buffer === first.buffer && b.storage.offset - first.offset === (offsets[i] - offsets[0]) * 4,
        )
      ) {
        this.located.set(root, {
          in: "leaf",
          leaf: this.leafOf.get(bases[0])!,
          offset: -offsets[0] * 4,
          bytes: total * 4,
        });
        continue;
      }
      let layout = `${offsets.join()}:${total}`;
      while (this.arenas.has(layout)) layout += "'"; // parameters and gradients, or groups of equal sizes, in one plan
      const size = Math.max(16, total * 4);
      this.arenas.set(layout, size);
      this.located.set(root, { in: "arena", layout, size, offset: 0, bytes: total * 4 });
      bases.forEach((b, i) => {
        const bytes = byteSize("f32", numel(b.shape));
        const at: Location = { in: "arena", layout, size, offset: offsets[i] * 4, bytes };
        if (b.op.kind !== "pick") this.located.set(b, at);
        else {
          if (!this.outputs.has(b.src[0])) this.outputs.set(b.src[0], new Map());
          this.outputs.get(b.src[0])!.set(b.attrs.output as number, at);
        }
      });
    }
  }
}

/** A contiguous stretch of its buffer, on a 16-byte boundary so that it can be copied. */
function isPart(view: { offset: number; shape: readonly number[]; strides: readonly number[] }): boolean {
  return view.offset % 4 === 0 && isContiguous({ ...view, offset: 0 } as never);
}
