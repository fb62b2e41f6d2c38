import type { DeviceInfo, MatrixUnit } from "../graph/device-info.ts";
import { busyGroups } from "./grid.ts";

/** Rows and columns of C that a workgroup computes, and how: the candidates of matmul. */
export type Tile = {
  readonly rows: number;
  readonly columns: number;
  /** Lanes that share what they load in workgroup memory: 64 or 256, in a square. */
  readonly lanes?: number;
  /** On matrix units of this component and shape. */
  readonly matrices?: string;
  /** Operands that are turned first; see turn.ts. */
  readonly turned?: string;
};

/** Sizes of what is multiplied. */
interface Sizes {
  readonly M: number;
  readonly N: number;
  readonly batches: number;
}

/** Subgroups (of 32, a usual size) that a workgroup keeps busy, for `busyGroups`. */
export const subgroupsOf = ({ lanes = 32 }: Tile): number => lanes / 32;

/** k that pass through workgroup memory at a time. */
export const SHARED_K = 16;

/** The tiles that a product may be cut into, the heuristic's choice first; at most 12. */
export function tilesFor(
  device: DeviceInfo,
  sizes: Sizes,
  unit: MatrixUnit | undefined,
  turned: string,
): readonly Tile[] {
  const first = inRegisters(device, sizes.M);
  const registers = heights({ ...first, ...(turned && { turned }) }, device, sizes.M);
  return [
    ...onMatrixUnits(unit, sizes.M),
    ...inWorkgroupMemory(device, sizes),
    ...registers,
    ...(turned ? [first] : []),
  ];
}

/** Tiles for the adapter's matrix units, where it has some and there are rows enough. */
function onMatrixUnits(unit: MatrixUnit | undefined, M: number): Tile[] {
  if (!unit || M <= 8) return [];
  const matrices = `${unit.component} ${unit.M}x${unit.N}x${unit.K}`;
  return [32, 64].filter((rows) => rows === 32 || rows < 2 * M).map((rows) => ({ rows, columns: 32, matrices }));
}

/**
 * GPUs share loads in workgroup memory: discrete ones with 8 x 8 sums a lane, the largest tile of which there are enough, others
 * with the 4 x 4 that fit into their registers. For software adapters it is but a slower cache, and barriers are dear.
 */
function inWorkgroupMemory(device: DeviceInfo, { M, N, batches }: Sizes): Tile[] {
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
  const enough = (t: Tile): boolean =>
    batches * Math.ceil(M / t.rows) * Math.ceil(N / t.columns) * subgroupsOf(t) >= busyGroups(device);
  const offered = all.filter(fits);
  if (offered.length === 0) return [];
  const sums = device.kind === "discrete" ? 64 : 16;
  const wanted = offered.filter((t) => (t.rows * t.columns) / t.lanes! === sums);
  const first = wanted.find(enough) ?? wanted.at(-1) ?? offered.at(-1)!;
  return [first, ...offered.filter((t) => t !== first)];
}

/**
 * Rows and columns of a tile in the registers of a subgroup or of 8 x 8 lanes. 32 rows load less per product, but compile
 * half as long again and want many registers: on software adapters, where few of them are surplus.
 */
function inRegisters(device: DeviceInfo, M: number): Tile {
  if (device.subgroupSize === 0) return { rows: M > 8 ? 32 : 8, columns: 32 };
  const columns = 4 * device.subgroupSize;
  if (M <= 8) return { rows: M > 4 ? 8 : 4, columns };
  const tall = device.kind === "software" && device.subgroupSize >= 8 && M >= 128;
  return { rows: tall ? 32 : 16, columns };
}

/** A tile, then the other heights that waste less than half of their rows. */
function heights(first: Tile, device: DeviceInfo, M: number): Tile[] {
  const all = device.subgroupSize === 0 ? [8, 16, 32] : [4, 8, 16, 32];
  const others = all.filter((rows) => rows !== first.rows && (rows < 2 * M || rows === all[0]));
  return [first, ...others.map((rows) => ({ ...first, rows }))];
}

/** Parameters of matmul_workgroup.wgsl. */
export function sharedParams(lanes: number, { rows, columns }: Tile): Record<"LX" | "LY" | "TM" | "TN", number> {
  const side = Math.sqrt(lanes);
  return { LX: side, LY: side, TM: rows / side, TN: columns / side / 4 };
}
