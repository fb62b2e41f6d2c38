import type { Lower } from "../graph/kernel-call.ts";
import { numel } from "../graph/shape.ts";
import { grid2d } from "./grid.ts";

/** Three spatial dims, of which an op of fewer dims has the last ones. */
const three = (list: readonly number[], fill: number): number[] => [
  ...new Array<number>(3 - list.length).fill(fill),
  ...list,
];

interface PoolDim {
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
  readonly dilation: number;
}

/** x [N, C, ...spatial], attrs { dims? } -> positions of the largest elements, i32 [N, C, ...windows]. */
export const lowerMaxPool: Lower = (node, cx) => {
  const windows = node.attrs.dims as readonly PoolDim[] | undefined;
  const [n, m] = [node.src[0].shape.slice(2), node.shape.slice(2)];
  const total = numel(node.shape);
  const each = (fact: keyof PoolDim, fill: number): number[] => three(windows?.map((w) => w[fact]) ?? [], fill);
  const WG = cx.device.kind === "software" ? 8 : 64;
  return [
    {
      kernel: "max_pool",
      params: { WG, ADAPTIVE: Number(!windows) },
      dims: [
        ...[total, ...three(n, 1), ...three(m, 1), ...each("kernel", 1)],
        ...[...each("dilation", 1), ...each("stride", 1), ...each("padding", 0)],
      ],
      bind: [cx.operand(0).buffer, cx.output()],
      grid: grid2d(Math.ceil(total / WG)),
    },
  ];
};
