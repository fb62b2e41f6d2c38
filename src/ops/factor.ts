import { numel, type Shape, show } from "../graph/shape.ts";
import { apply, applyMany, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";

// Factorisations of small matrices, f32 [..., m, n]: one workgroup per matrix. linalg.ts builds functions with gradients on them.

/** Number of matrices in [..., m, n]. */
const count = (shape: Shape): number => numel(shape.slice(0, -2));

/** Rows of matrix `b` of a flat array, as copies. */
const rowsOf = (data: Float64Array, b: number, m: number, n: number): Float64Array[] =>
  Array.from({ length: m }, (_, i) => data.slice((b * m + i) * n, (b * m + i + 1) * n));

/** a [..., n, n] -> packed L and U [..., n, n], row order i32 [..., n], sign of the order f32 [...]. */
const luOp = defineOp({
  name: "lu",
  kind: "kernel",
  vjp: () => [null], // det, inverse and solve have gradients of their own
  reference: ([a], _attrs, { outputs }) => {
    const n = a.shape[a.shape.length - 1];
    const batch = count(a.shape);
    const [lu, perm, sign] = outputs!.map(({ shape, dtype }) => ({
      data: new Float64Array(numel(shape)),
      shape,
      dtype,
    }));
    for (let b = 0; b < batch; b++) {
      const rows = rowsOf(a.data, b, n, n);
      const order = rows.map((_, i) => i);
      let parity = 1;
      for (let k = 0; k < n; k++) {
        let pivot = k;
        for (let i = k + 1; i < n; i++) if (Math.abs(rows[i][k]) > Math.abs(rows[pivot][k])) pivot = i;
        if (pivot !== k) {
          [rows[k], rows[pivot]] = [rows[pivot], rows[k]];
          [order[k], order[pivot]] = [order[pivot], order[k]];
          parity = -parity;
        }
        if (rows[k][k] === 0) continue;
        for (let i = k + 1; i < n; i++) {
          rows[i][k] /= rows[k][k];
          for (let j = k + 1; j < n; j++) rows[i][j] -= rows[i][k] * rows[k][j];
        }
      }
      for (const [i, row] of rows.entries()) lu.data.set(row, (b * n + i) * n);
      perm.data.set(order, b * n);
      sign.data[b] = parity;
    }
    return [lu, perm, sign];
  },
});

/** Row i of L U is row `perm[i]` of a. L has a unit diagonal. */
export interface Lu {
  /** L below the diagonal, U on it and above: f32 [..., n, n]. */
  lu: Tensor;
  /** i32 [..., n]. */
  perm: Tensor;
  /** 1 or -1: the determinant of the row exchanges, f32 [...]. */
  sign: Tensor;
}

export function luFactor(a: Tensor): Lu {
  const shape = square("lu", a).shape;
  const batch = shape.slice(0, -2);
  const [lu, perm, sign] = applyMany(luOp, [a.to("f32")], {}, [
    { shape, dtype: "f32" },
    { shape: shape.slice(0, -1), dtype: "i32" },
    { shape: batch, dtype: "f32" },
  ]);
  return { lu, perm, sign };
}

const choleskyOp = defineOp({
  name: "cholesky",
  kind: "kernel",
  // Φ halves the diagonal of a lower triangle: dL = L Φ(L⁻¹ dA L⁻ᵀ). Murray 2016, https://arxiv.org/abs/1602.07527.
  vjp: (g, y) => {
    const lower = y.transpose(-1, -2).matmul(g).tril();
    const halved = lower.sub(lower.sub(lower.tril(-1)).mul(0.5));
    const left = triangularSolve(y.transpose(-1, -2), halved, { upper: true }); // L⁻ᵀ Φ
    const both = triangularSolve(y.transpose(-1, -2), left.transpose(-1, -2), { upper: true }); // (L⁻ᵀ Φ L⁻¹)ᵀ
    return [both.add(both.transpose(-1, -2)).mul(0.5)];
  },
  reference: ([a], _attrs, { shape, dtype }) => {
    const n = shape[shape.length - 1];
    const data = new Float64Array(a.data.length);
    for (let base = 0; base < data.length; base += n * n) {
      for (let i = 0; i < n; i++) {
        for (let j = 0; j <= i; j++) {
          let rest = a.data[base + i * n + j];
          for (let k = 0; k < j; k++) rest -= data[base + i * n + k] * data[base + j * n + k];
          data[base + i * n + j] = i === j ? Math.sqrt(rest) : rest / data[base + j * n + j];
        }
      }
    }
    return { data, shape, dtype };
  },
});

/** L of a = L Lᵀ, lower triangular. */
export const choleskyFactor = (a: Tensor): Tensor => {
  const { shape } = square("cholesky", a);
  return apply(choleskyOp, [a.to("f32")], {}, shape, "f32");
};

interface Triangle {
  /** a is upper triangular. Default false. */
  upper?: boolean;
  /** The diagonal of a counts as 1. Default false. */
  unitriangular?: boolean;
}

const triangularOp = defineOp<{ upper: boolean; unit: boolean }>({
  name: "triangular_solve",
  kind: "kernel",
  vjp: (g, y, [a], { upper, unit }) => {
    const gb = triangularSolve(a.transpose(-1, -2), g, { upper: !upper, unitriangular: unit });
    const full = gb.matmul(y.transpose(-1, -2)).neg();
    const diagonal = unit ? 1 : 0;
    return [upper ? full.triu(diagonal) : full.tril(-diagonal), gb];
  },
  reference: ([a, b], { upper, unit }, { shape, dtype }) => {
    const [n, columns] = shape.slice(-2);
    const data = new Float64Array(b.data.length);
    for (let matrix = 0; matrix < count(shape); matrix++) {
      const rows = rowsOf(a.data, matrix, n, n);
      for (let c = 0; c < columns; c++) {
        const at = (i: number): number => (matrix * n + i) * columns + c;
        for (let step = 0; step < n; step++) {
          const i = upper ? n - 1 - step : step;
          let rest = b.data[at(i)];
          for (let j = upper ? i + 1 : 0; j < (upper ? n : i); j++) rest -= rows[i][j] * data[at(j)];
          data[at(i)] = unit ? rest : rest / rows[i][i];
        }
      }
    }
    return { data, shape, dtype };
  },
});

/** X of a X = b for triangular a [..., n, n] and b [..., n, k], with equal batch dims. The other triangle of a is not read. */
export const triangularSolve = (a: Tensor, b: Tensor, { upper = false, unitriangular = false }: Triangle): Tensor =>
  apply(triangularOp, [a.to("f32"), b.to("f32")], { upper, unit: unitriangular }, b.shape, "f32");

/** a [..., m, n] -> Q [..., m, k], R [..., k, n] with k = min(m, n). */
const qrOp = defineOp({
  name: "qr",
  kind: "kernel",
  vjp: ([gq, gr]: [Tensor | null, Tensor | null], [q, r]: Tensor[], [a]) => {
    if (a.shape[a.ndim - 2] < a.shape[a.ndim - 1])
      throw new Error(`qr: no gradient for ${show(a.shape)}: at least as many rows as columns are needed`);
    const up = gr ? r.matmul(gr.transpose(-1, -2)) : undefined;
    const down = gq ? gq.transpose(-1, -2).matmul(q) : undefined;
    const m = up && down ? up.sub(down) : (up ?? down!.neg());
    const symmetric = m.tril().add(m.tril(-1).transpose(-1, -2));
    const inner = gq ? gq.add(q.matmul(symmetric)) : q.matmul(symmetric);
    return [triangularSolve(r, inner.transpose(-1, -2), { upper: true }).transpose(-1, -2)]; // inner R⁻ᵀ
  },
  reference: ([a], _attrs, { outputs }) => {
    const [m, n] = a.shape.slice(-2);
    const k = Math.min(m, n);
    const [q, r] = outputs!.map(({ shape, dtype }) => ({ data: new Float64Array(numel(shape)), shape, dtype }));
    for (let b = 0; b < count(a.shape); b++) {
      const rows = rowsOf(a.data, b, m, n);
      const basis = rows.map((_, i) => Float64Array.from({ length: m }, (_, j) => Number(i === j)));
      for (let j = 0; j < k; j++) {
        const v = rows.map((row, i) => (i < j ? 0 : row[j]));
        if (!v.some((x, i) => i > j && x !== 0)) continue;
        v[j] += (v[j] < 0 ? -1 : 1) * Math.hypot(...v); // a_j - R[j, j] e_j, with R[j, j] of the other sign
        const squares = v.reduce((sum, x) => sum + x * x, 0);
        reflect(rows, n, true);
        reflect(basis, m, false);

        /** H x (on the left) or x H, with H = I - 2 v vᵀ / vᵀv. */
        function reflect(x: Float64Array[], width: number, left: boolean): void {
          if (left) {
            for (let c = 0; c < width; c++) {
              const dot = (2 / squares) * v.reduce((sum, vi, i) => sum + vi * x[i][c], 0);
              for (const [i, vi] of v.entries()) x[i][c] -= vi * dot;
            }
          } else {
            for (const row of x) {
              const dot = (2 / squares) * v.reduce((sum, vi, i) => sum + vi * row[i], 0);
              for (const [i, vi] of v.entries()) row[i] -= vi * dot;
            }
          }
        }
      }
      for (let i = 0; i < m; i++) q.data.set(basis[i].subarray(0, k), (b * m + i) * k);
      for (let i = 0; i < k; i++)
        r.data.set(
          rows[i].map((x, c) => (c < i ? 0 : x)),
          (b * k + i) * n,
        );
    }
    return [q, r];
  },
});

export function qrFactor(a: Tensor): { q: Tensor; r: Tensor } {
  const { shape } = matrix("qr", a);
  const [m, n] = shape.slice(-2);
  const [batch, k] = [shape.slice(0, -2), Math.min(m, n)];
  const [q, r] = applyMany(qrOp, [a.to("f32")], {}, [
    { shape: [...batch, m, k], dtype: "f32" },
    { shape: [...batch, k, n], dtype: "f32" },
  ]);
  return { q, r };
}

/** Rotation that makes the off-diagonal element of [[x, z], [z, y]] zero. */
function rotation(x: number, y: number, z: number): [c: number, s: number] {
  const theta = (y - x) / (2 * z);
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(1, theta));
  const c = 1 / Math.hypot(1, t);
  return [c, t * c];
}

