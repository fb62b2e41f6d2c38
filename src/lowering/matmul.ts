import type { DeviceInfo } from "../graph/device-info.ts";
import type { BufferRef, KernelCall, Lower, LowerContext, Operand } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { numel, type Shape } from "../graph/shape.ts";
import { both, F32, halves, made, type Reader, type Reading, reading } from "./formats.ts";
import { busyGroups, columnStore, grid2d, MAX_GROUPS, sumParts } from "./grid.ts";
import { matrixParams } from "./matrix-units.ts";
import { SHARED_K, sharedParams, subgroupsOf, type Tile, tilesFor } from "./tiles.ts";
import { type Turned, turn, turnable } from "./transpose.ts";

/** Elements that a core's cache is trusted to hold. */
const CACHED = 2 ** 18;

/** A matrix operand: offset, three batch strides, and the strides of its rows and columns. */
export interface Matrix {
  readonly offset: number;
  readonly batch: readonly number[];
  readonly row: number;
  readonly column: number;
}

interface Batch {
  readonly sizes: number[];
  readonly a: number[];
  readonly b: number[];
}

/** Chooses kernel, tile and split for C = A . B and returns its dispatches. */
export const lowerMatmul: Lower = (node, cx) => {
  const [M, N] = node.shape.slice(-2);
  const [a, b] = [cx.operand(0), cx.operand(1)];
  const K = a.shape[a.shape.length - 1];
  const batch = mergeBatch(node.shape.slice(0, -2), a, b);
  if (numel(batch.sizes) * M * N === 0) return [];

  // A kernel decodes three batch dims; what is left over becomes one call per index.
  const outer = batch.sizes.splice(0, Math.max(batch.sizes.length - 3, 0));
  const [aOuter, bOuter] = [batch.a.splice(0, outer.length), batch.b.splice(0, outer.length)];
  const calls: KernelCall[] = [];
  for (let index = 0; index < numel(outer); index++) {
    const [aStart, bStart] = [aOuter, bOuter].map((strides) => offsetAt(index, outer, strides));
    const A = matrix(a, batch.sizes.length, batch.a, aStart);
    const B = matrix(b, batch.sizes.length, batch.b, bStart);
    const sizes = [...new Array<number>(3 - batch.sizes.length).fill(1), ...batch.sizes];
    const first = index * numel(batch.sizes);
    calls.push(...product(cx, { M, N, K, sizes, A, B, first, only: outer.length === 0 }));
  }
  return calls;
};

/** One call's worth of C = A . B. */
export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Three batch dims. */
  readonly sizes: readonly number[];
  readonly A: Matrix;
  readonly B: Matrix;
  /** Where in C its batches begin. */
  readonly first: number;
  /** Whether it is all of C. */
  readonly only: boolean;
  /** B, when it is no tensor of floats. */
  readonly packed?: PackedOperand;
}

/** How a packed matrix is read; `hoisted`: its scales are asked for separately, once for `group` neighbours along k. */
export interface PackedOperand {
  readonly group: number;
  reader(hoisted: boolean): Reader;
}

