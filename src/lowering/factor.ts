import type { KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";
import { grid2d } from "./grid.ts";

// Factorisations: one workgroup per matrix.

/** Invocations per workgroup. On software adapters barriers are expensive: one subgroup. */
const group = (cx: LowerContext): number => (cx.device.kind === "software" ? 8 : 64);

/** Matrices, and their sizes, of source 0. */
function matrices({ src: [a] }: Node): { count: number; m: number; n: number } {
  const [m, n] = a.shape.slice(-2);
  return { count: numel(a.shape.slice(0, -2)), m, n };
}

interface Call {
  readonly kernel: string;
  readonly dims: readonly number[];
  readonly bind: KernelCall["bind"];
}

/** No dispatch where there are no matrices. */
function perMatrix(node: Node, cx: LowerContext, call: Call): KernelCall[] {
  const { count, m, n } = matrices(node);
  if (count * m * n === 0) return [];
  return [{ ...call, params: { WG: group(cx) }, grid: grid2d(count) }];
}

export const lowerLu: Lower = (node, cx) => {
  const { count, n } = matrices(node);
  const bind = [cx.operand(0).buffer, cx.output(0), cx.output(1), cx.output(2)];
  return perMatrix(node, cx, { kernel: "lu", dims: [count, n], bind });
};

export const lowerCholesky: Lower = (node, cx) => {
  const { count, n } = matrices(node);
  return perMatrix(node, cx, { kernel: "cholesky", dims: [count, n], bind: [cx.operand(0).buffer, cx.output()] });
};

export const lowerTriangularSolve: Lower = (node, cx) => {
  const { count, n } = matrices(node);
  const columns = node.shape[node.shape.length - 1];
  if (count * n * columns === 0) return [];
  const WG = group(cx);
  return [
    {
      kernel: "triangular",
      params: { WG, UPPER: Number(node.attrs.upper), UNIT: Number(node.attrs.unit) },
      dims: [count, n, columns],
      bind: [cx.operand(0).buffer, cx.operand(1).buffer, cx.output()],
      grid: grid2d(Math.ceil((count * columns) / WG)),
    },
  ];
};

export const lowerQr: Lower = (node, cx) => {
  const { count, m, n } = matrices(node);
  const k = Math.min(m, n);
  const bind = [
    cx.operand(0).buffer,
    cx.output(0),
    cx.output(1),
    cx.temp(4 * count * m * n),
    cx.temp(4 * Math.max(count * k, 4)),
  ];
  return perMatrix(node, cx, { kernel: "qr", dims: [count, m, n, k], bind });
};

export const lowerEigh: Lower = (node, cx) => {
  const { count, n } = matrices(node);
  const bind = [cx.operand(0).buffer, cx.output(0), cx.output(1), cx.temp(4 * Math.max(count * n * n, 4))];
  return perMatrix(node, cx, { kernel: "eigh", dims: [count, n, node.attrs.sweeps as number], bind });
};

export const lowerOrthogonalColumns: Lower = (node, cx) => {
  const { count, m, n } = matrices(node);
  const bind = [cx.operand(0).buffer, cx.output(0), cx.output(1)];
  return perMatrix(node, cx, { kernel: "svd", dims: [count, m, n, node.attrs.sweeps as number], bind });
};
