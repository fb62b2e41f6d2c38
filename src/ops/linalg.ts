import { broadcastShapes, normalizeDim, type Shape, show } from "../graph/shape.ts";
import { apply, applyMany, type Tensor } from "../tensor/tensor.ts";
import { eye } from "./creation.ts";
import { defineOp } from "./define.ts";
import {
  choleskyFactor,
  diagonalMatrix,
  eighFactor,
  luFactor,
  mainDiagonal,
  matrix,
  orthogonalColumns,
  qrFactor,
  square,
  triangularSolve,
} from "./factor.ts";
import { matmul } from "./matmul.ts";
import { cat, expand } from "./movement.ts";

// Linear algebra on (batches of) matrices, as torch.linalg has it. Values are f32. One workgroup works on a matrix: these are
// for matrices of up to some hundred rows.

const transposed = (x: Tensor): Tensor => x.transpose(-1, -2);

/** I [n, n] as the last two dims of `shape`. */
const identity = (shape: Shape): Tensor => expand(eye(shape[shape.length - 1]), shape);

// ---- products ---------------------------------------------------------------------------------

function ranks(op: string, a: Tensor, b: Tensor, wanted: readonly [number, number]): void {
  if (a.ndim !== wanted[0] || b.ndim !== wanted[1])
    throw new Error(
      `${op}: expected tensors of ${wanted[0]} and ${wanted[1]} dims, got ${show(a.shape)} and ${show(b.shape)}`,
    );
}

/** [M, K] x [K, N] -> [M, N]. `matmul` takes batches. */
export function mm(a: Tensor, b: Tensor): Tensor {
  ranks("mm", a, b, [2, 2]);
  return matmul(a, b);
}
/** [B, M, K] x [B, K, N] -> [B, M, N]. B is not broadcast. */
export function bmm(a: Tensor, b: Tensor): Tensor {
  ranks("bmm", a, b, [3, 3]);
  if (a.shape[0] !== b.shape[0])
    throw new Error(`bmm: ${show(a.shape)} and ${show(b.shape)} are batches of different sizes: matmul broadcasts`);
  return matmul(a, b);
}
/** [M, K] x [K] -> [M]. */
export function mv(a: Tensor, b: Tensor): Tensor {
  ranks("mv", a, b, [2, 1]);
  return matmul(a, b);
}
/** Inner product of two vectors [N] -> []. */
export function dot(a: Tensor, b: Tensor): Tensor {
  ranks("dot", a, b, [1, 1]);
  if (a.shape[0] !== b.shape[0])
    throw new Error(`dot: vectors of one size expected, got ${show(a.shape)} and ${show(b.shape)}`);
  return a.mul(b).sum();
}
/** [M] and [N] -> [M, N] with a[i] * b[j]. */
export function outer(a: Tensor, b: Tensor): Tensor {
  ranks("outer", a, b, [1, 1]);
  return a.unsqueeze(1).mul(b);
}
/** Sums of products over the last dims: [..., K] and [---, K] -> [..., ---]. A 0-d operand scales the other. */
export function inner(a: Tensor, b: Tensor): Tensor {
  return a.ndim === 0 || b.ndim === 0 ? a.mul(b) : tensordot(a, b, [[-1], [-1]]);
}

/** Factors of a sum: result = beta * input + alpha * product. */
export interface Scales {
  /** Factor of the input. With 0 the input is not read, so that its NaN stays out. Default 1. */
  beta?: number;
  /** Factor of the product. Default 1. */
  alpha?: number;
}

function combined(x: Tensor, product: Tensor, { beta = 1, alpha = 1, ...rest }: Scales, op: string): Tensor {
  for (const name of Object.keys(rest)) throw new TypeError(`${op}: unknown option ${name}: expected beta, alpha`);
  const shape = broadcastShapes(op, x.shape, product.shape);
  if (shape.length !== product.ndim || shape.some((n, i) => n !== product.shape[i]))
    throw new Error(`${op}: input ${show(x.shape)} does not broadcast to the product's shape ${show(product.shape)}`);
  const scaled = alpha === 1 ? product : product.mul(alpha);
  if (beta === 0) return scaled;
  return (beta === 1 ? x : x.mul(beta)).add(scaled);
}
/** beta * x + alpha * (a @ b) for a [M, K], b [K, N]. x broadcasts to [M, N]. */
export const addmm = (x: Tensor, a: Tensor, b: Tensor, scales: Scales = {}): Tensor =>
  combined(x, mm(a, b), scales, "addmm");
