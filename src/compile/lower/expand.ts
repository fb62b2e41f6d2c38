import type { Graph } from "../../graph/collect.ts";
import { composed } from "../../graph/compose.ts";
import type { DType } from "../../graph/dtype.ts";
import { variable } from "../../graph/index-map.ts";
import type { CompileTarget, KernelCall } from "../../graph/kernel-call.ts";
import { Node } from "../../graph/node.ts";
import type { Op } from "../../graph/op.ts";
import { show } from "../../graph/shape.ts";
import { castFacts, copyOp, pickOp } from "../../graph/structural.ts";
import { loweringOf } from "../../lowering/index.ts";
import { aliasOf, computes, passes } from "../expression/operand.ts";
import { bytesOf } from "../expression/window.ts";
import { lowerContext } from "./context.ts";
import { splitNode } from "./split.ts";

/** The graph after lowering: every kernel node has template calls, or is replaced by its fallback. */
export interface Expanded {
  readonly order: readonly Node[];
  /** For each node of the user's graph, the node that computes it. */
  readonly standIn: ReadonlyMap<Node, Node>;
  /** Template calls of kernel nodes. The choice of variants replaces some. */
  readonly calls: Map<Node, readonly KernelCall[]>;
  /** Names of the elementwise ops that will probably be fused after a kernel node; see `FusedNames`. */
  readonly epilogues: ReadonlyMap<Node, string>;
  /** Sequence number: the id of the user's node that a node came from. */
  readonly sequence: ReadonlyMap<Node, number>;
}

export function expand(graph: Graph, target: CompileTarget): Expanded {
  const expansion = new Expansion(graph, target);
  for (const n of graph.order) expansion.insert(n, graph.times?.get(n) ?? n.id);
  return expansion;
}

class Expansion implements Expanded {
  readonly order: Node[] = [];
  readonly standIn = new Map<Node, Node>();
  readonly calls = new Map<Node, readonly KernelCall[]>();
  readonly epilogues = new Map<Node, string>();
  readonly sequence = new Map<Node, number>();

  /** For replaced nodes with several outputs: the nodes that compute these outputs. */
  private readonly replacedOutputs = new Map<Node, readonly Node[]>();
  private readonly leaves: ReadonlySet<Node>;
  private readonly consumers: Consumers;
  /** Products whose only consumer is their transpose. */
  private readonly transposedProducts: ReadonlyMap<Node, Node>;
  /** Leaves that this flush assigns. Nodes that kernels overwrite so far. */
  private readonly assigned: ReadonlySet<Node>;
  private readonly overwritten = new Set<Node>();
  /** Nodes that write their value into an arena. */
  private readonly inArena = new Set<Node>();
  /** Whether anything so far is larger than a binding. */
  private large: boolean;

  constructor(
    graph: Graph,
    private readonly target: CompileTarget,
  ) {
    this.leaves = new Set(graph.leaves);
    this.assigned = new Set(graph.roots.flatMap((r) => (r.target ? [r.target] : [])));
    this.consumers = new Consumers(graph);
    this.transposedProducts = this.findTransposedProducts(graph);
    this.large = [...graph.leaves, ...graph.order].some((n) => this.isLarge(n));
  }

