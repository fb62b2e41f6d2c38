import { floatBits } from "../graph/dtype.ts";
import type { Lower } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { rowSchedule } from "./rows.ts";

/** Words of the uniform that both kernels share. */
function words(node: Node): number[] {
  const { ignoreIndex, labelSmoothing } = node.attrs as { ignoreIndex: number; labelSmoothing: number };
  return [ignoreIndex, floatBits(labelSmoothing), floatBits(NaN)];
}

/** (logits [N, C], target i32 [N]) -> losses [N]. */
export const lowerCrossEntropy: Lower = (node, cx) => {
  const [logits, target] = [cx.operand(0), cx.operand(1)];
  const r = rowSchedule(logits.shape, cx.device);
  if (r.rows === 0) return [];
  return [
    {
      kernel: "cross_entropy",
      params: {
        ...r.params,
        U: r.params.WIDTH === 4 ? "vec4u" : "u32",
        SMOOTH: Number(node.attrs.labelSmoothing !== 0),
      },
      dims: [r.rows, r.vectors, ...words(node)],
      bind: [logits.buffer, target.buffer, cx.output()],
      grid: r.grid,
    },
  ];
};

/** (g [N], logits [N, C], target i32 [N]) -> gradient of the logits [N, C]. */
export const lowerCrossEntropyBackward: Lower = (node, cx) => {
  const [g, logits, target] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  const r = rowSchedule(logits.shape, cx.device);
  if (r.rows === 0) return [];
  return [
    {
      kernel: "cross_entropy_backward",
      params: r.params,
      reads: r.params.WIDTH === 4 ? { hooks: { columns: "return v;" } } : undefined,
      dims: [r.rows, r.vectors, ...words(node)],
      bind: [g.buffer, logits.buffer, target.buffer, cx.output()],
      grid: r.grid,
    },
  ];
};