export function product(cx: LowerContext, p: Product): KernelCall[] {
  const { M, N, K, sizes, first, only, packed } = p;
  const { device } = cx;
  const SG = device.subgroupSize;
  const batches = numel(sizes);
  const lying = loads(M, N, K, p.A, p.B, packed !== undefined);
  const signature = { M, N, K, batches, loads: `${lying.A_VEC}${lying.B_VEC}` };
  if (M <= 8 && SG > 0 && p.B.row === 1 && only && !packed && K >= 4 * SG && N > 4) {
    const way = cx.choose("matvec", signature, fewRows(device, M));
    if (way.lanes === "k") return [matvec(cx, p, way.columns, lying.A_VEC === 1 && lying.B_VEC === 1)];
  }

  const [a, b] = [cx.operand(0).buffer, cx.operand(1).buffer];
  const halved = a.dtype === "f16" && b.dtype === "f16";
  const unit = device.matrixUnits.find((u) => u.component === (halved ? "f16" : "f32"));
  const turned = turnable(cx, p, lying);
  const tile = cx.choose("matmul", signature, tilesFor(device, { M, N, batches }, unit, turned));
  const kernel = kernelOf(tile, device);
  const { A, B, vec, copies, calls } = turn(cx, p, kernel === "matmul_tiled" ? tiledLoads(lying) : lying, tile.turned);
  const [rowTiles, columnTiles] = [Math.ceil(M / tile.rows), Math.ceil(N / tile.columns)];
  const split = only
    ? splitK(K, rowTiles * columnTiles * batches, busyGroups(device) / subgroupsOf(tile))
    : { splits: 1, chunk: Math.max(K, 1) };
  const { KS, fours, readers } = traitsOf(kernel, tile, device, vec);
  const slices = batches * split.splits;
  const strides = [A.offset, ...A.batch, A.row, A.column, B.offset, ...B.batch, B.row, B.column];
  // Rows first: a panel of B stays in the cache while A streams by, column tiles times over. Columns first pays when B fits whole.
  const columnsFirst = K * N <= CACHED && K * M > CACHED;
  const steps = columnsFirst ? [columnTiles, 1] : [1, rowTiles];
  const dims = [
    M,
    N,
    K,
    split.chunk,
    rowTiles,
    columnTiles,
    ...steps,
    first,
    slices,
    batches,
    sizes[1],
    sizes[2],
    ...strides,
  ];
  const out = split.splits > 1 ? cx.temp(4 * slices * M * N) : cx.output();
  const B_GROUP = packed && kernel === "matmul" && vec.B_VEC === 1 ? packed.group : 0;
  const { alias, reads, ...operands } = access(
    cx,
    reading(vec.A_VEC > 0, readers * columnTiles * batches * M * K, fours[0]),
    reading(vec.B_VEC > 0, readers * rowTiles * batches * K * N, fours[1]),
    out,
    packed?.reader(B_GROUP > 0),
    copies,
  );
  const K_GUARD = Number(K % KS !== 0);
  const quads = (kernel === "matmul" || kernel === "matmul_workgroup") && N % 4 === 0;
  const C = quads ? "vec4f" : "f32";
  const whole = kernel === "matmul" && slices === 1 && only && Math.max(rowTiles, columnTiles) <= MAX_GROUPS;
  const tilesOnly: KernelCall["grid"] = steps[0] === 1 ? [rowTiles, columnTiles, 1] : [columnTiles, rowTiles, 1];
  const size: Record<string, Record<string, number | string>> = {
    matmul: { SG, TM: tile.rows, KS, K_GUARD, B_GROUP, SLICED: Number(!whole), C },
    matmul_tiled: { TM: tile.rows / 8, K_GUARD },
    matmul_workgroup: tile.lanes ? { ...sharedParams(tile.lanes, tile), KS, K_GUARD, C } : {},
    matmul_subgroup_matrix: unit && tile.matrices ? matrixParams(unit, SG, tile) : {},
  };
  const main: KernelCall = {
    kernel,
    params: { ...size[kernel], ...vec, ...alias },
    reads: quads ? { ...reads, hooks: { ...reads?.hooks, store: STORE_4 } } : reads,
    ...operands,
    dims,
    grid: whole ? tilesOnly : grid2d(rowTiles * columnTiles * slices),
    compileMs: kernel === "matmul" || kernel === "matmul_tiled" ? 250 : undefined,
    flops: 2 * batches * M * N * K,
  };
  if (split.splits > 1) return [...calls, main, sumParts(out, cx.output(), split.splits, batches * M, N)];
  const store = tile.matrices ? undefined : columnStore(N);
  return [...calls, { ...main, epilogue: only ? { shape: [batches, M, N], type: "vec4f", store } : undefined }];
}

type MatmulKernel = "matmul" | "matmul_tiled" | "matmul_workgroup" | "matmul_subgroup_matrix";

function kernelOf(tile: Tile, device: DeviceInfo): MatmulKernel {
  if (tile.matrices) return "matmul_subgroup_matrix";
  if (tile.lanes) return "matmul_workgroup";
  return device.subgroupSize > 0 ? "matmul" : "matmul_tiled";
}

