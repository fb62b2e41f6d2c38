import { QuantizedWeight, quantizedLinear } from "../../src/nn/index.ts";
import { matmul, transpose } from "./reference.ts";
import { normal, type Workload } from "./workload.ts";

const size = (shape: readonly number[]) => shape.reduce((x, y) => x * y, 1);

/** a [.., M, K] × b [.., K, N]; `rows` of the result are checked. */
function product(name: string, a: number[], b: number[], rows = 64): Workload {
  const [m, k] = a.slice(-2);
  const n = b[b.length - 1];
  const batch = size(a.slice(0, -2));
  return {
    name,
    flops: 2 * batch * m * k * n,
    bytes: 4 * (size(a) + size(b) + batch * m * n),
    tolerance: 2e-5,
    inputs: () => ({ a: normal(1, a), b: normal(2, b) }),
    expected: (x) => matmul(x.a.data, x.b.data, batch, m, k, n, rows),
    ours: ({ bench }, x) => bench((p, q) => p.matmul(q), x.a, x.b),
  };
}

/** x [1, K] × weights [N, K] in 4 bits, groups of 32 with the scales `i % 7 + 1` / 64; codes lie around 8. */
function packedProduct(name: string, K: number, N: number): Workload {
  const groups = (N * K) / 32;
  const scale = (group: number): number => ((group % 7) + 1) / 64; // exact in f16
  return {
    name,
    flops: 2 * K * N,
    bytes: (N * K) / 2 + 2 * groups + 4 * (K + N),
    tolerance: 2e-5,
    inputs: () => {
      const bits = new Int32Array(normal(2, [(N * K) / 8]).data.buffer).map((x) => Math.imul(x, 0x9e3779b1));
      return {
        x: normal(1, [1, K]),
        codes: { data: bits, shape: [N, K / 8] },
        scales: { data: Float32Array.from({ length: groups }, (_, i) => scale(i)), shape: [N, K / 32] },
      };
    },
    expected: ({ x, codes }) =>
      Float64Array.from({ length: N }, (_, n) => {
        let sum = 0;
        for (let k = 0, i = n * K; k < K; k++, i++)
          sum += x.data[k] * (((codes.data[i >> 3] >>> (4 * (i & 7))) & 15) - 8) * scale(i >> 5);
        return sum;
      }),
    ours: ({ bench, sg }, { x, codes, scales }) => {
      const weight = new QuantizedWeight([N, K], { format: "int4", group: 32 });
      weight.packed = sg.tensor(new Uint32Array(codes.data.buffer), { shape: codes.shape });
      weight.scales = sg.tensor(scales.data, { shape: scales.shape, dtype: "f16" });
      return bench((v) => quantizedLinear(v, weight), x);
    },
  };
}

const N = 512;
const square = product("", [N, N], [N, N]);

export const workloads: Workload[] = [
  product("matmul_256", [256, 256], [256, 256], 256),
  product("matmul_512", [512, 512], [512, 512], 128),
  // The transposed reads of backward passes.
  {
    ...square,
    name: "matmul_512_at_b",
    expected: (x) => matmul(transpose(x.a.data, N, N), x.b.data, 1, N, N, N, 64),
    ours: ({ bench }, x) => bench((p, q) => p.t().matmul(q), x.a, x.b),
  },
  {
    ...square,
    name: "matmul_512_a_bt",
    expected: (x) => matmul(x.a.data, transpose(x.b.data, N, N), 1, N, N, N, 64),
    ours: ({ bench }, x) => bench((p, q) => p.matmul(q.t()), x.a, x.b),
  },
  product("matmul_1024", [1024, 1024], [1024, 1024]),
  product("matmul_2048", [2048, 2048], [2048, 2048], 16),
  product("bmm_32x128x64x128", [32, 128, 64], [32, 64, 128], 4096),
  product("matvec_2048x2048", [1, 2048], [2048, 2048]),
  product("matvec_2048x8192", [1, 2048], [2048, 8192]),
  packedProduct("matvec_int4_2048x8192", 2048, 8192),
];
