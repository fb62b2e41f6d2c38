import * as linalg from "../../ops/linalg.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** Matrix product of two matrices: [M, K] x [K, N] -> [M, N]. `matmul` takes batches. */
    mm(b: Tensor): Tensor;
    /** Products of two batches of matrices: [B, M, K] x [B, K, N] -> [B, M, N]. B is not broadcast. */
    bmm(b: Tensor): Tensor;
    /** Matrix times vector: [M, K] x [K] -> [M]. */
    mv(b: Tensor): Tensor;
    /** Inner product of two vectors: [N] and [N] -> []. */
    dot(b: Tensor): Tensor;
    /** Outer product of two vectors: [M] and [N] -> [M, N]. */
    outer(b: Tensor): Tensor;
    /** Sums of products over the last dims: [..., K] and [---, K] -> [..., ---]. */
    inner(b: Tensor): Tensor;
    /** beta * this + alpha * (a @ b) for matrices a [M, K], b [K, N]. This broadcasts to [M, N]. */
    addmm(a: Tensor, b: Tensor, scales?: linalg.Scales): Tensor;
    /** beta * this + alpha * (a @ b) for a [M, K] and a vector b [K]. */
    addmv(a: Tensor, b: Tensor, scales?: linalg.Scales): Tensor;
    /** beta * this + alpha * outer(a, b) for vectors a [M], b [N]. */
    addr(a: Tensor, b: Tensor, scales?: linalg.Scales): Tensor;
    /** beta * this + alpha * the sum over the batch of a @ b, for a [B, M, K], b [B, K, N]. */
    addbmm(a: Tensor, b: Tensor, scales?: linalg.Scales): Tensor;
    /** beta * this + alpha * (a @ b) for batches a [B, M, K], b [B, K, N]. */
    baddbmm(a: Tensor, b: Tensor, scales?: linalg.Scales): Tensor;
    /** Kronecker product: every element of this times b. */
    kron(b: Tensor): Tensor;
    /** Cross product along `dim` (default -1), which has size 3. */
    cross(b: Tensor, dim?: number): Tensor;
    /** Sum of the main diagonal of the last two dims: [..., M, N] -> [...]. */
    trace(): Tensor;
    /** Determinants of square matrices: [..., n, n] -> [...]. */
    det(): Tensor;
    /** Sign and logarithm of |det| of square matrices: [..., n, n] -> [...]. */
    slogdet(): { sign: Tensor; logabsdet: Tensor };
    /** The inverse of square matrices [..., n, n]. Infinite or NaN where one is singular. */
    inverse(): Tensor;
    /** Pseudo-inverse: [..., m, n] -> [..., n, m]. */
    pinv(options?: { rtol?: number }): Tensor;
    /** The n-th power of square matrices. A negative n takes powers of the inverse. */
    matrixPower(n: number): Tensor;
    /** L of this = L Lᵀ for symmetric positive definite matrices; with `upper` Lᵀ. */
    cholesky(options?: { upper?: boolean }): Tensor;
    /** Reduced QR factorisation: [..., m, n] -> q [..., m, k], r [..., k, n], k = min(m, n). */
    qr(): { q: Tensor; r: Tensor };
    /** Reduced singular value decomposition: u diag(s) vh. */
    svd(): linalg.Svd;
    /** Eigenvalues (ascending) and eigenvectors (columns) of symmetric matrices. */
    eigh(): { eigenvalues: Tensor; eigenvectors: Tensor };
    /** Eigenvalues of symmetric matrices, ascending: [..., n, n] -> [..., n]. */
    eigvalsh(): Tensor;
  }
}

addMethods({
  mm(b: Tensor) {
    return linalg.mm(this, b);
  },
  bmm(b: Tensor) {
    return linalg.bmm(this, b);
  },
  mv(b: Tensor) {
    return linalg.mv(this, b);
  },
  dot(b: Tensor) {
    return linalg.dot(this, b);
  },
  outer(b: Tensor) {
    return linalg.outer(this, b);
  },
  inner(b: Tensor) {
    return linalg.inner(this, b);
  },
  addmm(a: Tensor, b: Tensor, scales?: linalg.Scales) {
    return linalg.addmm(this, a, b, scales);
  },
  addmv(a: Tensor, b: Tensor, scales?: linalg.Scales) {
    return linalg.addmv(this, a, b, scales);
  },
  addr(a: Tensor, b: Tensor, scales?: linalg.Scales) {
    return linalg.addr(this, a, b, scales);
  },
  addbmm(a: Tensor, b: Tensor, scales?: linalg.Scales) {
    return linalg.addbmm(this, a, b, scales);
  },
  baddbmm(a: Tensor, b: Tensor, scales?: linalg.Scales) {
    return linalg.baddbmm(this, a, b, scales);
  },
  kron(b: Tensor) {
    return linalg.kron(this, b);
  },
  cross(b: Tensor, dim?: number) {
    return linalg.cross(this, b, dim);
  },
  trace() {
    return linalg.trace(this);
  },
  det() {
    return linalg.det(this);
  },
  slogdet() {
    return linalg.slogdet(this);
  },
  inverse() {
    return linalg.inverse(this);
  },
  pinv(options?: { rtol?: number }) {
    return linalg.pinv(this, options);
  },
  matrixPower(n: number) {
    return linalg.matrixPower(this, n);
  },
  cholesky(options?: { upper?: boolean }) {
    return linalg.cholesky(this, options);
  },
  qr() {
    return linalg.qr(this);
  },
  svd() {
    return linalg.svd(this);
  },
  eigh() {
    return linalg.eigh(this);
  },
  eigvalsh() {
    return linalg.eigvalsh(this);
  },
});
