import type { DeviceInfo, MatrixUnit } from "../graph/device-info.ts";
import { busyGroups } from "./grid.ts";

/** A candidate of matmul: the rows and columns of C that a workgroup computes, and the kernel that does it. */
export type Tile = {
  readonly rows: number;
  readonly columns: number;
  /** Invocations per workgroup of matmul_workgroup.wgsl: 64 or 256, in a square. */
  readonly lanes?: number;
  /** Component and shape of the matrix unit of matmul_subgroup_matrix.wgsl. */
  readonly matrices?: string;
  /** Operands to transpose first: "a", "b" or "ab" (transpose.ts). */
  readonly transposed?: string;
};

/** Sizes of a product [batches, M, N]. */
interface Sizes {
  readonly M: number;
  readonly N: number;
  readonly batches: number;
}

/** Subgroups per workgroup, if a subgroup has the usual 32 lanes; compare with `busyGroups`. */
export const subgroupsOf = ({ lanes = 32 }: Tile): number => lanes / 32;

/** Values along k that workgroup memory holds at a time. */
export const SHARED_K = 16;

/** The candidates of a product: at most 12, the heuristic's choice first. `transposed` names operands to transpose. */
export function tilesFor(
  device: DeviceInfo,
  sizes: Sizes,
  unit: MatrixUnit | undefined,
  transposed: string,
): readonly Tile[] {
  const first = registerTile(device, sizes.M);
  const registers = withOtherHeights({ ...first, ...(transposed && { transposed }) }, device, sizes.M);
  return [
    ...matrixUnitTiles(unit, sizes.M),
    ...workgroupTiles(device, sizes),
    ...registers,
    ...(transposed ? [first] : []),
  ];
}

/** Tiles for the adapter's matrix units, if it has them and C has more than 8 rows. */
function matrixUnitTiles(unit: MatrixUnit | undefined, M: number): Tile[] {
  if (!unit || M <= 8) return [];
  const matrices = `${unit.component} ${unit.M}x${unit.N}x${unit.K}`;
  return [32, 64].filter((rows) => rows === 32 || rows < 2 * M).map((rows) => ({ rows, columns: 32, matrices }));
}

/**
 * Tiles whose operands pass through workgroup memory, for GPUs. Discrete GPUs start with 8 x 8 sums per invocation, in the
 * largest tile that still keeps them busy. Others start with 4 x 4 sums, which fit their registers.
 * Software adapters get none: there, workgroup memory is a slower cache and barriers are expensive.
 */
function workgroupTiles(device: DeviceInfo, { M, N, batches }: Sizes): Tile[] {
  if (device.kind === "software") return [];
  const all: Tile[] = [
    { rows: 128, columns: 128, lanes: 256 },
    { rows: 64, columns: 64, lanes: 64 },
    { rows: 64, columns: 64, lanes: 256 },
    { rows: 32, columns: 32, lanes: 64 },
  ];
  const fits = ({ rows, columns, lanes }: Tile): boolean =>
    lanes! <= device.maxInvocations &&
    (rows + columns) * SHARED_K * 4 <= device.maxWorkgroupBytes &&
    rows < 2 * M &&
    columns < 2 * N;
  const keepsBusy = (t: Tile): boolean =>
    batches * Math.ceil(M / t.rows) * Math.ceil(N / t.columns) * subgroupsOf(t) >= busyGroups(device);
  const fitting = all.filter(fits);
  if (fitting.length === 0) return [];
  const sums = device.kind === "discrete" ? 64 : 16; // per invocation
  const preferred = fitting.filter((t) => (t.rows * t.columns) / t.lanes! === sums);
  const first = preferred.find(keepsBusy) ?? preferred.at(-1) ?? fitting.at(-1)!;
  return [first, ...fitting.filter((t) => t !== first)];
}

/**
 * The heuristic's tile in registers: of a subgroup, or of 8 x 8 invocations without subgroups. 32 rows load less per product,
 * but need many registers and take half as long again to compile. They are for software adapters, and for M so large that few
 * rows of the last tile lie outside C.
 */
function registerTile(device: DeviceInfo, M: number): Tile {
  if (device.subgroupSize === 0) return { rows: M > 8 ? 32 : 8, columns: 32 };
  const columns = 4 * device.subgroupSize;
  if (M <= 8) return { rows: M > 4 ? 8 : 4, columns };
  const tall = device.kind === "software" && device.subgroupSize >= 8 && M >= 128;
  return { rows: tall ? 32 : 16, columns };
}

/** `first`, then the same tile with other heights of which less than half lies outside C. */
function withOtherHeights(first: Tile, device: DeviceInfo, M: number): Tile[] {
  const all = device.subgroupSize === 0 ? [8, 16, 32] : [4, 8, 16, 32];
  const others = all.filter((rows) => rows !== first.rows && (rows < 2 * M || rows === all[0]));
  return [first, ...others.map((rows) => ({ ...first, rows }))];
}

/** Parameters of matmul_workgroup.wgsl. */
export function workgroupParams(lanes: number, { rows, columns }: Tile): Record<"LX" | "LY" | "TM" | "TN", number> {
  const side = Math.sqrt(lanes);
  return { LX: side, LY: side, TM: rows / side, TN: columns / side / 4 };
}
