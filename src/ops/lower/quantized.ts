import type { KernelCall, Lower, LowerContext } from "../../compile/lower.ts";
import type { DeviceInfo } from "../../runtime/device.ts";
import type { QuantFormat, QuantLayout } from "../quantized.ts";
import { packed } from "./formats.ts";
import { grid2d } from "./grid.ts";
import { type FewRows, product } from "./matmul.ts";

const FORMAT: Record<QuantFormat, number> = { int8: 8, int4: 4, nf4: 0 };

/** (x [M, K or N], packed, scales), attrs { format, group, zeroPoint, shape, transposed } -> [M, N or K]. */
export const lowerQuantizedMatmul: Lower = (node, cx) => {
  const { transposed, ...q } = node.attrs as unknown as QuantLayout & { transposed: boolean };
  const M = node.shape[0];
  const [N, K] = q.shape;
  if (!transposed && M <= 8 && cx.device.subgroupSize > 0) {
    const way = cx.choose("matvec_quantized", { M, N, K, format: q.format }, ways(cx.device, M, q.format));
    if (way.lanes === "k") return [fewRows(cx, q, M, way.columns)];
  }
  const row = Math.ceil(K / q.group) * q.group; // of w, in elements
  const [inner, columns] = transposed ? [N, K] : [K, N];
  const none = [0, 0, 0];
  const hoisted = !transposed && cx.device.subgroupSize > 0;
  return product(cx, {
    M,
    N: columns,
    K: inner,
    sizes: [1, 1, 1],
    A: { offset: 0, batch: none, row: inner, column: 1 },
    B: { offset: 0, batch: none, row: transposed ? row : 1, column: transposed ? 1 : row },
    first: 0,
    only: true,
    packed: packed(q.format, q.group, q.zeroPoint, cx.operand(2).buffer, hoisted),
    group: hoisted ? q.group : 0,
  });
};

/**
 * Lanes along k read whole lines of the codes, but unpack them for each row on its own: dear on software adapters, free
 * beside the memory elsewhere. Activations are loaded once for all columns of a subgroup, which pays while there are
 * subgroups enough. Lanes along n: a tile of the matmul.
 */
function ways(device: DeviceInfo, M: number, format: QuantFormat): FewRows[] {
  const software = device.kind === "software";
  const alongK = (software ? [32, 16, 8] : [8, 16, 4]).map((columns): FewRows => ({ lanes: "k", columns }));
  const alongN: FewRows = { lanes: "n", columns: 4 };
  const most = !software ? 8 : format === "nf4" ? 1 : 2;
  return M <= most ? [...alongK, alongN] : [alongN, ...alongK];
}

function fewRows(
  cx: LowerContext,
  { format, group, zeroPoint, shape: [N, K] }: QuantLayout,
  M: number,
  ROWS: number,
): KernelCall {
  const groups = Math.ceil(K / group);
  const vec = K % 4 === 0;
  const TM = M > 2 ? 4 : M;
  const rowTiles = Math.ceil(M / TM);
  const [a, w, scales] = [0, 1, 2].map((i) => cx.operand(i).buffer);
  return {
    kernel: "matvec_quantized",
    params: {
      SG: cx.device.subgroupSize,
      TM,
      ROWS,
      FORMAT: FORMAT[format],
      ZEROS: Number(zeroPoint),
      VEC: Number(vec),
      A: vec ? "vec4f" : "f32",
    },
    dims: [M, N, K, rowTiles, (groups * group) / 32, groups, Math.log2(group / 32)],
    bind: [a, w, scales, cx.output()],
    grid: grid2d(rowTiles * Math.ceil(N / ROWS)),
    epilogue: { shape: [1, M, N], type: "vec4f" },
    flops: 2 * M * N * K,
  };
}
