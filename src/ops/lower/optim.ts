import type { BufferRef, Lower } from "../../compile/lower.ts";
import { numel } from "../../shape.ts";
import { grid2d } from "./grid.ts";

/** (p, g, m, v f32 [n], hyper f32 [8]) -> p, m, v in place; in parts where a vector is larger than a binding may be. */
export const lowerAdamw: Lower = (node, cx) => {
  const size = numel(node.src[0].shape);
  const [WG, PER] = cx.device.kind === "software" ? [8, 16] : [64, 4];
  const most = Math.floor(cx.device.maxBindingBytes / 512) * 128; // elements
  return Array.from({ length: Math.ceil(size / most) }, (_, i) => {
    const [first, last] = [i * most, Math.min(size, (i + 1) * most) - 1];
    const part = (ref: BufferRef): BufferRef => (size > most ? cx.window(ref, "f32", first, last) : ref);
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