/** beta * x + alpha * (a @ b) for a [M, K], b [K]. x broadcasts to [M]. */
export const addmv = (x: Tensor, a: Tensor, b: Tensor, scales: Scales = {}): Tensor =>
  combined(x, mv(a, b), scales, "addmv");
/** beta * x + alpha * outer(a, b) for a [M], b [N]. x broadcasts to [M, N]. */
export const addr = (x: Tensor, a: Tensor, b: Tensor, scales: Scales = {}): Tensor =>
  combined(x, outer(a, b), scales, "addr");
/** beta * x + alpha * the sum over the batch of a @ b, for a [B, M, K], b [B, K, N]. x broadcasts to [M, N]. */
export const addbmm = (x: Tensor, a: Tensor, b: Tensor, scales: Scales = {}): Tensor =>
  combined(x, bmm(a, b).sum(0), scales, "addbmm");
/** beta * x + alpha * (a @ b) for batches a [B, M, K], b [B, K, N]. x broadcasts to [B, M, N]. */
export const baddbmm = (x: Tensor, a: Tensor, b: Tensor, scales: Scales = {}): Tensor =>
  combined(x, bmm(a, b), scales, "baddbmm");

/**
 * Sum of products over `dims`: the number of last dims of a and first dims of b, or two lists of dims. The other dims of a,
 * then those of b, stay.
 */
export function tensordot(
  a: Tensor,
  b: Tensor,
  dims: number | readonly [readonly number[], readonly number[]] = 2,
): Tensor {
  const problem = (what: string): Error => new Error(`tensordot: ${what}: ${show(a.shape)} and ${show(b.shape)}`);
  if (typeof dims === "number" && !(Number.isInteger(dims) && dims >= 0 && dims <= Math.min(a.ndim, b.ndim)))
    throw problem(`dims = ${dims} must be a whole number of at most the dims of either operand`);
  const range = (n: number, start: number): number[] => Array.from({ length: n }, (_, i) => start + i);
  const [left, right] =
    typeof dims === "number"
      ? [range(dims, a.ndim - dims), range(dims, 0)]
      : [
          dims[0].map((d) => normalizeDim("tensordot", d, a.ndim)),
          dims[1].map((d) => normalizeDim("tensordot", d, b.ndim)),
        ];
  if (left.length !== right.length) throw problem("dims must be two lists of one length");
  for (const [i, d] of left.entries())
    if (a.shape[d] !== b.shape[right[i]]) throw problem(`dim ${d} and dim ${right[i]} differ in size`);
  const keptA = range(a.ndim, 0).filter((d) => !left.includes(d));
  const keptB = range(b.ndim, 0).filter((d) => !right.includes(d));
  const shape = [...keptA.map((d) => a.shape[d]), ...keptB.map((d) => b.shape[d])];
  const K = left.reduce((n, d) => n * a.shape[d], 1);
  const rows = keptA.reduce((n, d) => n * a.shape[d], 1);
  const columns = keptB.reduce((n, d) => n * b.shape[d], 1);
  const x = a.permute([...keptA, ...left]).reshape([rows, K]);
  const y = b.permute([...right, ...keptB]).reshape([K, columns]);
  return matmul(x, y).reshape(shape);
}

/** Kronecker product: every element of a times b. Missing leading dims count as 1. */
export function kron(a: Tensor, b: Tensor): Tensor {
  const rank = Math.max(a.ndim, b.ndim);
  const wide = (x: Tensor): Shape => [...new Array<number>(rank - x.ndim).fill(1), ...x.shape];
  const [p, q] = [wide(a), wide(b)];
  const x = a.reshape(p.flatMap((n) => [n, 1]));
  const y = b.reshape(q.flatMap((n) => [1, n]));
  return x.mul(y).reshape(p.map((n, i) => n * q[i]));
}

