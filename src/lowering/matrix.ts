import type { Operand } from "../graph/kernel-call.ts";
import type { Shape } from "../graph/shape.ts";

/** A matrix operand: offset, three batch strides, and the strides between rows and between columns, in elements. */
export interface Matrix {
  readonly offset: number;
  readonly batch: readonly number[];
  readonly row: number;
  readonly column: number;
}

/** Sizes of batch dims, and the strides of both operands along them. */
interface Batch {
  readonly sizes: number[];
  readonly a: number[];
  readonly b: number[];
}

/** The batch dims of both operands, broadcast with stride 0. Adjacent dims are merged where the strides of both allow it. */
export function mergeBatch(shape: Shape, a: Operand, b: Operand): Batch {
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

/** The last two dims of `x` as a matrix. `dims` batch dims remain, with `strides`; `start` is added to the offset. */
export function matrixOf(x: Operand, dims: number, strides: readonly number[], start: number): Matrix {
  const rank = x.shape.length;
  const stride = (d: number): number => (x.shape[d] === 1 ? 0 : x.strides[d]); // a dim of size 1 may have any stride
  const [row, column] = [stride(rank - 2), stride(rank - 1)];
  return { offset: x.offset + start, batch: [...new Array<number>(3 - dims).fill(0), ...strides], row, column };
}

/** Offset of the `index`-th element, in row-major order, of a view with these sizes and strides. */
export function offsetAt(index: number, sizes: readonly number[], strides: readonly number[]): number {
  let offset = 0;
  for (let d = sizes.length - 1; d >= 0; d--) {
    offset += (index % sizes[d]) * strides[d];
    index = Math.floor(index / sizes[d]);
  }
  return offset;
}

/** How operands are read: 0 by scalars, 1 by vec4f along k, 2 by vec4f along m (A) or n (B). Parameters of the kernels. */
export interface VectorLoads {
  readonly A_VEC: number;
  readonly B_VEC: number;
}

/** By vec4f where stride 1 and alignment allow it. The rows of a packed matrix are padded, so any size of it qualifies. */
export function vectorLoads(M: number, N: number, K: number, A: Matrix, B: Matrix, packed: boolean): VectorLoads {
  const alongK = K % 4 === 0 && aligned(A, "column");
  const alongM = M % 4 === 0 && aligned(A, "row");
  const A_VEC = alongK ? 1 : alongM ? 2 : 0;
  const fits = (n: number): boolean => packed || n % 4 === 0;
  const B_VEC = fits(N) && aligned(B, "column") ? 2 : fits(K) && aligned(B, "row") ? 1 : 0;
  return { A_VEC, B_VEC };
}

/** Whether vec4f reads along `unit` are aligned: stride 1 there, all other strides and the offset multiples of 4. */
function aligned(x: Matrix, unit: "row" | "column"): boolean {
  const other = unit === "row" ? x.column : x.row;
  return x[unit] === 1 && [x.offset, other, ...x.batch].every((n) => n % 4 === 0);
}