/** Rotates columns p and q of rows. */
function rotate(rows: Float64Array[], p: number, q: number, [c, s]: readonly [number, number]): void {
  for (const row of rows) [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]];
}

/** Sweeps until Jacobi rotations of n columns have converged: quadratic, so a few more for large n. */
const sweepsOf = (n: number): number => (n < 2 ? 0 : 6 + Math.ceil(Math.log2(n)));

/** Symmetric a [..., n, n] -> eigenvalues [..., n] in no order, eigenvectors in the columns of [..., n, n]. */
const eighOp = defineOp({
  name: "eigh",
  kind: "kernel",
  vjp: ([gw, gv]: [Tensor | null, Tensor | null], [w, v]: Tensor[]) => {
    const vt = v.transpose(-1, -2);
    let inner = gw ? diagonalMatrix(gw) : undefined;
    if (gv) {
      const gap = w.unsqueeze(-2).sub(w.unsqueeze(-1)); // w[j] - w[i]
      const turned = vt
        .matmul(gv)
        .mul(gap.eq(0).logicalNot().to("f32"))
        .div(gap.add(gap.eq(0).to("f32")));
      inner = inner ? inner.add(turned) : turned;
    }
    const g = v.matmul(inner!).matmul(vt);
    return [g.add(g.transpose(-1, -2)).mul(0.5)];
  },
  reference: ([a], _attrs, { outputs }) => {
    const n = a.shape[a.shape.length - 1];
    const [w, v] = outputs!.map(({ shape, dtype }) => ({ data: new Float64Array(numel(shape)), shape, dtype }));
    for (let b = 0; b < count(a.shape); b++) {
      const rows = rowsOf(a.data, b, n, n);
      for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) rows[i][j] = rows[j][i];
      const vectors = rows.map((_, i) => Float64Array.from({ length: n }, (_, j) => Number(i === j)));
      for (let sweep = 0; sweep < 4 * sweepsOf(n); sweep++) {
        for (let p = 0; p < n; p++) {
          for (let q = p + 1; q < n; q++) {
            if (rows[p][q] === 0) continue;
            const turn = rotation(rows[p][p], rows[q][q], rows[p][q]);
            rotate(rows, p, q, turn);
            const [x, y] = [rows[p].slice(), rows[q].slice()];
            for (let i = 0; i < n; i++) {
              rows[p][i] = turn[0] * x[i] - turn[1] * y[i];
              rows[q][i] = turn[1] * x[i] + turn[0] * y[i];
            }
            rotate(vectors, p, q, turn);
          }
        }
      }
      for (let i = 0; i < n; i++) {
        w.data[b * n + i] = rows[i][i];
        v.data.set(vectors[i], (b * n + i) * n);
      }
    }
    return [w, v];
  },
});