/** Cross product along `dim`, which has size 3. The other dims broadcast. */
export function cross(a: Tensor, b: Tensor, dim = -1): Tensor {
  const shape = broadcastShapes("cross", a.shape, b.shape);
  const d = normalizeDim("cross", dim, shape.length);
  const [x, y] = [expand(a, shape), expand(b, shape)];
  if (shape[d] !== 3) throw new Error(`cross: dim ${dim} of ${show(shape)} must have size 3`);
  const part = (t: Tensor, i: number): Tensor => t.narrow(d, i % 3, 1);
  return cat(
    [0, 1, 2].map((i) =>
      part(x, i + 1)
        .mul(part(y, i + 2))
        .sub(part(x, i + 2).mul(part(y, i + 1))),
    ),
    d,
  );
}

/** Sum of the main diagonal of the last two dims: [..., M, N] -> [...]. */
export const trace = (x: Tensor): Tensor => mainDiagonal(matrix("trace", x)).sum(-1);

/** y[..., o] = a[..., i] weight[o, i, j] b[..., j] + bias[o], for weight [O, I, J]. */
export function bilinear(a: Tensor, b: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  const [O, I, J] = weight.shape;
  if (weight.ndim !== 3 || a.shape[a.ndim - 1] !== I || b.shape[b.ndim - 1] !== J)
    throw new Error(
      `bilinear: inputs ${show(a.shape)} and ${show(b.shape)} do not fit weight ${show(weight.shape)} ([out, in1, in2])`,
    );
  // a W: [..., O * J], then the sum over J with b.
  const left = matmul(a, weight.permute([1, 0, 2]).reshape([I, O * J])).reshape([...a.shape.slice(0, -1), O, J]);
  const y = left.mul(b.unsqueeze(-2)).sum(-1);
  return bias ? y.add(bias) : y;
}

// ---- systems of equations ---------------------------------------------------------------------

const solveOp = defineOp({
  name: "solve",
  kind: "kernel",
  fallback: ([a, b]) => {
    const { lu, perm } = luFactor(a);
    const rows = b.gather(-2, expand(perm.unsqueeze(-1), b.shape));
    return triangularSolve(lu, triangularSolve(lu, rows, { unitriangular: true }), { upper: true });
  },
  vjp: (g, y, [a]) => {
    const gb = solve(transposed(a), g);
    return [matmul(gb, transposed(y)).neg(), gb];
  },
});

/**
 * X of a X = b, by LU factorisation with partial pivoting. a [..., n, n]; b [..., n, k], or a vector [n] for one matrix.
 * Batch dims broadcast. Infinite or NaN where a is singular.
 */
export function solve(a: Tensor, b: Tensor): Tensor {
  square("solve", a);
  if (b.ndim === 1 && a.ndim === 2) return solve(a, b.unsqueeze(1)).squeeze(1);
  const [x, y] = aligned("solve", a, b);
  return apply(solveOp, [x, y], {}, y.shape, "f32");
}

/** X of a X = b for triangular a [..., n, n], b [..., n, k]. The other triangle of a is not read. Batch dims broadcast. */
export function solveTriangular(
  a: Tensor,
  b: Tensor,
  { upper, unitriangular = false }: { upper: boolean; unitriangular?: boolean },
): Tensor {
  if (typeof upper !== "boolean") throw new TypeError("solveTriangular: the option upper must be true or false");
  const [x, y] = aligned("solveTriangular", square("solveTriangular", a), b);
  return triangularSolve(x, y, { upper, unitriangular });
}

/** a and b in f32 with equal batch dims. */
function aligned(op: string, a: Tensor, b: Tensor): [Tensor, Tensor] {
  const n = a.shape[a.ndim - 1];
  if (b.ndim < 2 || b.shape[b.ndim - 2] !== n)
    throw new Error(`${op}: b ${show(b.shape)} does not fit a ${show(a.shape)}: expected [..., ${n}, k]`);
  const batch = broadcastShapes(op, a.shape.slice(0, -2), b.shape.slice(0, -2));
  return [expand(a.to("f32"), [...batch, n, n]), expand(b.to("f32"), [...batch, ...b.shape.slice(-2)])];
}

const inverseOp = defineOp({
  name: "inverse",
  kind: "kernel",
  fallback: ([a]) => solve(a, identity(a.shape)),
  vjp: (g, y) => [matmul(matmul(transposed(y), g), transposed(y)).neg()],
});
/** The inverse of square matrices [..., n, n]. Infinite or NaN where one is singular. */
export const inverse = (a: Tensor): Tensor => apply(inverseOp, [square("inverse", a).to("f32")], {}, a.shape, "f32");

