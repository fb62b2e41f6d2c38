import type { DeviceInfo, MatrixUnit } from "../graph/device-info.ts";
import type { BufferRef, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";
import { F32, halfReader, inputPrologue, mergeReads, type Reader, type Reading, reading } from "./formats.ts";
import { busyGroups, columnStore, grid2d, MAX_GROUPS, STORE_4, sumParts } from "./grid.ts";
import { type Matrix, matrixOf, mergeBatch, offsetAt, type VectorLoads, vectorLoads } from "./matrix.ts";
import { matrixParams } from "./matrix-units.ts";
import { SHARED_K, subgroupsOf, type Tile, tilesFor, workgroupParams } from "./tiles.ts";
import { type ProductInputs, transposable, transposeOperands } from "./transpose.ts";

/** Elements that we expect to stay in the cache of a core. */
const CACHED = 2 ** 18;

/** Chooses kernel, tile and split for C = A . B and returns its dispatches. */
export const lowerMatmul: Lower = (node, cx) => {
  const [M, N] = node.shape.slice(-2);
  const [a, b] = [cx.operand(0), cx.operand(1)];
  const K = a.shape[a.shape.length - 1];
  const batch = mergeBatch(node.shape.slice(0, -2), a, b);
  if (numel(batch.sizes) * M * N === 0) return [];

  // Kernels decode three batch dims. Each index of further dims gets a call of its own.
  const outer = batch.sizes.splice(0, Math.max(batch.sizes.length - 3, 0));
  const [aOuter, bOuter] = [batch.a.splice(0, outer.length), batch.b.splice(0, outer.length)];
  const calls: KernelCall[] = [];
  for (let index = 0; index < numel(outer); index++) {
    const [aStart, bStart] = [aOuter, bOuter].map((strides) => offsetAt(index, outer, strides));
    const A = matrixOf(a, batch.sizes.length, batch.a, aStart);
    const B = matrixOf(b, batch.sizes.length, batch.b, bStart);
    const sizes = [...new Array<number>(3 - batch.sizes.length).fill(1), ...batch.sizes];
    const first = index * numel(batch.sizes);
    calls.push(...product(cx, { M, N, K, sizes, A, B, first, complete: outer.length === 0 }));
  }
  return calls;
};

/** C = A . B for at most three batch dims. */
export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Three batch dims. */
  readonly sizes: readonly number[];
  readonly A: Matrix;
  readonly B: Matrix;
  /** The batch of the output at which this product's batches start. */
  readonly first: number;
  /** Whether this product fills the output. */
  readonly complete: boolean;
  /** Set if B is a packed matrix. */
  readonly packed?: PackedOperand;
}

/** How a packed B is read. */
export interface PackedOperand {
  /** Values along k that share a scale. */
  readonly group: number;
  /** `hoisted`: the kernel asks for a scale once per group, separately from the codes. */
  reader(hoisted: boolean): Reader;
}

/** The dispatches of one product, in the order: transposes of operands, product, sum over splits of K. */
export function product(cx: LowerContext, p: Product): KernelCall[] {
  const { M, N, K, sizes, A, B, complete, packed } = p;
  const batches = numel(sizes);
  const stored = vectorLoads(M, N, K, A, B, packed !== undefined);
  const signature = { M, N, K, batches, loads: `${stored.A_VEC}${stored.B_VEC}` };
  const SG = cx.device.subgroupSize;
  if (M <= 8 && SG > 0 && B.row === 1 && complete && !packed && K >= 4 * SG && N > 4) {
    const { lanes, columns } = cx.choose("matvec", signature, fewRowCandidates(cx.device, M));
    if (lanes === "k") return [matvec(cx, p, columns, stored.A_VEC === 1 && stored.B_VEC === 1)];
  }

  const unit = matrixUnit(cx);
  const candidates = tilesFor(cx.device, { M, N, batches }, unit, transposable(cx, p, stored));
  const tile = cx.choose("matmul", signature, candidates);
  const kernel = kernelOf(tile, cx.device);
  const loads = kernel === "matmul_tiled" ? tiledLoads(stored) : stored;
  const inputs = transposeOperands(cx, p, loads, tile.transposed);
  const tiling = tilingOf(cx.device, p, tile);
  const split = tiling.splits > 1;
  const out = split ? cx.temp(4 * tiling.slices * M * N) : cx.output();
  const main = tileCall(cx, p, { kernel, tile, unit }, tiling, inputs, out);
  if (split) return [...inputs.calls, main, sumParts(out, cx.output(), tiling.splits, batches * M, N)];
  const store = tile.matrices ? undefined : columnStore(N);
  return [
    ...inputs.calls,
    { ...main, epilogue: complete ? { shape: [batches, M, N], type: "vec4f", store } : undefined },
  ];
}

type MatmulKernel = "matmul" | "matmul_tiled" | "matmul_workgroup" | "matmul_subgroup_matrix";

function kernelOf(tile: Tile, device: DeviceInfo): MatmulKernel {
  if (tile.matrices) return "matmul_subgroup_matrix";
  if (tile.lanes) return "matmul_workgroup";
  return device.subgroupSize > 0 ? "matmul" : "matmul_tiled";
}

