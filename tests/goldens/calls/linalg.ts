import * as sg from "../../../src/index.ts";
import type { Tensor } from "../../../src/tensor/tensor.ts";
import type { Call } from "./call.ts";

/** Rows of r, and columns of q, with the sign that makes the diagonal of r positive. */
function positive({ q, r }: { q: Tensor; r: Tensor }): Tensor[] {
  const k = r.shape[r.ndim - 2];
  const sign = r.narrow(-1, 0, k).mul(sg.eye(k)).sum(-1).sign(); // [..., k]
  return [q.mul(sign.unsqueeze(-2)), r.mul(sign.unsqueeze(-1))];
}
const scaled =
  (f: (x: Tensor, a: Tensor, b: Tensor, scales: object) => Tensor): Call =>
  ({ x, a, b }, { beta, alpha }) =>
    f(x, a, b, { beta, alpha });

export const linalg: Record<string, Call> = {
  addbmm: scaled((x, a, b, s) => x.addbmm(a, b, s)),
  addmm: scaled((x, a, b, s) => x.addmm(a, b, s)),
  addmv: scaled((x, a, b, s) => x.addmv(a, b, s)),
  addr: scaled((x, a, b, s) => x.addr(a, b, s)),
  baddbmm: scaled((x, a, b, s) => x.baddbmm(a, b, s)),
  bilinear: ({ a, b, w, bias }) => sg.bilinear(a, b, w, bias),
  bmm: ({ a, b }) => a.bmm(b),
  cholesky: ({ x }, { upper }) => x.cholesky({ upper }),
  cross: ({ a, b }, { dim }) => a.cross(b, dim),
  det: ({ x }) => x.det(),
  dot: ({ a, b }) => a.dot(b),
  eigvalsh: ({ x }) => x.eigvalsh(),
  einsum: (x, { equation }) => sg.einsum(equation, ...Object.values(x)),
  inner: ({ a, b }) => a.inner(b),
  inverse: ({ x }) => x.inverse(),
  kron: ({ a, b }) => a.kron(b),
  matrix_power: ({ x }, { n }) => x.matrixPower(n),
  mm: ({ a, b }) => a.mm(b),
  mv: ({ a, b }) => a.mv(b),
  outer: ({ a, b }) => a.outer(b),
  pinv: ({ x }) => x.pinv(),
  qr: ({ x }) => positive(x.qr()),
  slogdet: ({ x }) => {
    const { sign, logabsdet } = x.slogdet();
    return [sign, logabsdet];
  },
  solve: ({ a, b }) => sg.solve(a, b),
  solve_triangular: ({ a, b }, { upper, unitriangular }) => sg.solveTriangular(a, b, { upper, unitriangular }),
  svd_rebuilt: ({ x }, { k }) => {
    const { u, s, vh } = x.svd();
    return u
      .mul(s.unsqueeze(-2))
      .narrow(-1, 0, k)
      .matmul(vh.narrow(-2, 0, k));
  },
  svdvals: ({ x }) => x.svd().s,
  tensordot: ({ a, b }, { dims }) => sg.tensordot(a, b, dims),
  trace: ({ x }) => x.trace(),
};
