import type { RefArray } from "../graph/op.ts";
import { numel } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { cat } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";
import { splitGather } from "./split.ts";

// Rows of a matrix [R, C] read and replaced at ids [N]. Ids out of range read 0, and write nothing.

/** ids i32 [N] -> i32 [size]: the last position n with ids[n] = i, or -1. Of rows that are written twice, the last write stays. */
const lastWriterOp = defineOp<{ size: number }>({
  name: "last_writer",
  kind: "kernel",
  split: (node, [ids], cx) => {
    if (!cx.large) return undefined;
    const parts = (of: number, bytes: number) => cx.stretches(of, Math.ceil(bytes / cx.limit));
    const { size } = node.attrs;
    if (cx.bytesOf(ids) > cx.limit)
      return [
        parts(ids.shape[0], cx.bytesOf(ids))
          .map(({ start, size: count }) => {
            const last = lastWriter(ids.narrow(0, start, count), size);
            return where(last.ge(0), last.add(start), -1);
          })
          .reduce((a, b) => a.maximum(b)),
      ];
    const own = ids.to("i32");
    return [cat(parts(size, cx.bytesOf(node)).map((p) => lastWriter(own.sub(p.start), p.size)))]; // ids below become large
  },
  reference: ([ids], { size }, { shape, dtype }) => {
    const data = new Float64Array(size).fill(-1);
    ids.data.forEach((id, n) => {
      if (id >= 0 && id < size) data[id] = n;
    });
    return { data, shape, dtype };
  },
});

export const lastWriter = (ids: Tensor, size: number): Tensor => apply(lastWriterOp, [ids], { size }, [size], "i32");

/** x [R, C] with row ids[n] replaced by values[n], for ids [N] and values [N, C]. Of equal ids the last one stays. */
const writeRowsOp = defineOp({
  name: "write_rows",
  kind: "kernel",
  fallback: ([x, ids, values]) => {
    const writer = lastWriter(ids, x.shape[0]);
    return where(writer.ge(0).unsqueeze(1), pickRows(values, writer.maximum(0)), x);
  },
  vjp: (g, _y, [x, ids, values]) => {
    const kept = x.requiresGrad ? where(lastWriter(ids, x.shape[0]).ge(0).unsqueeze(1), 0, g) : null;
    return [kept, null, values.requiresGrad ? where(stays(ids, x.shape[0]).unsqueeze(1), pickRows(g, ids), 0) : null];
  },
});

/** bool [N]: whether the write of position n is the last one to its row. */
const stays = (ids: Tensor, size: number): Tensor =>
  lastWriter(ids, size)
    .unsqueeze(1)
    .gather(0, ids.unsqueeze(1))
    .squeeze(1)
    .eq(positionsAlong(0, ids.shape[0], 1));

export function writeRows(x: Tensor, ids: Tensor, values: Tensor): Tensor {
  return ids.shape[0] === 0 ? x : apply(writeRowsOp, [x, ids, values], {}, x.shape, x.dtype);
}

/**
 * Rows ids [N] of x [R, C], no two of them equal: their gradients do not add up, so the transpose needs no sum.
 * For ids that repeat: indexSelect.
 */
const pickRowsOp = defineOp<{ dim: number }>({
  name: "pick_rows",
  kind: "gather",
  positionIndex: (index) => [index[0]],
  split: splitGather(true),
  vjp: (g, _y, [x, ids]) => [writeRows(full(x.shape, 0, x.dtype), ids, g), null],
  reference: ([x, ids], _attrs, { shape, dtype }) => {
    const data = new Float64Array(numel(shape));
    const width = shape[1];
    ids.data.forEach((id, n) => {
      if (id >= 0 && id < x.shape[0]) data.set(rowOf(x, id), n * width);
    });
    return { data, shape, dtype };
  },
});
const rowOf = ({ data, shape }: RefArray, row: number): Float64Array =>
  data.subarray(row * shape[1], (row + 1) * shape[1]);

export const pickRows = (x: Tensor, ids: Tensor): Tensor =>
  apply(pickRowsOp, [x, ids], { dim: 0 }, [ids.shape[0], x.shape[1]], x.dtype);