/** The adapter's matrix unit for the operands: f16 if both are, else f32. */
function matrixUnit(cx: LowerContext): MatrixUnit | undefined {
  const halves = [0, 1].every((i) => cx.operand(i).buffer.dtype === "f16");
  return cx.device.matrixUnits.find((u) => u.component === (halves ? "f16" : "f32"));
}

/** The tiles of C, and the split of K. */
interface Tiling {
  readonly rowTiles: number;
  readonly columnTiles: number;
  /** The order of the tiles: tile i is row i / steps[0] % rowTiles, column i / steps[1] % columnTiles. */
  readonly steps: readonly [number, number];
  readonly splits: number;
  /** Products that a split sums. */
  readonly chunk: number;
  /** Batches times splits. */
  readonly slices: number;
}

function tilingOf(device: DeviceInfo, { M, N, K, sizes, complete }: Product, tile: Tile): Tiling {
  const batches = numel(sizes);
  const [rowTiles, columnTiles] = [Math.ceil(M / tile.rows), Math.ceil(N / tile.columns)];
  const { splits, chunk } = complete
    ? splitK(K, rowTiles * columnTiles * batches, busyGroups(device) / subgroupsOf(tile))
    : { splits: 1, chunk: Math.max(K, 1) };
  // Down a column of tiles, a panel of B stays in the cache, and A is read once per column of tiles. If all of B fits the
  // cache and A does not, the order along rows reads A only once.
  const alongRows = K * N <= CACHED && K * M > CACHED;
  return {
    rowTiles,
    columnTiles,
    steps: alongRows ? [columnTiles, 1] : [1, rowTiles],
    splits,
    chunk,
    slices: batches * splits,
  };
}

/** The kernel of a tile with what its parameters depend on. */
interface TileKernel {
  readonly kernel: MatmulKernel;
  readonly tile: Tile;
  readonly unit?: MatrixUnit;
}

/** The dispatch that multiplies. */
function tileCall(
  cx: LowerContext,
  { M, N, K, sizes, first, complete, packed }: Product,
  { kernel, tile, unit }: TileKernel,
  { rowTiles, columnTiles, steps, chunk, slices }: Tiling,
  { A, B, loads, copies }: ProductInputs,
  out: BufferRef,
): KernelCall {
  const batches = numel(sizes);
  const SG = cx.device.subgroupSize;
  const { KS, vectors, readers } = loopShape(kernel, tile, cx.device, loads);
  const B_GROUP = packed && kernel === "matmul" && loads.B_VEC === 1 ? packed.group : 0;
  const { alias, reads, ...bindings } = bindOperands(
    cx,
    reading(loads.A_VEC > 0, readers * columnTiles * batches * M * K, vectors[0]),
    reading(loads.B_VEC > 0, readers * rowTiles * batches * K * N, vectors[1]),
    out,
    packed?.reader(B_GROUP > 0),
    copies,
  );
  const K_GUARD = Number(K % KS !== 0);
  const storesVectors = (kernel === "matmul" || kernel === "matmul_workgroup") && N % 4 === 0;
  const C = storesVectors ? "vec4f" : "f32";
  const unsliced = kernel === "matmul" && slices === 1 && complete && Math.max(rowTiles, columnTiles) <= MAX_GROUPS;
  const tileGrid: KernelCall["grid"] = steps[0] === 1 ? [rowTiles, columnTiles, 1] : [columnTiles, rowTiles, 1];
  const params: Record<MatmulKernel, Record<string, number | string>> = {
    matmul: { SG, TM: tile.rows, KS, K_GUARD, B_GROUP, SLICED: Number(!unsliced), C },
    matmul_tiled: { TM: tile.rows / 8, K_GUARD },
    matmul_workgroup: tile.lanes ? { ...workgroupParams(tile.lanes, tile), KS, K_GUARD, C } : {},
    matmul_subgroup_matrix: unit && tile.matrices ? matrixParams(unit, SG, tile) : {},
  };
  const strides = [A.offset, ...A.batch, A.row, A.column, B.offset, ...B.batch, B.row, B.column];
  const tiles = [rowTiles, columnTiles, ...steps];
  return {
    kernel,
    params: { ...params[kernel], ...loads, ...alias },
    reads: storesVectors ? { ...reads, hooks: { ...reads?.hooks, store: STORE_4 } } : reads,
    ...bindings,
    dims: [M, N, K, chunk, ...tiles, first, slices, batches, sizes[1], sizes[2], ...strides],
    grid: unsliced ? tileGrid : grid2d(rowTiles * columnTiles * slices),
    compileMs: kernel === "matmul" || kernel === "matmul_tiled" ? 250 : undefined,
    flops: 2 * batches * M * N * K,
  };
}

/** Facts about a kernel's inner loop. */
interface LoopShape {
  /** Values along k per iteration. */
  readonly KS: number;
  /** Vec4f reads of A and of B in the unrolled shader. */
  readonly vectors: readonly [number, number];
  /** Invocations of a tile that read the same value. */
  readonly readers: number;
}

