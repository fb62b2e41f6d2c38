import { kernelSource } from "../../../kernels/index.ts";
import type { MatrixUnit } from "../../graph/device-info.ts";
import { matrixParams } from "../../lowering/matrix-units.ts";
import { specialize } from "./template.ts";

/** WGSL that compiles only if the adapter's compiler knows this matrix unit. */
export const matrixProbe = (unit: MatrixUnit, subgroupSize: number): string =>
  specialize(kernelSource("matmul_subgroup_matrix"), {
    params: matrixParams(unit, subgroupSize, { rows: 32, columns: 32 }),
  });
