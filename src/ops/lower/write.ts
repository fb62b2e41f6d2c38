import type { Lower } from "../../compile/lower.ts";
import { grid2d } from "./grid.ts";

/** Sources cache [B, H, S, D] (overwritten), value [B, H, t, D] strided, position i32, one or one a sample. */
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
  return [
    {
      kernel: "write_at",
      params: { WG },
      dims: [H, S, t, D / perWord, ...words, position.offset, each, rows],
      bind: [value.buffer, position.buffer, cx.output()],
      grid: [Math.ceil(t / rows), H, B],
    },
  ];
};

/** Sources cache u32 [B, H, S, int8Words(D)] (overwritten), value f32 [B, H, t, D] strided, position i32, one or one a sample. */
export const lowerWriteInt8: Lower = (_node, cx) => {
  const [cache, value, position] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  const [B, H, t, D] = value.shape;
  const count = B * H * t;
  if (count * D === 0) return [];
  const WG = cx.device.kind === "software" ? 8 : 64;
  const grid = grid2d(Math.ceil(count / WG));
  const each = position.shape.some((n) => n > 1) ? 1 : 0;
  return [
    {
      kernel: "write_int8",
      params: { WG },
      dims: [count, H, cache.shape[2], t, D, value.offset, ...value.strides, position.offset, each, grid[0]],
      bind: [value.buffer, position.buffer, cx.output()],
      grid,
    },
  ];
};