/** k a turn, how many groups of four values of A and B stand in the unrolled text, and how many lanes read the same value. */
interface Traits {
  readonly KS: number;
  readonly fours: readonly [number, number];
  readonly readers: number;
}

function traitsOf(kernel: MatmulKernel, { rows }: Tile, { kind, subgroupSize: SG }: DeviceInfo, vec: Loads): Traits {
  if (kernel === "matmul_subgroup_matrix") return { KS: 4, fours: [1, 1], readers: 1 };
  if (kernel === "matmul_workgroup") return { KS: SHARED_K, fours: [4, 4], readers: 1 };
  if (kernel === "matmul_tiled") return { KS: 4, fours: [rows / 8, 4], readers: 8 };
  const across = kind === "software" && vec.A_VEC === 2 && vec.B_VEC === 2;
  const KS = SG > 32 && rows === 16 ? 8 : across ? 2 : 4;
  return { KS, fours: [Math.ceil((rows * KS) / 4 / SG), KS], readers: 1 };
}

/** matmul_tiled.wgsl reads A by vec4f along k or by scalars. */
const tiledLoads = ({ A_VEC, B_VEC }: Loads): Loads => ({ A_VEC: A_VEC === 2 ? 0 : A_VEC, B_VEC });

/** Few rows, lanes along k; `four`: read four values at a time. */
function matvec(cx: LowerContext, { M, N, K, sizes, A, B }: Product, columns: number, four: boolean): KernelCall {
  const batches = numel(sizes);
  const blocks = Math.ceil(N / columns);
  const { alias, ...operands } = access(
    cx,
    { vec: four, loaded: blocks * batches * M * K, copies: rowsOf(M) },
    { vec: four, loaded: batches * K * N, copies: columns },
    cx.output(),
  );
  const [x, y] = grid2d(blocks);
  const strides = [A.offset, ...A.batch, A.row, A.column, B.offset, ...B.batch, B.column];
  return {
    kernel: "matvec",
    params: { SG: cx.device.subgroupSize, TM: rowsOf(M), COLUMNS: columns, VEC: Number(four), ...alias },
    ...operands,
    dims: [M, N, K, batches, sizes[1], sizes[2], ...strides],
    grid: [x, y, Math.min(batches, MAX_GROUPS)],
    epilogue: { shape: [batches, M, N], type: "vec4f" },
    flops: 2 * batches * M * N * K,
  };
}

/** Aliases, hooks and buffers of the operands; `packed` reads B if it is no tensor of floats. */
function access(
  cx: LowerContext,
  left: Reading,
  right: Reading,
  out: BufferRef,
  packed?: Reader,
  copies: Turned["copies"] = {},
): Pick<KernelCall, "reads" | "bind" | "prologues"> & { alias: Record<"A" | "B", string> } {
  const [a, b] = [cx.operand(0).buffer, cx.operand(1).buffer];
  const x = copies.a ? F32 : readerOf(a, "a", left.vec);
  const y = packed ?? (copies.b ? F32 : readerOf(b, "b", right.vec));
  const alias = { A: left.vec ? x.four : x.one, B: right.vec ? y.four : y.one };
  const prologues = [
    ...(copies.a ? [] : [made(a, "a", 0, left)]),
    ...(copies.b || packed ? [] : [made(b, "b", 1, right)]),
  ];
  return { alias, reads: both(x, y), bind: [copies.a ?? a, copies.b ?? b, out, ...(y.bind ?? [])], prologues };
}

const rowsOf = (M: number): number => 2 ** Math.ceil(Math.log2(M));

/** How few rows of a product with [N, K] weights are computed. */
export type FewRows = { readonly lanes: "k" | "n"; readonly columns: number };

/**
 * Lanes along k (matvec.wgsl, `columns` a subgroup) read whole lines of the weights, lanes along n (a tile of matmul.wgsl)
 * load less for each product: as every load costs the same on software adapters, they win there from two rows on.
 */
