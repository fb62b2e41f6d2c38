import type { Lower } from "../../compile/lower.ts";
import { numel } from "../../shape.ts";
import { grid2d } from "./grid.ts";

/** (p, g, m, v f32 [n], hyper f32 [8]) -> p, m, v in place. */
export const lowerAdamw: Lower = (node, cx) => {
  const vectors = Math.ceil(numel(node.src[0].shape) / 4);
  if (vectors === 0) return [];
  const [WG, PER] = cx.device.kind === "software" ? [8, 16] : [64, 4];
  return [
    {
      kernel: "adamw",
      params: { WG, PER },
      dims: [vectors],
      bind: [cx.operand(1).buffer, cx.operand(4).buffer, cx.output(0), cx.output(1), cx.output(2)],
      grid: grid2d(Math.ceil(vectors / (WG * PER))),
    },
  ];
};
