import type { Graph } from "../../graph/collect.ts";
import { Node } from "../../graph/node.ts";
import type { Device } from "../../runtime/device.ts";
import { type CompileOptions, type Layout, layOut } from "../compile.ts";
import { bytesOf } from "../expression/window.ts";

/** Into how many segments the work before the peak is cut, tried in this order. */
const SEGMENTS = [4, 8, 16, 32];

/**
 * Lays a graph out within `options.memoryBudget` bytes. What is alive at the peak and was computed long before (the
 * activations that wait for their backward pass) is computed again where it is needed, segment by segment from the
 * first on, as far as the budget asks (https://arxiv.org/abs/1604.06174).
 */
export function layOutWithin(graph: Graph, device: Device, options: CompileOptions): Layout {
  const plain = layOut(graph, device, options);
  const budget = options.memoryBudget ?? Infinity;
  if (plain.places.peakBytes <= budget) return plain;
  const early = graph.order.filter((n) => n.id <= plain.peakAt).sort((a, b) => a.id - b.id);
  let least = plain.places.peakBytes;
  for (const count of SEGMENTS) {
    const segments = cut(early, graph, count);
    const tried = new Map<number, Layout>();
    const fits = (recomputed: number): boolean => {
      const layout = layOut(recompute(graph, segments.slice(0, recomputed), plain.peakAt), device, options);
      tried.set(recomputed, layout);
      least = Math.min(least, layout.places.peakBytes);
      return layout.places.peakBytes <= budget;
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
    `the memory budget of ${budget} bytes is too small: this step needs ${plain.places.peakBytes} bytes at its peak, and ${least} with activations computed again`,
  );
}

/** Cuts nodes in order of time into segments that save about equally much, where little flows from one to the next. */
function cut(early: readonly Node[], graph: Graph, count: number): Node[][] {
  const place = new Map(early.map((n, i) => [n, i]));
  const used = new Map<Node, number>(); // last place among the early nodes where a value is read, through views
  const saved = new Set<Node>();
  for (const n of [...graph.order].sort((a, b) => b.id - a.id)) {
    const at = n.op.kind === "view" ? (used.get(n) ?? place.get(n)) : place.get(n);
    for (const s of n.src) {
      if (!place.has(s)) continue;
      if (at === undefined || (n.op.kind === "view" && saved.has(n))) saved.add(s);
      if (at !== undefined) used.set(s, Math.max(used.get(s) ?? 0, at));
    }
  }
  const sizes = early.map((n) => (n.op.kind === "view" ? 0 : bytesOf(n)));
  const crossing = new Float64Array(early.length + 1); // bytes that flow from places up to i to later ones
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

/** The graph in which what nodes after `peak` need of `segments` is computed again, just before its first such use. */
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
      if (inputs.has(n) || n.op.inPlace || n.op.kind === "leaf") continue;
      wanted.add(n);
      time = Math.min(time, use ?? Infinity);
      for (const s of n.src) {
        if (s.realized) continue;
        if (inside.has(s) && !s.op.inPlace && s.op.kind !== "leaf") wanted.add(s);
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
