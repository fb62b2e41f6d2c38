import type { Graph } from "../../graph/collect.ts";
import type { DType } from "../../graph/dtype.ts";
import type { BufferRef, KernelCall, LowerContext, Operand, Temp } from "../../graph/kernel-call.ts";
import { Node } from "../../graph/node.ts";
import { allOps, defineOp, type Op } from "../../graph/op.ts";
import type { Device } from "../../runtime/device.ts";
import type { Joined } from "../../runtime/tuner/tuner.ts";
import { noGrad } from "../../tensor/autograd.ts";
import { Tensor, untracked } from "../../tensor/tensor.ts";
import { aliasOf, operandOf } from "../expression/operand.ts";
import { bytesOf, windowOf } from "../expression/window.ts";
import { shard } from "./split.ts";

/** Same values in a buffer of their own. */
const copyOp = defineOp({ name: "copy", kind: "elementwise", wgsl: ([x]) => x, reference: ([x]) => x });

/** The graph with every kernel node either lowered to template calls or replaced by its fallback. */
export interface Expanded {
  readonly order: readonly Node[];
  /** What stands for a node of the user's graph. */
  readonly standIn: ReadonlyMap<Node, Node>;
  /** `layOut` replaces those of nodes for which it knows better. */
  readonly calls: Map<Node, readonly KernelCall[]>;
  /** What will probably join a kernel node's kernel from behind; see `Joined`. */
  readonly followers: ReadonlyMap<Node, string>;
  /** Sequence number: the id of the user's node that a node came from. */
  readonly sequence: ReadonlyMap<Node, number>;
}

/** Ops that run as their fallback: for tests, and to find which kernel is to blame. */
export const useFallback = new Set<string>();

export function makeTemp(bytes: number): Temp {
  return { temp: true, bytes: Math.max(16, Math.ceil(bytes / 16) * 16) };
}