export function eighFactor(a: Tensor): { w: Tensor; v: Tensor } {
  const { shape } = square("eigh", a);
  const sweeps = sweepsOf(shape[shape.length - 1]);
  const [w, v] = applyMany(eighOp, [a.to("f32")], { sweeps }, [
    { shape: shape.slice(0, -1), dtype: "f32" },
    { shape, dtype: "f32" },
  ]);
  return { w, v };
}

/** a [..., m, n] with m >= n -> a V [..., m, n] with orthogonal columns, V [..., n, n]. No gradient of its own. */
const svdOp = defineOp({
  name: "orthogonal_columns",
  kind: "kernel",
  reference: ([a], _attrs, { outputs }) => {
    const [m, n] = a.shape.slice(-2);
    const [us, v] = outputs!.map(({ shape, dtype }) => ({ data: new Float64Array(numel(shape)), shape, dtype }));
    for (let b = 0; b < count(a.shape); b++) {
      const rows = rowsOf(a.data, b, m, n);
      const vectors = Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (_, j) => Number(i === j)));
      const dot = (p: number, q: number): number => rows.reduce((sum, row) => sum + row[p] * row[q], 0);
      for (let sweep = 0; sweep < 4 * sweepsOf(n); sweep++) {
        for (let p = 0; p < n; p++) {
          for (let q = p + 1; q < n; q++) {
            const [x, y, z] = [dot(p, p), dot(q, q), dot(p, q)];
            if (Math.abs(z) <= 1e-300 || Math.abs(z) < 1e-17 * Math.sqrt(x * y)) continue;
            const turn = rotation(x, y, z);
            rotate(rows, p, q, turn);
            rotate(vectors, p, q, turn);
          }
        }
      }
      for (const [i, row] of rows.entries()) us.data.set(row, (b * m + i) * n);
      for (const [i, row] of vectors.entries()) v.data.set(row, (b * n + i) * n);
    }
    return [us, v];
  },
});