const detOp = defineOp({
  name: "det",
  kind: "kernel",
  fallback: ([a]) => {
    const { lu, sign } = luFactor(a);
    return mainDiagonal(lu).prod(-1).mul(sign);
  },
  vjp: (g, y, [a]) => [transposed(inverse(a)).mul(g.mul(y).unsqueeze(-1).unsqueeze(-1))],
});
/** Determinants of square matrices [..., n, n] -> [...]. The gradient needs a matrix that is not singular. */
export const det = (a: Tensor): Tensor => apply(detOp, [square("det", a).to("f32")], {}, a.shape.slice(0, -2), "f32");

const logdetOp = defineOp({
  name: "log_abs_det",
  kind: "kernel",
  fallback: ([a]) => mainDiagonal(luFactor(a).lu).abs().log().sum(-1),
  vjp: (g, _y, [a]) => [transposed(inverse(a)).mul(g.unsqueeze(-1).unsqueeze(-1))],
});
/** Sign and logarithm of |det| of square matrices [..., n, n] -> [...]: no overflow where det has one. */
export function slogdet(a: Tensor): { sign: Tensor; logabsdet: Tensor } {
  const x = square("slogdet", a).to("f32");
  const { lu, sign } = luFactor(x);
  return {
    sign: mainDiagonal(lu).sign().prod(-1).mul(sign),
    logabsdet: apply(logdetOp, [x], {}, a.shape.slice(0, -2), "f32"),
  };
}

/** The n-th power of square matrices: 0 gives the identity, a negative n powers of the inverse. */
export function matrixPower(a: Tensor, n: number): Tensor {
  square("matrixPower", a);
  if (!Number.isInteger(n)) throw new RangeError(`matrixPower: n = ${n} must be a whole number`);
  if (n === 0) return identity(a.shape);
  let base = n < 0 ? inverse(a) : a;
  let result: Tensor | undefined;
  for (let rest = Math.abs(n); rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = result ? matmul(result, base) : base;
    if (rest > 1) base = matmul(base, base);
  }
  return result!;
}

// ---- factorisations ---------------------------------------------------------------------------

/**
 * L of a = L Lᵀ for symmetric positive definite a [..., n, n]; with `upper` Lᵀ. The lower triangle of a is read. NaN where a
 * is not positive definite.
 */
export function cholesky(a: Tensor, { upper = false }: { upper?: boolean } = {}): Tensor {
  const l = choleskyFactor(a);
  return upper ? transposed(l) : l;
}

/** Reduced QR factorisation of a [..., m, n]: q [..., m, k] with orthonormal columns, r [..., k, n] upper triangular, k = min(m, n). */
export const qr = (a: Tensor): { q: Tensor; r: Tensor } => qrFactor(a);

/** x's elements along the last dim in ascending order, and their positions. */
const ascending = (x: Tensor): Tensor =>
  x
    .detach()
    .neg()
    .topk(x.shape[x.ndim - 1]).indices;

/** Columns of x [..., m, n] in the order of positions [..., n]. */
const columnsAt = (x: Tensor, at: Tensor): Tensor =>
  x.gather(-1, expand(at.unsqueeze(-2), [...x.shape.slice(0, -1), at.shape[at.ndim - 1]]));

/**
 * Eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices [..., n, n]. The lower triangle is read. The
 * gradient of eigenvectors needs distinct eigenvalues.
 */
export function eigh(a: Tensor): { eigenvalues: Tensor; eigenvectors: Tensor } {
  const { w, v } = eighFactor(a);
  const at = ascending(w);
  return { eigenvalues: w.gather(-1, at), eigenvectors: columnsAt(v, at) };
}
/** Eigenvalues of symmetric matrices [..., n, n], ascending: [..., n]. */
export const eigvalsh = (a: Tensor): Tensor => eigh(a).eigenvalues;