export function expand(graph: Graph, device: Device): Expanded {
  const order: Node[] = [];
  const standIn = new Map<Node, Node>();
  const several = new Map<Node, readonly Node[]>();
  const calls = new Map<Node, readonly KernelCall[]>();
  const followers = new Map<Node, string>();
  const sequence = new Map<Node, number>();
  const targets = new Set(graph.roots.flatMap((r) => (r.target ? [r.target] : [])));
  const overwritten = new Set<Node>();
  const known = new Set(graph.leaves);

  const emit = (n: Node, seq: number): Node => {
    order.push(n);
    sequence.set(n, seq);
    return n;
  };
  const copyOf = (n: Node, seq: number): Node => emit(new Node(copyOp, [n], {}, n.shape, n.dtype), seq);

  const consumers = new Map<Node, number>();
  const consumer = new Map<Node, Node>();
  for (const n of graph.order)
    for (const s of n.src) {
      consumers.set(s, (consumers.get(s) ?? 0) + 1);
      consumer.set(s, n);
    }
  for (const r of graph.roots) consumers.set(r.node, 2);
  const sole = new Map<Node, Node>(); // matmuls whose only consumer is their transpose
  for (const n of graph.order)
    if (isTranspose(n) && n.src[0].op.name === "matmul" && !n.src[0].realized && consumers.get(n.src[0]) === 1)
      sole.set(n.src[0], n);

  /** Names of the elementwise ops that will probably join the kernel of `n`: each alone uses the one before. */
  const behind = (n: Node): string => {
    const names: string[] = [];
    for (let at = n; consumers.get(at) === 1; at = consumer.get(at)!) {
      const { op } = consumer.get(at)!;
      if (op.kind === "elementwise") names.push(op.name);
      else if (op.name !== "reshape") break;
    }
    return names.join("+");
  };

  const place = (n: Node, seq: number, user = n): void => {
    if (sole.has(n)) return;
    if (isTranspose(n) && sole.get(n.src[0]) === n) {
      // (A B)^T = B^T A^T, which needs no transposing copy; weight gradients come in this form.
      const [a, b] = n.src[0].src.map((s) => standIn.get(s) ?? s);
      const transposed = (s: Node): Node => emit(new Node(n.op, [s], n.attrs, swapLast(s.shape), s.dtype), seq);
      const product = new Node(n.src[0].op, [transposed(b), transposed(a)], n.src[0].attrs, n.shape, n.dtype);
      place(product, seq, user);
      standIn.set(n, standIn.get(product)!);
      return;
    }
    if (n.op.kind === "pick") {
      const outputs = several.get(n.src[0]);
      if (outputs) {
        standIn.set(n, outputs[n.attrs.output as number]);
        return;
      }
    }
    let src = n.src.map((s) => standIn.get(s) ?? s);
    const parts = large ? ordinary(() => shard(over(n, src), limit)) : undefined;
    if (parts) return settle(n, parts, seq);
    if (n.op.name === "pack") src = packSources(n.op, src, seq);
    else if (n.op.inPlace)
      src = src.map((s, i) => (n.op.inPlace!.includes(i) && !mayOverwrite(s) ? copyOf(s, seq) : s));
    const accumulates = n.op.kind === "kernel" || n.op.kind === "reduce";
    const narrow = (dtype: DType, i: number) => dtype === "f16" && !n.op.halves?.includes(i);
    if (accumulates && (n.dtype === "f16" || src.some((s, i) => narrow(s.dtype, i)))) {
      widened(n, src, seq, user);
      return;
    }
    const node = over(n, src);
    if (n.op.kind === "kernel" && n.op.name !== "pack") {
      followers.set(node, behind(user));
      const lowered = useFallback.has(n.op.name)
        ? undefined
        : n.op.lower?.(node, contextOf(node, device, { behind: followers.get(node) }));
      if (!lowered) {
        if (!n.op.fallback) throw new Error(`${n.op.name}: no kernel for these shapes and no fallback`);
        const x = node.src.map((s) => new Tensor(s));
        return settle(n, [ordinary(() => n.op.fallback!(x, n.attrs))].flat(), seq);
      }
      calls.set(node, lowered);
      for (const i of n.op.inPlace ?? []) if (i >= 0) overwritten.add(aliasOf(src[i]) ?? src[i]);
    }
    standIn.set(n, emit(node, seq));
  };

  /** Templates and reductions compute in f32: halves (but those that a kernel reads) are widened before and results rounded after. */
  const widened = (n: Node, src: Node[], seq: number, user: Node): void => {
    const cast = allOps().get("cast")!;
    const to = (s: Node, dtype: DType): Node =>
      s.dtype === dtype ? s : emit(new Node(cast, [s], { to: dtype }, s.shape, dtype), seq);
    const wide = (dtype: DType): DType => (dtype === "f16" ? "f32" : dtype);
    const outputs = n.outputs?.map((o) => ({ shape: o.shape, dtype: wide(o.dtype) }));
    const node = new Node(
      n.op,
      src.map((s, i) => (n.op.halves?.includes(i) ? s : to(s, wide(s.dtype)))),
      n.attrs,
      n.shape,
      wide(n.dtype),
      outputs,
    );
    place(node, seq, user);
    if (!n.outputs) standIn.set(n, to(standIn.get(node)!, n.dtype));
    else {
      const pick = allOps().get("pick")!;
      const parts =
        several.get(node) ??
        outputs!.map((o, output) => emit(new Node(pick, [standIn.get(node)!], { output }, o.shape, o.dtype), seq));
      several.set(
        n,
        parts.map((part, i) => to(part, n.outputs![i].dtype)),
      );
    }
  };

  /** Only a leaf that this flush assigns, or packed ones of which all are, may be written over. */
  const mayOverwrite = (s: Node): boolean => {
    const base = aliasOf(s);
    if (!base || overwritten.has(base)) return false;
    if (base.op.name === "pack") return base.src.every((p) => targets.has(aliasOf(p) ?? p));
    return base.realized && targets.has(base);
  };

  // A packed source is written straight to its place in the arena: that needs a node of its own.
  const packed = new Set<Node>();
  const packSources = (_: Op, src: Node[], seq: number): Node[] => {
    if (src.every((s) => aliasOf(s)?.storage?.shared)) return src;
    return src.map((s) => {
      const base = aliasOf(s);
      const own = base && !base.realized && !packed.has(base) && base.dtype === "f32";
      const source = own ? s : copyOf(s, seq);
      packed.add(own ? base : source);
      return source;
    });
  };

  const ordinary = <T>(build: () => T): T => untracked(() => noGrad(build));
  const limit = device.info.maxBindingBytes;
  const isLarge = (n: Node): boolean => (n.outputs ?? [n]).some((o) => bytesOf(o) > limit);
  let large = [...graph.leaves, ...graph.order].some(isLarge); // anything at all so far

  /** Puts ordinary ops in the place of a node. */
  const settle = (n: Node, results: readonly Tensor[], seq: number): void => {
    const outputs = results.map((t) => t.node);
    const fresh = below(outputs, (s) => s.realized || sequence.has(s) || standIn.has(s));
    for (const s of [...outputs, ...fresh.flatMap((inner) => inner.src)])
      if (s.realized && !known.has(s))
        throw new Error(
          `${n.op.name}: its fallback made a tensor from values of the host, which no plan can hold; make it a source of the op, or use full, arange or another op without sources`,
        );
    large ||= fresh.some(isLarge);
    for (const inner of fresh) place(inner, seq);
    const placed = outputs.map((o) => standIn.get(o) ?? o);
    if (n.outputs) several.set(n, placed);
    else standIn.set(n, placed[0]);
  };

  for (const n of graph.order) place(n, graph.times?.get(n) ?? n.id);
  return { order, standIn, calls, followers, sequence };
}

