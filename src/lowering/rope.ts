import type { Lower } from "../graph/kernel-call.ts";
import { grid2d } from "./grid.ts";

/** (x [B, H, T, D], strided; positions i32 [T] or [B, T]; inverse frequencies [D/2]) -> rotated x. */
export const lowerRope: Lower = (node, cx) => {
  const [x, positions, frequencies] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  if (node.dtype !== "f32" || frequencies.buffer.dtype !== "f32") return undefined;
  const [B, H, T, D] = x.shape;
  const lanes = (B * T * D) / 2;
  if (lanes * H === 0) return [];
  const software = cx.device.kind === "software";
  const WG = software ? 8 : 64;
  const heads = software ? H : Math.min(H, 4);
  const [gridX, gridZ] = grid2d(Math.ceil(lanes / WG));
  const p = positions.strides;
  return [
    {
      kernel: "rope",
      params: { WG },
      dims: [
        lanes,
        H,
        T,
        D / 2,
        heads,
        x.offset,
        ...x.strides,
        positions.offset,
        ...(p.length === 2 ? p : [0, p[0]]),
        ...(node.attrs.tokensFirst ? [T * H * D, D, H * D] : [H * T * D, T * D, D]),
        gridX,
        node.attrs.inverse ? 1 : 0,
      ],
      bind: [x.buffer, positions.buffer, frequencies.buffer, cx.output()],
      grid: [gridX, Math.ceil(H / heads), gridZ],
      flops: 6 * lanes * H,
    },
  ];
};
