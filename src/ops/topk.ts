import { show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import type { Extremum } from "./reduce.ts";
import { splitRows } from "./split.ts";

/** x [..., n] -> i32 [..., k]: positions of the k largest of each row, descending. Equal values keep their order. */
const topkOp = defineOp<{ k: number }>({
  name: "topk",
  kind: "kernel",
  split: splitRows({ flat: true }),
  reference: ([x], { k }, { shape, dtype }) => {
    const n = x.shape[x.shape.length - 1];
    const rows = x.data.length / n;
    const data = new Float64Array(rows * k);
    for (let r = 0; r < rows; r++) {
      const row = x.data.subarray(r * n, (r + 1) * n);
      const order = Array.from(row, (_, i) => i).sort((a, b) => row[b] - row[a] || a - b);
      data.set(order.slice(0, k), r * k);
    }
    return { data, shape, dtype };
  },
});

/** The k largest elements of the last dim, descending, with their i32 positions: x [..., n] -> [..., k]. */
export function topk(x: Tensor, k: number): Extremum {
  const n = x.shape[x.ndim - 1];
  if (!Number.isInteger(k) || k < 1 || !(k <= n))
    throw new RangeError(`topk: k = ${k} of ${show(x.shape)}: expected 1 to ${n ?? 0}`);
  const indices = apply(topkOp, [x], { k }, [...x.shape.slice(0, -1), k], "i32");
  return { values: x.gather(-1, indices), indices };
}
