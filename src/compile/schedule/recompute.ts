import type { Graph } from "../../graph/collect.ts";
import { Node } from "../../graph/node.ts";
import { bytesOf } from "../expression/window.ts";

/** Numbers of segments into which the work before the peak is cut, tried in this order. */
const SEGMENTS = [4, 8, 16, 32];

/** A compiled graph as this pass sees it. */
interface Compiled {
  /** Bytes allocated while it runs. */
  readonly peakBytes: number;
  /** When (see `Graph.times`) most memory is in use. */
  readonly peakAt: number;
}

/**
 * Compiles a graph within `budget` bytes (https://arxiv.org/abs/1604.06174). Some values are alive at the peak but were computed
 * long before: activations that wait for the backward pass. They are recomputed just before their use, in segments from the
 * first on. The number of segments is the smallest that meets the budget.
 */
export function withinBudget<T extends Compiled>(graph: Graph, budget: number, compile: (graph: Graph) => T): T {
  const plain = compile(graph);
  if (plain.peakBytes <= budget) return plain;
  const early = graph.order.filter((n) => n.id <= plain.peakAt).sort((a, b) => a.id - b.id);
  let least = plain.peakBytes;
  for (const count of SEGMENTS) {
    const segments = cut(early, graph, count);
    const tried = new Map<number, T>();
    const fits = (recomputed: number): boolean => {
      const compiled = compile(recompute(graph, segments.slice(0, recomputed), plain.peakAt));
      tried.set(recomputed, compiled);
      least = Math.min(least, compiled.peakBytes);
      return compiled.peakBytes <= budget;
    };
    if (!fits(segments.length)) continue;
    let [no, yes] = [0, segments.length];
    while (yes - no > 1) {
      const middle = (no + yes) >> 1;
      if (fits(middle)) yes = middle;
      else no = middle;
    }
    return tried.get(yes)!;
  }
  throw new RangeError(
    `the memory budget of ${budget} bytes is too small: this step needs ${plain.peakBytes} bytes at its peak, and ${least} with activations computed again`,
  );
}

/** Cuts nodes in order of time into segments that save about equally many bytes, at points where few bytes flow across. */
function cut(early: readonly Node[], graph: Graph, count: number): Node[][] {
  const position = new Map(early.map((n, i) => [n, i]));
  const used = new Map<Node, number>(); // last early position at which a value is read, through views
  const saved = new Set<Node>();
  for (const n of [...graph.order].sort((a, b) => b.id - a.id)) {
    const at = n.op.kind === "view" ? (used.get(n) ?? position.get(n)) : position.get(n);
    for (const s of n.src) {
      if (!position.has(s)) continue;
      if (at === undefined || (n.op.kind === "view" && saved.has(n))) saved.add(s);
      if (at !== undefined) used.set(s, Math.max(used.get(s) ?? 0, at));
    }
  }
  const sizes = early.map((n) => (n.op.kind === "view" ? 0 : bytesOf(n)));
  const crossing = new Float64Array(early.length + 1); // bytes that flow from positions up to i to later positions
  early.forEach((n, i) => {
    crossing[i] += sizes[i];
    crossing[used.get(n) ?? i] -= sizes[i];
  });
  for (let i = 1; i < crossing.length; i++) crossing[i] += crossing[i - 1];
  let sum = 0;
  const kept = early.map((n, i) => (sum += saved.has(n) ? sizes[i] : 0));
  const cuts = new Set<number>();
  const reach = Math.ceil(early.length / (2 * count));
  for (let k = 1; k < count; k++) {
    const goal = kept.findIndex((bytes) => bytes >= (sum * k) / count);
    let best = goal;
    for (let i = Math.max(0, goal - reach); i <= Math.min(early.length - 2, goal + reach); i++)
      if (crossing[i] < crossing[best]) best = i;
    cuts.add(best);
  }
  const ends = [...cuts, early.length - 1].sort((a, b) => a - b);
  return ends.map((end, i) => early.slice(i === 0 ? 0 : ends[i - 1] + 1, end + 1));
}

/** A value from outside the graph, or the new value of a leaf: neither can be recomputed. */
const isGiven = ({ op }: Node): boolean => op.kind === "leaf" || op.kind === "assign";

/** The graph in which nodes after `peak` read recomputed values of `segments`. Each is recomputed just before its first such use. */
function recompute(graph: Graph, segments: readonly (readonly Node[])[], peak: number): Graph {
  const late = graph.order.filter((n) => n.id > peak).sort((a, b) => a.id - b.id);
  const firstUse = new Map<Node, number>();
  for (const n of late) for (const s of n.src) if (!firstUse.has(s)) firstUse.set(s, n.id);
  const copies = new Map<Node, Node>();
  const times = new Map<Node, number>();
  const inputs = new Set<Node>(); // of recomputed segments: these stay alive
  const again = (n: Node, src: Node[], time: number): Node => {
    const copy = new Node(n.op, src, n.attrs, n.shape, n.dtype, n.outputs);
    copy.site = n.site;
    times.set(copy, time);
    return copy;
  };
  for (const segment of [...segments].reverse()) {
    const inside = new Set(segment);
    const wanted = new Set<Node>();
    let time = Infinity;
    for (const n of [...segment].reverse()) {
      const use = firstUse.get(n);
      if (use === undefined && !wanted.has(n)) continue;
      if (inputs.has(n) || n.op.inPlace || isGiven(n)) continue;
      wanted.add(n);
      time = Math.min(time, use ?? Infinity);
      for (const s of n.src) {
        if (s.realized) continue;
        if (inside.has(s) && !s.op.inPlace && !isGiven(s)) wanted.add(s);
        else inputs.add(s);
      }
    }
    const list = segment.filter((n) => wanted.has(n) && !inputs.has(n));
    list.forEach((n, i) =>
      copies.set(
        n,
        again(
          n,
          n.src.map((s) => (inside.has(s) ? (copies.get(s) ?? s) : s)),
          time - 1 + (i + 1) / (list.length + 1),
        ),
      ),
    );
  }
  const rebuilt = new Map<Node, Node>();
  for (const n of late) {
    const src = n.src.map((s) => rebuilt.get(s) ?? copies.get(s) ?? s);
    if (src.some((s, i) => s !== n.src[i])) rebuilt.set(n, again(n, src, n.id));
  }
  const timeOf = (n: Node): number => times.get(n) ?? n.id;
  return {
    ...graph,
    order: [...graph.order.map((n) => rebuilt.get(n) ?? n), ...copies.values()].sort((a, b) => timeOf(a) - timeOf(b)),
    roots: graph.roots.map((r) => ({ ...r, node: rebuilt.get(r.node) ?? r.node })),
    times,
  };
}