  /** Inserts the nodes that compute `n`. `user` is the node of the user's graph that it replaces. */
  insert(n: Node, seq: number, user = n): void {
    if (this.transposedProducts.has(n)) return; // computed transposed, below
    if (n.op.kind === "view" && this.transposedProducts.get(n.src[0]) === n) return this.insertTransposed(n, seq, user);
    const replaced = n.op.kind === "pick" ? this.replacedOutputs.get(n.src[0]) : undefined;
    if (replaced) {
      this.standIn.set(n, replaced[n.attrs.output as number]);
      return;
    }
    const given = n.src.map((s) => this.standIn.get(s) ?? s);
    const parts =
      this.large || given.some(isEmpty)
        ? splitNode(withSources(n, given), this.target.info.maxBindingBytes)
        : undefined;
    if (parts) return this.replace(n, parts, seq);
    const src = n.op.arena
      ? this.arenaSources(n, given, seq)
      : n.op.inPlace
        ? this.writableSources(n, given, seq)
        : given;
    if (needsWidening(n, src)) return this.insertWidened(n, src, seq, user);
    const node = withSources(n, src);
    if (n.op.kind === "kernel" && !n.op.arena && !this.lower(node, user)) {
      const outputs = composed(n.op, node.src, n.attrs);
      if (!outputs)
        throw new Error(
          `${n.op.name}: no kernel for shape ${show(n.shape)} and no fallback: define a fallback for the op`,
        );
      return this.replace(n, outputs, seq);
    }
    this.standIn.set(n, this.emit(node, seq));
  }

  private emit(n: Node, seq: number): Node {
    this.order.push(n);
    this.sequence.set(n, seq);
    return n;
  }

  private copyOf(n: Node, seq: number): Node {
    return this.emit(new Node(copyOp, [n], {}, n.shape, n.dtype), seq);
  }

  private castTo(n: Node, dtype: DType, seq: number): Node {
    return n.dtype === dtype
      ? n
      : this.emit(new Node(castFacts as Op, [n], { from: n.dtype, to: dtype }, n.shape, dtype), seq);
  }

  private isLarge(n: Node): boolean {
    return (n.outputs ?? [n]).some((o) => bytesOf(o) > this.target.info.maxBindingBytes);
  }

  /** Gives a kernel node its template calls; false if it has no lowering for these shapes. */
  private lower(node: Node, user: Node): boolean {
    const { op, src } = node;
    this.epilogues.set(node, this.consumers.elementwiseAfter(user));
    const lower = loweringOf(op.name);
    const calls = lower?.(node, lowerContext(node, this.target, { epilogue: this.epilogues.get(node) }));
    if (!calls) return false;
    this.calls.set(node, calls);
    for (const i of op.inPlace ?? []) if (i >= 0) this.overwritten.add(aliasOf(src[i]) ?? src[i]);
    return true;
  }

  /** Replaces a node by ordinary ops that compute its outputs. */
  private replace(n: Node, outputs: readonly Node[], seq: number): void {
    const fresh = below(outputs, (s) => s.realized || this.sequence.has(s) || this.standIn.has(s));
    for (const s of [...outputs, ...fresh.flatMap((inner) => inner.src)])
      if (s.realized && !this.leaves.has(s) && !isEmpty(s))
        throw new Error(
          `${n.op.name}: its fallback made a tensor from values of the host, which no plan can hold; make it an input of the op, or use full, arange or another op without inputs${n.op.origin ? `\n    defined ${n.op.origin.place}` : ""}`,
        );
    this.large ||= fresh.some((inner) => this.isLarge(inner));
    for (const inner of fresh) this.insert(inner, seq);
    const inserted = outputs.map((o) => this.standIn.get(o) ?? o);
    if (n.outputs) this.replacedOutputs.set(n, inserted);
    else this.standIn.set(n, inserted[0]);
  }

  private findTransposedProducts({ order }: Graph): Map<Node, Node> {
    const found = new Map<Node, Node>();
    for (const n of order) {
      const [product] = n.src;
      if (product?.op.product && !product.realized && this.consumers.count(product) === 1 && isTranspose(n))
        found.set(product, n);
    }
    return found;
  }

  /** (A B)ᵀ = Bᵀ Aᵀ, which needs no transposed copy. Weight gradients have this form. */
  private insertTransposed(n: Node, seq: number, user: Node): void {
    const [product] = n.src;
    const [a, b] = product.src.map((s) => this.standIn.get(s) ?? s);
    const transposed = (s: Node): Node => this.emit(new Node(n.op, [s], n.attrs, swapLast(s.shape), s.dtype), seq);
    const swapped = new Node(product.op, [transposed(b), transposed(a)], product.attrs, n.shape, n.dtype);
    this.insert(swapped, seq, user);
    this.standIn.set(n, this.standIn.get(swapped)!);
  }

