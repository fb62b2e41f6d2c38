import type { Node, Storage } from "./node.ts";

/** Something a flush must produce. */
export interface Root {
  readonly node: Node;
  /** `read`: copied to the host; `keep`: the node gets a buffer of its own; `assign`: written into `target`'s buffer. */
  readonly mode: "read" | "keep" | "assign";
  readonly target?: Node;
}

/** The pending part of a graph in one fixed order, with a key that equal work shares. */
export interface Graph {
  /** Pending nodes, sources first. */
  readonly order: readonly Node[];
  /** Realised nodes that pending nodes read, and assign targets. */
  readonly leaves: readonly Node[];
  /** Per leaf: whether every run uploads it from the host. Otherwise it has its own buffer. */
  readonly fed: readonly boolean[];
  readonly roots: readonly Root[];
  readonly key: string;
  /** When nodes run, if not in the order in which they were built. */
  readonly times?: ReadonlyMap<Node, number>;
}

let traversals = 0;

/** Walks from the roots to realised nodes. Graphs with equal keys differ only in the data of their leaves. */
export function collect(roots: readonly Root[]): Graph {
  const traversal = new Traversal(new Set(roots.map((r) => r.target)));
  for (const r of roots) {
    traversal.visit(r.node);
    if (r.target) traversal.visit(r.target);
  }
  const { order, leaves, fed, parts } = traversal;
  for (const r of roots) parts.push(`${r.mode}${r.node.position}${r.target ? `>${r.target.position}` : ""}`);
  return { order, leaves, fed, roots, key: parts.join("\n") };
}

/** A depth-first walk without recursion. */
class Traversal {
  readonly order: Node[] = [];
  readonly leaves: Node[] = [];
  readonly fed: boolean[] = [];
  /** The parts of the key. */
  readonly parts: string[] = [];
  private readonly id = ++traversals;
  private readonly buffers = new Map<GPUBuffer, number>();
  /** The open nodes, and the next source to look at of each. */
  private readonly stack: Node[] = [];
  private readonly next: number[] = [];

  constructor(private readonly targets: ReadonlySet<Node | undefined>) {}

  visit(root: Node): void {
    if (root.traversal === this.id) return;
    if (root.realized) return this.addLeaf(root);
    this.open(root);
    const { stack, next, id } = this;
    while (stack.length) {
      const top = stack.length - 1;
      const node = stack[top];
      const { src } = node;
      let i = next[top];
      while (i < src.length && src[i].traversal === id) i++;
      if (i < src.length) {
        next[top] = i + 1;
        if (src[i].realized) this.addLeaf(src[i]);
        else this.open(src[i]);
      } else {
        stack.pop();
        next.pop();
        this.close(node);
      }
    }
  }

  private open(n: Node): void {
    // A node that dropped its sources, or never had any, cannot be recomputed.
    const isValue = n.op.kind === "leaf" || n.op.kind === "assign";
    if (n.forgetful || (isValue && n.src.length === 0))
      throw new Error(n.stale ?? `internal: leaf node ${n.id} has no value`);
    n.traversal = this.id;
    this.stack.push(n);
    this.next.push(0);
  }

  private close(n: Node): void {
    n.position = this.order.length + this.leaves.length;
    this.order.push(n);
    let entry = n.key;
    for (const s of n.src) entry += ` ${s.position}`;
    this.parts.push(entry);
  }

  private addLeaf(n: Node): void {
    n.traversal = this.id;
    n.position = this.order.length + this.leaves.length;
    this.leaves.push(n);
    const fromHost = !n.storage && !n.requiresGrad && !this.targets.has(n);
    this.fed.push(fromHost);
    const location = n.storage?.shared ? this.locationOf(n.storage) : "";
    this.parts.push(`${fromHost ? "H" : "L"}${n.dtype}[${n.shape.join()}]${location}`);
  }

  /** Location of a value in a buffer that holds several. `pack` copies nothing if they already lie in order. */
  private locationOf({ buffer, offset }: Storage): string {
    if (!this.buffers.has(buffer)) this.buffers.set(buffer, this.buffers.size);
    return `b${this.buffers.get(buffer)}@${offset}`;
  }
}