/** us = a V with orthogonal columns, for a with at least as many rows as columns. */
export function orthogonalColumns(a: Tensor): { us: Tensor; v: Tensor } {
  const { shape } = matrix("svd", a);
  const n = shape[shape.length - 1];
  const [us, v] = applyMany(svdOp, [a.to("f32")], { sweeps: sweepsOf(n) }, [
    { shape, dtype: "f32" },
    { shape: [...shape.slice(0, -2), n, n], dtype: "f32" },
  ]);
  return { us, v };
}

/** x [..., n] on the diagonal of [..., n, n]. */
export function diagonalMatrix(x: Tensor): Tensor {
  const n = x.shape[x.ndim - 1];
  const wide = x.unsqueeze(-1).pad([...x.shape.map(() => [0, 0] as const), [0, n]]); // a row of 1 + n: the next diagonal
  return wide
    .flatten(-2)
    .narrow(-1, 0, n * n)
    .reshape([...x.shape, n]);
}

/** The main diagonal of x [..., m, n] as [..., min(m, n)], a view. */
export function mainDiagonal(x: Tensor): Tensor {
  const [m, n] = x.shape.slice(-2);
  const k = Math.min(m, n);
  const flat = x.narrow(-2, 0, k).flatten(-2);
  return flat.slice([...x.shape.slice(0, -2).map(() => [] as const), [0, (k - 1) * (n + 1) + 1, n + 1]]);
}

/** x if it has at least two dims. */
export function matrix(op: string, x: Tensor): Tensor {
  if (x.ndim < 2) throw new Error(`${op}: expected matrices [..., m, n], got ${show(x.shape)}`);
  return x;
}

/** x if its last two dims are equal. */
export function square(op: string, x: Tensor): Tensor {
  if (x.ndim < 2 || x.shape[x.ndim - 1] !== x.shape[x.ndim - 2])
    throw new Error(`${op}: expected square matrices [..., n, n], got ${show(x.shape)}`);
  return x;
}