/** The node over other sources. */
const over = (n: Node, src: readonly Node[]): Node =>
  src.every((s, i) => s === n.src[i]) ? n : new Node(n.op, src, n.attrs, n.shape, n.dtype, n.outputs);

const swapLast = (shape: readonly number[]): number[] => [
  ...shape.slice(0, -2),
  shape[shape.length - 1],
  shape[shape.length - 2],
];

/** Swaps the last two dims and nothing else. */
function isTranspose(n: Node): boolean {
  if (n.op.name !== "permute" || n.realized) return false;
  const dims = n.attrs.dims as number[];
  const last = dims.length - 1;
  return dims[last] === last - 1 && dims[last - 1] === last && dims.slice(0, -2).every((d, i) => d === i);
}

/** Nodes that `roots` need down to where `known` says stop, sources first. */
function below(roots: readonly Node[], known: (n: Node) => boolean): Node[] {
  const out: Node[] = [];
  const done = new Set<Node>();
  const stack = roots.map((node) => ({ node, next: 0 })).reverse();
  while (stack.length) {
    const top = stack[stack.length - 1];
    if (top.next === 0 && (done.has(top.node) || known(top.node))) {
      stack.pop();
    } else if (top.next < top.node.src.length) {
      const s = top.node.src[top.next++];
      if (!done.has(s) && !known(s)) stack.push({ node: s, next: 0 });
    } else {
      stack.pop();
      if (!done.has(top.node)) out.push(top.node);
      done.add(top.node);
    }
  }
  return out;
}

/** A large buffer is bound only where the view of it lies. */
function windowed(view: Operand, limit: number): Operand {
  const { buffer, shape, strides, offset } = view;
  if (bytesOf(buffer) <= limit) return view;
  const ends = strides.map((s, d) => s * (shape[d] - 1));
  const sum = (list: number[]): number => list.reduce((a, b) => a + b, offset);
  const { node, start } = windowOf(
    buffer,
    buffer.dtype,
    sum(ends.filter((e) => e < 0)),
    sum(ends.filter((e) => e > 0)),
  );
  return { ...view, buffer: node, offset: offset - start };
}

/** What the lowering of `node` may ask; with "ask" the tuner notes what it has no answer for. */
export function contextOf(node: Node, device: Device, joined?: Joined, how: "choose" | "ask" = "choose"): LowerContext {
  return {
    device: device.info,
    operand: (i) => windowed(operandOf(node, i, device.info.maxBindingBytes), device.info.maxBindingBytes),
    output: (i = 0): BufferRef => (node.outputs ? { node, output: i } : node),
    temp: makeTemp,
    window: (ref, dtype, first, last) => windowOf(ref, dtype, first, last).node,
    choose: (template, signature, candidates) => device.tuner[how](node, template, signature, candidates, joined ?? {}),
  };
}