/** a [..., m, n], m >= n -> u [..., m, n], s [..., n] descending, v [..., n, n]. */
const svdOp = defineOp({
  name: "svd",
  kind: "kernel",
  fallback: ([a]) => {
    const { us, v } = orthogonalColumns(a);
    const lengths = us.square().sum(-2).sqrt();
    const at = ascending(lengths.neg());
    const s = lengths.gather(-1, at);
    const sorted = columnsAt(us, at);
    const safe = s.maximum(1e-30).unsqueeze(-2);
    return [sorted.div(safe), s, columnsAt(v, at)];
  },
  // Townsend 2016, "Differentiating the singular value decomposition".
  vjp: ([gu, gs, gv]: (Tensor | null)[], [u, s, v]: Tensor[]) => {
    const squares = s.square();
    const gap = squares.unsqueeze(-2).sub(squares.unsqueeze(-1)); // s[j]² - s[i]²
    const same = gap.eq(0).to("f32");
    const skewed = (x: Tensor, g: Tensor): Tensor => {
      const product = matmul(transposed(x), g);
      return product.sub(transposed(product)).mul(same.neg().add(1)).div(gap.add(same));
    };
    const wide = s.unsqueeze(-2); // scales columns
    const tall = s.unsqueeze(-1); // scales rows
    let core = gs ? diagonalMatrix(gs) : undefined;
    const plus = (x: Tensor): void => void (core = core ? core.add(x) : x);
    if (gu) plus(skewed(u, gu).mul(wide));
    if (gv) plus(skewed(v, gv).mul(tall));
    let g = matmul(matmul(u, core!), transposed(v));
    if (gu && u.shape[u.ndim - 2] > u.shape[u.ndim - 1]) {
      const outside = gu.sub(matmul(u, matmul(transposed(u), gu)));
      g = g.add(matmul(outside.div(wide), transposed(v)));
    }
    return [g]; // v is square: no part of gv lies outside its columns
  },
});

/** Reduced singular value decomposition: a = u diag(s) vh. */
export interface Svd {
  /** [..., m, k], k = min(m, n). A column of a singular value 0 is 0. */
  u: Tensor;
  /** [..., k], descending. */
  s: Tensor;
  /** [..., k, n]. */
  vh: Tensor;
}

/** Reduced singular value decomposition of a [..., m, n]. The gradient of u and vh needs distinct singular values. */
export function svd(a: Tensor): Svd {
  const [m, n] = matrix("svd", a).shape.slice(-2);
  if (m < n) {
    const { u, s, vh } = svd(transposed(a));
    return { u: transposed(vh), s, vh: transposed(u) };
  }
  const batch = a.shape.slice(0, -2);
  const [u, s, v] = applyMany(svdOp, [a.to("f32")], {}, [
    { shape: [...batch, m, n], dtype: "f32" },
    { shape: [...batch, n], dtype: "f32" },
    { shape: [...batch, n, n], dtype: "f32" },
  ]);
  return { u, s, vh: transposed(v) };
}
/** Singular values of [..., m, n], descending: [..., min(m, n)]. */
export const svdvals = (a: Tensor): Tensor => svd(a).s;

const pinvOp = defineOp<{ rtol: number }>({
  name: "pinv",
  kind: "kernel",
  fallback: ([a], { rtol }) => {
    const { u, s, vh } = svd(a);
    const kept = s.gt(s.amax(-1, true).mul(rtol));
    const inverted = s.maximum(1e-30).reciprocal().mul(kept.to("f32"));
    return matmul(transposed(vh).mul(inverted.unsqueeze(-2)), transposed(u));
  },
  // Golub and Pereyra 1973, for matrices of constant rank.
  vjp: (g, y, [a]) => {
    const [gt, yt] = [transposed(g), transposed(y)];
    const [m, n] = a.shape.slice(-2);
    let ga = matmul(matmul(yt, g), yt).neg();
    if (m > n) ga = ga.add(matmul(gt.sub(matmul(a, matmul(y, gt))), matmul(y, yt)));
    if (m < n) ga = ga.add(matmul(matmul(yt, y), gt.sub(matmul(matmul(gt, y), a))));
    return [ga];
  },
});
/**
 * Pseudo-inverse [..., n, m] of a [..., m, n]. Singular values of at most `rtol` times the largest count as 0. Default: the
 * larger of m and n times the spacing of f32.
 */
export function pinv(a: Tensor, { rtol }: { rtol?: number } = {}): Tensor {
  const [m, n] = matrix("pinv", a).shape.slice(-2);
  const attrs = { rtol: rtol ?? Math.max(m, n) * 2 ** -23 };
  return apply(pinvOp, [a.to("f32")], attrs, [...a.shape.slice(0, -2), n, m], "f32");
}