  /** Templates and reductions compute in f32: casts f16 sources to f32, except those that the kernel reads as f16, and rounds the result. */
  private insertWidened(n: Node, src: readonly Node[], seq: number, user: Node): void {
    const wide = (dtype: DType): DType => (dtype === "f16" ? "f32" : dtype);
    const outputs = n.outputs?.map((o) => ({ shape: o.shape, dtype: wide(o.dtype) }));
    const sources = src.map((s, i) => (n.op.halves?.includes(i) ? s : this.castTo(s, wide(s.dtype), seq)));
    const node = new Node(n.op, sources, n.attrs, n.shape, wide(n.dtype), outputs);
    this.insert(node, seq, user);
    if (!n.outputs) {
      this.standIn.set(n, this.castTo(this.standIn.get(node)!, n.dtype, seq));
      return;
    }
    const pick = (o: { shape: Node["shape"]; dtype: DType }, output: number): Node =>
      this.emit(new Node(pickOp, [this.standIn.get(node)!], { output }, o.shape, o.dtype), seq);
    const parts = this.replacedOutputs.get(node) ?? outputs!.map(pick);
    this.replacedOutputs.set(
      n,
      parts.map((part, i) => this.castTo(part, n.outputs![i].dtype, seq)),
    );
  }

  /** Copies sources that the kernel overwrites but must not. */
  private writableSources(n: Node, src: readonly Node[], seq: number): Node[] {
    return src.map((s, i) => {
      if (!n.op.inPlace!.includes(i)) return s;
      const base = aliasOf(s) ?? s;
      const alone = src.every((other, j) => j === i || !fusedSources(other).has(base));
      return !alone || !this.mayOverwrite(s, seq) ? this.copyOf(s, seq) : s;
    });
  }

  /**
   * Only a leaf that this flush assigns may be overwritten, or an arena of such leaves, only once, and only if nothing reads
   * the old value later.
   */
  private mayOverwrite(s: Node, seq: number): boolean {
    const base = aliasOf(s);
    if (!base || this.overwritten.has(base)) return false;
    const leaves = base.op.arena ? base.src.map((p) => aliasOf(p) ?? p) : [base];
    return leaves.every((leaf) => leaf.realized && this.assigned.has(leaf) && !this.consumers.readAfter(leaf, seq));
  }

  /**
   * The kernel of an arena's source writes it straight into the arena. So each source needs its own f32 node, which no other
   * node reads: a kernel cannot read one part of a buffer and write another. Other sources are copied.
   */
  private arenaSources(n: Node, src: readonly Node[], seq: number): Node[] {
    if (src.every((s) => aliasOf(s)?.storage?.shared)) return [...src];
    return src.map((s, i) => {
      const base = aliasOf(s);
      const own = base && !base.realized && base.dtype === "f32" && !this.inArena.has(base) && this.readOnce(n.src[i]);
      const source = own ? s : this.copyOf(s, seq);
      this.inArena.add(own ? base : source);
      return source;
    });
  }

  /** Whether one node alone reads the value of `n`, through `n`. */
  private readOnce(n: Node): boolean {
    for (let at = n; ; at = at.src[0]) {
      if (this.consumers.count(at) > 1) return false;
      if (!at.op.keepsOrder || at.realized) return true;
    }
  }
}

/** No kernel reads a value without elements. */
const isEmpty = (n: Node): boolean => n.shape.includes(0);

/** How often nodes of a graph are used, and by which nodes. */
class Consumers {
  private readonly counts = new Map<Node, number>();
  private readonly last = new Map<Node, Node>();

  constructor(private readonly graph: Graph) {
    const { order, roots } = graph;
    for (const n of order)
      for (const s of n.src) {
        this.counts.set(s, this.count(s) + 1);
        this.last.set(s, n);
      }
    for (const r of roots) this.counts.set(r.node, 2); // the result is a consumer too
  }

