import { byteSize, type DType } from "../graph/dtype.ts";
import type { BufferRef, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import { grid2d } from "./grid.ts";

/** (cache [B, H, S, D], overwritten; value [B, H, t, D], strided; position i32, one or one per sample). */
export const lowerWriteAt: Lower = (node, cx) => {
  const [cache, value, position] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  const [B, H, S, D] = cache.shape;
  const t = value.shape[2];
  if (B * H * t * D === 0) return [];
  const perWord = node.dtype === "f16" ? 2 : 1;
  const [b, h, row, d] = value.strides;
  const words = [value.offset, b, h, row, ...(perWord === 2 ? [] : [d])].map((n) => n / perWord);
  if (perWord === 2) {
    if (D % 2 !== 0 || (d !== 1 && D > 1) || !words.every(Number.isInteger)) return undefined;
    words.push(1);
  }
  const each = position.shape.some((n) => n > 1) ? 1 : 0;
  const [WG, rows] = cx.device.kind === "software" ? [8, 16] : [64, 1];
  return overBindings(cx, node.dtype, B * H * S, D, (bound, cache) => ({
    kernel: "write_at",
    params: { WG },
    dims: [H, S, t, D / perWord, ...words, position.offset, each, ...bound, rows],
    bind: [value.buffer, position.buffer, cache],
    grid: [Math.ceil(t / rows), H, B],
  }));
};

/** One call per window of the cache's rows that fits a binding. `call` gets the first row and the number of rows. */
function overBindings(
  cx: LowerContext,
  dtype: DType,
  rows: number,
  width: number,
  call: (bound: readonly [first: number, count: number], cache: BufferRef) => KernelCall,
): KernelCall[] {
  if (byteSize(dtype, rows * width) <= cx.device.maxBindingBytes) return [call([0, rows], cx.output())];
  // Windows of a multiple of 128 rows start at an offset that a binding may have.
  const maxRows = Math.max(1, Math.floor(cx.device.maxBindingBytes / byteSize(dtype, 128 * width))) * 128;
  return Array.from({ length: Math.ceil(rows / maxRows) }, (_, i) => {
    const [first, count] = [i * maxRows, Math.min(maxRows, rows - i * maxRows)];
    return call([first, count], cx.window(cx.output(), dtype, first * width, (first + count) * width - 1));
  });
}

/** (cache u32 [B, H, S, int8Words(D)], overwritten; value f32 [B, H, t, D], strided; position i32, one or one per sample). */
export const lowerWriteInt8: Lower = (_node, cx) => {
  const [cache, value, position] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  const [B, H, t, D] = value.shape;
  const count = B * H * t;
  if (count * D === 0) return [];
  const WG = cx.device.kind === "software" ? 8 : 64;
  const grid = grid2d(Math.ceil(count / WG));
  const each = position.shape.some((n) => n > 1) ? 1 : 0;
  const [S, width] = cache.shape.slice(2);
  return overBindings(cx, "u32", B * H * S, width, (bound, to) => ({
    kernel: "write_int8",
    params: { WG },
    dims: [count, H, S, t, D, value.offset, ...value.strides, position.offset, each, ...bound, grid[0]],
    bind: [value.buffer, position.buffer, to],
    grid,
  }));
};
