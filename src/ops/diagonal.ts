import { add, constant, type Index } from "../graph/index-map.ts";
import { checkOptions } from "../graph/options.ts";
import { normalizeDim, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { tensor } from "./leaf.ts";
import { positionsAlong } from "./reduce.ts";
import { movedim } from "./shape.ts";

export interface DiagonalOptions {
  /** 0 (default): the main diagonal. Above 0: that many columns to the right; below 0: rows down. */
  offset?: number;
  /** The dim of the rows. */
  dim1?: number;
  /** The dim of the columns. */
  dim2?: number;
}

interface DiagonalAttrs extends Record<string, unknown> {
  offset: number;
}

/** First row and column of a diagonal. */
const startOf = (offset: number): [row: number, column: number] => [Math.max(-offset, 0), Math.max(offset, 0)];

/** The diagonal of the last two dims: [..., m, n] -> [..., length]. */
const diagonalOp = defineOp<DiagonalAttrs>({
  name: "diagonal",
  kind: "view",
  viewIndex: (index, { offset }) => {
    const [row, column] = startOf(offset);
    const at = index[index.length - 1];
    const inner: Index[] = [...index.slice(0, -1), add(at, constant(row)), add(at, constant(column))];
    return { index: inner };
  },
  vjp: (g, _y, [x], { offset }) => [embed(g, offset, x.shape[x.ndim - 2], x.shape[x.ndim - 1])],
});

/** The last dim of x on a diagonal of new last dims [rows, columns]; zeros elsewhere. */
function embed(x: Tensor, offset: number, rows: number, columns: number): Tensor {
  const [row] = startOf(offset);
  const length = x.shape[x.ndim - 1];
  const perRow = x.pad(x.shape.map((_, d) => (d === x.ndim - 1 ? [row, rows - row - length] : [0, 0]))).unsqueeze(-1);
  const distance = positionsAlong(1, columns, 2).sub(positionsAlong(0, rows, 2));
  return where(distance.eq(offset), perRow, full([], 0, x.dtype));
}

function checkOffset(op: string, offset: number): void {
  if (!Number.isInteger(offset)) throw new RangeError(`${op}: offset ${offset}: expected a whole number`);
}

/** Two different dims of `rank`, in [0, rank). */
function planeOf(op: string, x: Tensor, dim1: number, dim2: number, rank: number): [number, number] {
  const [a, b] = [normalizeDim(op, dim1, rank), normalizeDim(op, dim2, rank)];
  if (rank < 2 || a === b)
    throw new Error(`${op}: dims ${dim1} and ${dim2} for ${show(x.shape)}: expected two different dims`);
  return [a, b];
}

/** A diagonal of two dims as a new last dim: [m, n] -> [length]. A view; its length may be 0. */
export function diagonal(x: Tensor, options: DiagonalOptions = {}): Tensor {
  checkOptions("diagonal", options, ["offset", "dim1", "dim2"]);
  const { offset = 0, dim1 = 0, dim2 = 1 } = options;
  checkOffset("diagonal", offset);
  const [a, b] = planeOf("diagonal", x, dim1, dim2, x.ndim);
  const last = movedim(x, [a, b], [-2, -1]);
  const [row, column] = startOf(offset);
  const length = Math.max(0, Math.min(x.shape[a] - row, x.shape[b] - column));
  return apply(diagonalOp, [last], { offset }, [...last.shape.slice(0, -2), length], x.dtype);
}

/** Puts the last dim of x on a diagonal of two new dims, by default the last two: [..., n] -> [..., n + |offset|, n + |offset|]. */
export function diagEmbed(x: Tensor, options: DiagonalOptions = {}): Tensor {
  checkOptions("diagEmbed", options, ["offset", "dim1", "dim2"]);
  const { offset = 0, dim1 = -2, dim2 = -1 } = options;
  checkOffset("diagEmbed", offset);
  if (x.ndim === 0) throw new Error("diagEmbed: expected at least one dim, got a scalar");
  const [a, b] = planeOf("diagEmbed", x, dim1, dim2, x.ndim + 1);
  const size = x.shape[x.ndim - 1] + Math.abs(offset);
  return movedim(embed(x, offset, size, size), [-2, -1], [a, b]);
}

/** Of a vector: the matrix with it on a diagonal. Of a matrix: that diagonal. */
export function diag(x: Tensor, diagonalAt = 0): Tensor {
  if (x.ndim === 1) return diagEmbed(x, { offset: diagonalAt });
  if (x.ndim === 2) return diagonal(x, { offset: diagonalAt });
  throw new Error(`diag: expected a vector or a matrix, got ${show(x.shape)}: diagonal and diagEmbed take more dims`);
}

/** i32 [2, n]: rows and columns of the elements on and below a diagonal of a rows × columns matrix, in row-major order. */
export const trilIndices = (rows: number, columns: number, offset = 0): Tensor =>
  triangleIndices("trilIndices", rows, columns, offset, (distance) => distance <= offset);
/** i32 [2, n]: rows and columns of the elements on and above a diagonal of a rows × columns matrix, in row-major order. */
export const triuIndices = (rows: number, columns: number, offset = 0): Tensor =>
  triangleIndices("triuIndices", rows, columns, offset, (distance) => distance >= offset);

function triangleIndices(
  op: string,
  rows: number,
  columns: number,
  offset: number,
  inside: (distance: number) => boolean,
): Tensor {
  checkOffset(op, offset);
  if (![rows, columns].every((n) => Number.isInteger(n) && n >= 0))
    throw new RangeError(`${op}: ${rows} rows and ${columns} columns: expected whole numbers`);
  const at: [number[], number[]] = [[], []];
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++)
      if (inside(c - r)) {
        at[0].push(r);
        at[1].push(c);
      }
  return tensor(Int32Array.from(at.flat()), { shape: [2, at[0].length] });
}
