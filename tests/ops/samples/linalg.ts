import * as sg from "../../../src/index.ts";
import { type Family, of } from "./sample.ts";

/** Symmetric positive definite, of x [..., n, n]. */
const definite = (x: sg.Tensor): sg.Tensor => x.matmul(x.transpose(-1, -2)).add(sg.eye(x.shape[x.ndim - 1]).mul(0.5));
/** Far from singular, and with distinct singular values. */
const regular = (x: sg.Tensor): sg.Tensor =>
  x.add(sg.eye(x.shape[x.ndim - 1]).mul(sg.arange(1, 1 + x.shape[x.ndim - 1]).float()));
const upper = (x: sg.Tensor): sg.Tensor => regular(x).triu();
const tolerance = 2e-5;

export const linalg: Family = {
  given: {
    cholesky: { inputs: [of([2, 3, 3])], f: (x) => definite(x).cholesky(), tolerance },
    det: { inputs: [of([2, 3, 3])], f: (x) => regular(x).det(), tolerance },
    eigh: {
      inputs: [of([2, 3, 3])],
      f: (x) => {
        const symmetric = definite(regular(x));
        const { eigenvalues, eigenvectors } = symmetric.eigh();
        return [eigenvalues, eigenvectors.square()]; // the signs of eigenvectors are free
      },
      tolerance: 1e-4,
    },
    inverse: { inputs: [of([2, 3, 3])], f: (x) => regular(x).inverse(), tolerance },
    log_abs_det: { inputs: [of([2, 3, 3])], f: (x) => regular(x).slogdet().logabsdet, tolerance },
    pinv: { inputs: [of([4, 2])], f: (x) => regular(x.narrow(0, 0, 2)).pinv(), tolerance },
    qr: {
      inputs: [of([2, 4, 3])],
      f: (x) => {
        const { q, r } = x.qr();
        return [q, r];
      },
      tolerance,
    },
    solve: { inputs: [of([2, 3, 3]), of([2, 3, 2])], f: (a, b) => sg.solve(regular(a), b), tolerance },
    svd: {
      inputs: [of([2, 4, 3])],
      f: (x) => {
        const { u, s, vh } = sg.svd(x.mul(sg.tensor([1, 2, 4])));
        return [u.square(), s, vh.square()];
      },
      tolerance: 1e-4,
    },
    triangular_solve: {
      inputs: [of([2, 3, 3]), of([2, 3, 2])],
      f: (a, b) => [
        sg.solveTriangular(upper(a), b, { upper: true }),
        sg.solveTriangular(upper(a).transpose(-1, -2), b, { upper: false }),
        sg.solveTriangular(upper(a), b, { upper: true, unitriangular: true }),
      ],
      tolerance,
    },
  },
};
