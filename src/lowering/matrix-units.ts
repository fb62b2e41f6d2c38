import type { MatrixUnit } from "../graph/device-info.ts";

/** Parameters of matmul_subgroup_matrix.wgsl for a matrix unit, a subgroup size and a tile. */
export function matrixParams(
  { component: T, M, N, K }: MatrixUnit,
  SG: number,
  tile: { readonly rows: number; readonly columns: number },
): Record<string, number | string> {
  const types = {
    T,
    Left: `subgroup_matrix_left<${T}, ${K}, ${M}>`,
    Right: `subgroup_matrix_right<${T}, ${N}, ${K}>`,
    Result: `subgroup_matrix_result<f32, ${N}, ${M}>`,
  };
  const TM = Math.ceil(tile.rows / M);
  const TN = Math.ceil(tile.columns / N);
  return { SG, TM, TN, SM: M, SN: N, SK: K, KS: Math.max(16, K), ...types };
}
