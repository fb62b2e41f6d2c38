import type { Lower } from "../graph/kernel-call.ts";

/** (logits f32 [B, V], params f32 [B or 1, 4], uniform f32 [B]) -> ids i32 [B]. */
export const lowerSample: Lower = (_node, cx) => {
  const [logits, params, uniform] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  const [B, V] = logits.shape;
  // Few invocations with many bins each, or many with few. Both fit 16 KiB of workgroup memory.
  const schedule = cx.device.kind === "software" ? { LANES: 8, BITS: 8 } : { LANES: 128, BITS: 4 };
  return [
    {
      kernel: "sample",
      params: schedule,
      dims: [V, params.shape[0] > 1 ? 4 : 0],
      bind: [logits.buffer, params.buffer, uniform.buffer, cx.output()],
      grid: [B, 1, 1],
    },
  ];
};
