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
  const traversal = ++traversals;
  const order: Node[] = [];
  const leaves: Node[] = [];
  const fed: boolean[] = [];
  const targets = new Set(roots.map((r) => r.target));
  const buffers = new Map<GPUBuffer, number>();
  const parts: string[] = [];

  const leaf = (n: Node): void => {
    n.traversal = traversal;
    n.position = order.length + leaves.length;
    leaves.push(n);
    const fromHost = !n.storage && !n.requiresGrad && !targets.has(n);
    fed.push(fromHost);
    parts.push(`${fromHost ? "H" : "L"}${n.dtype}[${n.shape.join()}]${n.storage?.shared ? location(n.storage) : ""}`);
  };
  // Values packed into one buffer: their offsets decide whether `pack` copies them, so they are part of the key.
  const location = ({ buffer, offset }: Storage): string => {
    if (!buffers.has(buffer)) buffers.set(buffer, buffers.size);
    return `b${buffers.get(buffer)}@${offset}`;
  };
  // Depth-first walk without recursion: the open nodes, and the next source of each.
  const stack: Node[] = [];
  const next: number[] = [];
  const open = (n: Node): void => {
    // A node that dropped its sources, or never had any, cannot be recomputed.
    if (n.forgetful || (n.op.kind === "leaf" && n.src.length === 0))
      throw new Error(n.stale ?? `internal: leaf node ${n.id} has no value`);
    n.traversal = traversal;
    stack.push(n);
    next.push(0);
  };
  const visit = (root: Node): void => {
    if (root.traversal === traversal) return;
    if (root.realized) return leaf(root);
    open(root);
    while (stack.length) {
      const top = stack.length - 1;
      const node = stack[top];
      const { src } = node;
      let i = next[top];
      while (i < src.length && src[i].traversal === traversal) i++;
      if (i < src.length) {
        next[top] = i + 1;
        if (src[i].realized) leaf(src[i]);
        else open(src[i]);
      } else {
        stack.pop();
        next.pop();
        node.position = order.length + leaves.length;
        order.push(node);
        let entry = node.key;
        for (const s of src) entry += ` ${s.position}`;
        parts.push(entry);
      }
    }
  };
  for (const r of roots) {
    visit(r.node);
    if (r.target) visit(r.target);
  }
  for (const r of roots) parts.push(`${r.mode}${r.node.position}${r.target ? `>${r.target.position}` : ""}`);
  return { order, leaves, fed, roots, key: parts.join("\n") };
}