  count(n: Node): number {
    return this.counts.get(n) ?? 0;
  }

  /**
   * Whether work that runs after the node built at `seq` may read `leaf`. Fusion computes an op in the kernel of its consumer,
   * and a kernel runs when its epilogue was built: so all that follows the leaf counts, but for a second kernel.
   */
  readAfter(leaf: Node, seq: number): boolean {
    const seen = [new Set<Node>(), new Set<Node>()]; // by the number of kernels before
    const stack = [{ node: leaf, kernels: 0 }];
    for (let at = stack.pop(); at; at = stack.pop()) {
      for (const next of this.users().get(at.node) ?? []) {
        const time = this.graph.times?.get(next) ?? next.id;
        const runs = (next.op.kind === "kernel" && !next.op.arena) || next.op.kind === "reduce";
        if (time === seq || seen[at.kernels].has(next) || (runs && at.kernels > 0)) continue;
        if (time > seq) return true;
        seen[at.kernels].add(next);
        stack.push({ node: next, kernels: runs ? 1 : at.kernels });
      }
    }
    return false;
  }

  private usersOf?: Map<Node, Node[]>;

  /** The consumers of every node. Only in-place kernels need them. */
  private users(): ReadonlyMap<Node, readonly Node[]> {
    if (this.usersOf) return this.usersOf;
    this.usersOf = new Map();
    for (const n of this.graph.order)
      for (const s of n.src) {
        const list = this.usersOf.get(s);
        if (list) list.push(n);
        else this.usersOf.set(s, [n]);
      }
    return this.usersOf;
  }

  /** Names of the elementwise ops that follow `n` in a chain without other consumers. */
  elementwiseAfter(n: Node): string {
    const names: string[] = [];
    for (let at = n; this.count(at) === 1; at = this.last.get(at)!) {
      const { op } = this.last.get(at)!;
      if (op.kind === "elementwise") names.push(op.name);
      else if (!op.keepsOrder) break;
    }
    return names.join("+");
  }
}

/** `n`, and all that fused work may read to compute it. */
function fusedSources(n: Node): ReadonlySet<Node> {
  const seen = new Set<Node>([n]);
  for (const at of seen) if (passes(at) || computes(at)) for (const s of at.src) seen.add(s);
  return seen;
}

/** The node over other sources. */
const withSources = (n: Node, src: readonly Node[]): Node =>
  src.every((s, i) => s === n.src[i]) ? n : new Node(n.op, src, n.attrs, n.shape, n.dtype, n.outputs);

function needsWidening(n: Node, src: readonly Node[]): boolean {
  if (n.op.kind !== "kernel" && n.op.kind !== "reduce") return false;
  return n.dtype === "f16" || src.some((s, i) => s.dtype === "f16" && !n.op.halves?.includes(i));
}

const swapLast = (shape: readonly number[]): number[] => [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!];

/** Whether a node is a view that swaps the last two dims and does nothing else. */
function isTranspose(n: Node): boolean {
  const rank = n.shape.length;
  if (n.op.kind !== "view" || n.realized || rank < 2 || n.src[0].shape.length !== rank) return false;
  const order = Array.from({ length: rank }, (_, d) => d);
  const sizes = order.map((_, d) => d + 2); // distinct and above 1, so that every variable appears in the index
  const probe = order.map((_, d) => variable(d, sizes[d]));
  const { index, ranges } = n.op.viewIndex!(probe, n.attrs, { from: swapLast(sizes), to: sizes });
  if (ranges?.length || index.length !== rank) return false;
  return swapLast(order).every((d, i) => {
    const { offset, terms } = index[i];
    return offset === 0 && terms.length === 1 && terms[0].coef === 1 && terms[0].atom === probe[d].terms[0].atom;
  });
}

/** Nodes that `roots` need, down to those for which `known` holds. Sources first. */
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
