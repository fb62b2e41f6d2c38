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
  /** Realised nodes that they read, and assign targets. */
  readonly leaves: readonly Node[];
  /** Which leaves come from the host at every run; the others have a buffer of their own by then. */
  readonly fed: readonly boolean[];
  readonly roots: readonly Root[];
  readonly key: string;
  /** When nodes run, where it is not the order in which they were made. */
  readonly times?: ReadonlyMap<Node, number>;
}

let walks = 0;

/** Walks from the roots to realised nodes. Graphs with equal keys differ only in the data of their leaves. */
export function collect(roots: readonly Root[]): Graph {
  const walk = ++walks;
  const order: Node[] = [];
  const leaves: Node[] = [];
  const fed: boolean[] = [];
  const targets = new Set(roots.map((r) => r.target));
  const buffers = new Map<GPUBuffer, number>();
  const parts: string[] = [];

  const leaf = (n: Node): void => {
    n.walk = walk;
    n.place = order.length + leaves.length;
    leaves.push(n);
    const fromHost = !n.storage && !n.requiresGrad && !targets.has(n);
    fed.push(fromHost);
    parts.push(`${fromHost ? "H" : "L"}${n.dtype}[${n.shape.join()}]${n.storage?.shared ? location(n.storage) : ""}`);
  };
  // Values packed into one buffer: where they lie decides what needs no copy.
  const location = ({ buffer, offset }: Storage): string => {
    if (!buffers.has(buffer)) buffers.set(buffer, buffers.size);
    return `b${buffers.get(buffer)}@${offset}`;
  };
  // The nodes on the way down, and which of its sources each looks at next.
  const stack: Node[] = [];
  const next: number[] = [];
  const open = (n: Node): void => {
    // What was computed can be computed again; what was given or assigned cannot.
    if (n.forgetful || (n.op.kind === "leaf" && n.src.length === 0))
      throw new Error(n.stale ?? `internal: leaf node ${n.id} has no value`);
    n.walk = walk;
    stack.push(n);
    next.push(0);
  };
  const visit = (root: Node): void => {
    if (root.walk === walk) return;
    if (root.realized) return leaf(root);
    open(root);
    while (stack.length) {
      const top = stack.length - 1;
      const node = stack[top];
      const { src } = node;
      let i = next[top];
      while (i < src.length && src[i].walk === walk) i++;
      if (i < src.length) {
        next[top] = i + 1;
        if (src[i].realized) leaf(src[i]);
        else open(src[i]);
      } else {
        stack.pop();
        next.pop();
        node.place = order.length + leaves.length;
        order.push(node);
        let text = node.key;
        for (const s of src) text += ` ${s.place}`;
        parts.push(text);
      }
    }
  };
  for (const r of roots) {
    visit(r.node);
    if (r.target) visit(r.target);
  }
  for (const r of roots) parts.push(`${r.mode}${r.node.place}${r.target ? `>${r.target.place}` : ""}`);
  return { order, leaves, fed, roots, key: parts.join("\n") };
}