function fewRows(device: DeviceInfo, M: number): FewRows[] {
  const alongK = [4, 8, 16].filter((n) => n * rowsOf(M) <= 32).map((columns): FewRows => ({ lanes: "k", columns }));
  const alongN: FewRows = { lanes: "n", columns: 4 };
  if (device.kind !== "software") return [...alongK, alongN];
  return M > 1 ? [alongN, ...alongK] : [alongK[1], alongK[0], alongK[2], alongN];
}

/** Body of `fn store` where rows of C are whole vec4f. */
const STORE_4 = "if (column < dims.N) { c[at / 4u] = value; }";

const readerOf = (operand: Node, name: string, vec: boolean): Reader =>
  operand.dtype === "f16" ? halves(name, vec) : F32;

export interface Loads {
  readonly A_VEC: number;
  readonly B_VEC: number;
}

/** How the operands are read: four at a time where stride 1 and alignment allow. Rows of packed weights are padded. */
function loads(M: number, N: number, K: number, A: Matrix, B: Matrix, packed: boolean): Loads {
  const alongK = K % 4 === 0 && aligned(A, "column");
  const alongM = M % 4 === 0 && aligned(A, "row");
  const A_VEC = alongK ? 1 : alongM ? 2 : 0;
  const fits = (n: number): boolean => packed || n % 4 === 0;
  const B_VEC = fits(N) && aligned(B, "column") ? 2 : fits(K) && aligned(B, "row") ? 1 : 0;
  return { A_VEC, B_VEC };
}

/** Whether the matrix can be read as vec4f along `unit`: stride 1 there, everything else a multiple of 4. */
function aligned(x: Matrix, unit: "row" | "column"): boolean {
  const other = unit === "row" ? x.column : x.row;
  return x[unit] === 1 && [x.offset, other, ...x.batch].every((n) => n % 4 === 0);
}

/** Cuts K so that few tiles still fill the adapter; a split sums at least 256 products and a multiple of `unit`. */
export function splitK(K: number, tiles: number, wanted: number, unit = 16): { splits: number; chunk: number } {
  const splits = Math.min(Math.floor(wanted / tiles), Math.floor(K / 256), 64);
  if (splits < 2) return { splits: 1, chunk: Math.max(K, 1) };
  const chunk = Math.ceil(K / splits / unit) * unit;
  return { splits: Math.ceil(K / chunk), chunk };
}

/** Batch dims of both operands, broadcast (stride 0), with neighbours merged where both allow it. */
function mergeBatch(shape: Shape, a: Operand, b: Operand): Batch {
  const out: Batch = { sizes: [], a: [], b: [] };
  const rank = shape.length;
  const strideOf = (x: Operand, d: number): number => {
    const at = d - rank + x.shape.length - 2;
    return at < 0 || x.shape[at] === 1 ? 0 : x.strides[at];
  };
  for (let d = 0; d < rank; d++) {
    if (shape[d] === 1) continue;
    const [sa, sb] = [strideOf(a, d), strideOf(b, d)];
    const last = out.sizes.length - 1;
    if (last >= 0 && out.a[last] === sa * shape[d] && out.b[last] === sb * shape[d]) {
      out.sizes[last] *= shape[d];
      [out.a[last], out.b[last]] = [sa, sb];
    } else {
      out.sizes.push(shape[d]);
      out.a.push(sa);
      out.b.push(sb);
    }
  }
  return out;
}

function matrix(x: Operand, dims: number, strides: readonly number[], start: number): Matrix {
  const rank = x.shape.length;
  const stride = (d: number): number => (x.shape[d] === 1 ? 0 : x.strides[d]); // a dim of 1 has no stride that matters
  const [row, column] = [stride(rank - 2), stride(rank - 1)];
  return { offset: x.offset + start, batch: [...new Array<number>(3 - dims).fill(0), ...strides], row, column };
}

function offsetAt(index: number, sizes: readonly number[], strides: readonly number[]): number {
  let offset = 0;
  for (let d = sizes.length - 1; d >= 0; d--) {
    offset += (index % sizes[d]) * strides[d];
    index = Math.floor(index / sizes[d]);
  }
  return offset;
}
