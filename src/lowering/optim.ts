import type { BufferRef, Lower } from "../graph/kernel-call.ts";
import { numel } from "../graph/shape.ts";
import { grid2d } from "./grid.ts";

const BLOCK = 256; // elements of m and v that share a scale

/**
 * (p, g f32 [n], m, v u32 [n / 4], scales f32 [blocks, 2], hyper f32 [8]) -> p, m, v, scales in place. Vectors
 * larger than a binding are updated in windows.
 */
export const lowerAdamwInt8: Lower = (node, cx) => {
  const size = numel(node.src[0].shape);
  const [WG, LANES] = cx.device.kind === "software" ? [8, 1] : [64, 64];
  const maxElements = Math.floor(cx.device.maxBindingBytes / (4 * 64 * BLOCK)) * 64 * BLOCK;
  return Array.from({ length: Math.ceil(size / maxElements) }, (_, i) => {
    const [first, end] = [i * maxElements, Math.min(size, (i + 1) * maxElements)];
    const blocks = Math.ceil((end - first) / BLOCK);
    const part = (ref: BufferRef, dtype: "f32" | "u32", per: number): BufferRef =>
      size > maxElements ? cx.window(ref, dtype, first * per, Math.ceil((end * per) / 2) * 2 - 1) : ref;
    return {
      kernel: "adamw_int8",
      params: { WG, LANES },
      dims: [(end - first) / 4, blocks],
      bind: [
        part(cx.operand(1).buffer, "f32", 1),
        cx.operand(5).buffer,
        part(cx.output(0), "f32", 1),
        part(cx.output(1), "u32", 1 / 4),
        part(cx.output(2), "u32", 1 / 4),
        part(cx.output(3), "f32", 2 / BLOCK),
      ],
      grid: grid2d(Math.ceil((blocks * LANES) / WG)),
    };
  });
};

/** (p, g, m, v f32 [n], hyper f32 [8]) -> p, m, v in place. Vectors larger than a binding are updated in windows. */
export const lowerAdamw: Lower = (node, cx) => {
  const size = numel(node.src[0].shape);
  const [WG, PER] = cx.device.kind === "software" ? [8, 16] : [64, 4];
  const maxElements = Math.floor(cx.device.maxBindingBytes / 512) * 128;
  return Array.from({ length: Math.ceil(size / maxElements) }, (_, i) => {
    const [first, last] = [i * maxElements, Math.min(size, (i + 1) * maxElements) - 1];
    const part = (ref: BufferRef): BufferRef => (size > maxElements ? cx.window(ref, "f32", first, last) : ref);
    const vectors = Math.ceil((last + 1 - first) / 4);
    return {
      kernel: "adamw",
      params: { WG, PER },
      dims: [vectors],
      bind: [
        part(cx.operand(1).buffer),
        cx.operand(4).buffer,
        part(cx.output(0)),
        part(cx.output(1)),
        part(cx.output(2)),
      ],
      grid: grid2d(Math.ceil(vectors / (WG * PER))),
    };
  });
};
