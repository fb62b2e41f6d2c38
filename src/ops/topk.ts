import type { Attrs } from "../graph/node.ts";
import { checkOptions } from "../graph/options.ts";
import { normalizeDim, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { transpose } from "./movement.ts";
import type { Extremum } from "./reduce.ts";
import { argsort, compare } from "./sort.ts";
import { splitRows } from "./split.ts";

interface TopkAttrs extends Attrs {
  readonly k: number;
  readonly largest: boolean;
}

/** x [..., n] -> i32 [..., k]: positions of the k largest or smallest of each row, best first. Equal values keep their order. */
const topkOp = defineOp<TopkAttrs>({
  name: "topk",
  kind: "kernel",
  split: splitRows({ flat: true }),
  reference: ([x], { k, largest }, { shape, dtype }) => {
    const n = x.shape[x.shape.length - 1];
    const rows = x.data.length / n;
    const data = new Float64Array(rows * k);
    const sign = largest ? -1 : 1;
    for (let r = 0; r < rows; r++) {
      const row = x.data.subarray(r * n, (r + 1) * n);
      const order = Array.from(row, (_, i) => i).sort((a, b) => sign * compare(row[a], row[b]) || a - b);
      data.set(order.slice(0, k), r * k);
    }
    return { data, shape, dtype };
  },
});

/** The kernel reads a row k times; a sort reads and writes it four or eight times, with more work per element. */
const sorts = (k: number, n: number): boolean => k > (n >= 65_536 ? 8 : 64);

export interface TopkOptions {
  /** Default -1. */
  dim?: number;
  /** False: the k smallest. Default true. */
  largest?: boolean;
  /** Results are always sorted, best first. */
  sorted?: boolean;
}

/**
 * The k largest elements along a dim, or the k smallest, best first, with their i32 positions: x [..., n] -> [..., k]. NaN
 * counts as the largest; of equal elements the first comes first.
 * @throws if k is not between 0 and the size of the dim.
 */
export function topk(x: Tensor, k: number, options: TopkOptions = {}): Extremum {
  checkOptions("topk", options, ["dim", "largest", "sorted"]);
  const { dim = -1, largest = true } = options;
  const d = normalizeDim("topk", dim, x.ndim);
  const n = x.ndim === 0 ? 1 : x.shape[d];
  if (!Number.isInteger(k) || k < 0 || k > n)
    throw new RangeError(`topk: k = ${k} of ${show(x.shape)}: expected 0 to ${n}, the size of dim ${d}`);
  if (x.ndim === 0) {
    const one = topk(x.reshape([1]), k);
    return k === 1 ? { values: one.values.reshape([]), indices: one.indices.reshape([]) } : one;
  }
  const indices = positionsOf(x.detach(), k, d, largest);
  return { values: x.gather(d, indices), indices };
}

function positionsOf(x: Tensor, k: number, dim: number, largest: boolean): Tensor {
  if (k === 0)
    return full(
      x.shape.map((n, d) => (d === dim ? 0 : n)),
      0,
      "i32",
    );
  if (sorts(k, x.shape[dim])) return argsort(x, { dim, descending: largest }).narrow(dim, 0, k);
  const rows = transpose(x, dim, -1);
  const found = apply(topkOp, [rows], { k, largest }, [...rows.shape.slice(0, -1), k], "i32");
  return transpose(found, dim, -1);
}