function loopShape(
  kernel: MatmulKernel,
  { rows }: Tile,
  { kind, subgroupSize: SG }: DeviceInfo,
  loads: VectorLoads,
): LoopShape {
  if (kernel === "matmul_subgroup_matrix") return { KS: 4, vectors: [1, 1], readers: 1 };
  if (kernel === "matmul_workgroup") return { KS: SHARED_K, vectors: [4, 4], readers: 1 };
  if (kernel === "matmul_tiled") return { KS: 4, vectors: [rows / 8, 4], readers: 8 };
  const acrossK = kind === "software" && loads.A_VEC === 2 && loads.B_VEC === 2;
  const KS = SG > 32 && rows === 16 ? 8 : acrossK ? 2 : 4;
  return { KS, vectors: [Math.ceil((rows * KS) / 4 / SG), KS], readers: 1 };
}

/** matmul_tiled.wgsl reads A by vec4f along k, or by scalars. */
const tiledLoads = ({ A_VEC, B_VEC }: VectorLoads): VectorLoads => ({ A_VEC: A_VEC === 2 ? 0 : A_VEC, B_VEC });

/** A product of few rows by matvec.wgsl. `vec`: it reads both operands by vec4f. */
function matvec(cx: LowerContext, { M, N, K, sizes, A, B }: Product, columns: number, vec: boolean): KernelCall {
  const batches = numel(sizes);
  const blocks = Math.ceil(N / columns);
  const { alias, ...bindings } = bindOperands(
    cx,
    { vec, loaded: blocks * batches * M * K, copies: paddedRows(M) },
    { vec, loaded: batches * K * N, copies: columns },
    cx.output(),
  );
  const [x, y] = grid2d(blocks);
  const strides = [A.offset, ...A.batch, A.row, A.column, B.offset, ...B.batch, B.column];
  return {
    kernel: "matvec",
    params: { SG: cx.device.subgroupSize, TM: paddedRows(M), COLUMNS: columns, VEC: Number(vec), ...alias },
    ...bindings,
    dims: [M, N, K, batches, sizes[1], sizes[2], ...strides],
    grid: [x, y, Math.min(batches, MAX_GROUPS)],
    epilogue: { shape: [batches, M, N], type: "vec4f" },
    flops: 2 * batches * M * N * K,
  };
}

/** Element types, hooks, buffers and prologues of the operands. `packed` reads B if it is a packed matrix. */
function bindOperands(
  cx: LowerContext,
  left: Reading,
  right: Reading,
  out: BufferRef,
  packed?: Reader,
  copies: ProductInputs["copies"] = {},
): Pick<KernelCall, "reads" | "bind" | "prologues"> & { alias: Record<"A" | "B", string> } {
  const [a, b] = [cx.operand(0).buffer, cx.operand(1).buffer];
  const x = copies.a ? F32 : readerOf(a, "a", left.vec);
  const y = packed ?? (copies.b ? F32 : readerOf(b, "b", right.vec));
  const alias = { A: left.vec ? x.vector : x.scalar, B: right.vec ? y.vector : y.scalar };
  const prologues = [
    ...(copies.a ? [] : [inputPrologue(a, "a", 0, left)]),
    ...(copies.b || packed ? [] : [inputPrologue(b, "b", 1, right)]),
  ];
  return { alias, reads: mergeReads(x, y), bind: [copies.a ?? a, copies.b ?? b, out, ...(y.bind ?? [])], prologues };
}

const paddedRows = (M: number): number => 2 ** Math.ceil(Math.log2(M));

/** A candidate for products with few rows: a subgroup's lanes along k (matvec kernels), or along n (a tile of matmul). */
export type FewRows = { readonly lanes: "k" | "n"; readonly columns: number };

/**
 * Lanes along k read whole cache lines of the weights; `columns` per subgroup. Lanes along n load fewer values per product.
 * Every load costs the same on software adapters, so lanes along n win there from two rows on.
 */
function fewRowCandidates(device: DeviceInfo, M: number): FewRows[] {
  const alongK = [4, 8, 16].filter((n) => n * paddedRows(M) <= 32).map((columns): FewRows => ({ lanes: "k", columns }));
  const alongN: FewRows = { lanes: "n", columns: 4 };
  if (device.kind !== "software") return [...alongK, alongN];
  return M > 1 ? [alongN, ...alongK] : [alongK[1], alongK[0], alongK[2], alongN];
}

const readerOf = (operand: Node, name: string, vec: boolean): Reader =>
  operand.dtype === "f16" ? halfReader(name, vec) : F32;

/**
 * Splits K until the tiles fill the adapter, which has room for `wanted` of them. A split sums at least 256 products, in a
 * multiple of `unit`.
 */
export function splitK(K: number, tiles: number, wanted: number, unit = 16): { splits: number; chunk: number } {
  const splits = Math.min(Math.floor(wanted / tiles), Math.floor(K / 256), 64);
  if (splits < 2) return { splits: 1, chunk: Math.max(K, 1) };
  const chunk = Math.ceil(K / splits / unit) * unit;
  return { splits: Math.ceil(K / chunk), chunk };
}
