import { QuantizedWeight, quantizedLinear } from "../../src/nn/index.ts";
import { matmul, transpose } from "./reference.ts";
import { normal, type Workload } from "./workload.ts";

const size = (shape: readonly number[]) => shape.reduce((x, y) => x * y, 1);

/** a [.., M, K] × b [.., K, N]. Checks `rows` rows of the result. */
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

/** A product with transposed operands, as in backward passes (a [K, M]) and in layers with [out, in] weights (b [N, K]). */
function transposed(
  name: string,
  a: [number, number],
  b: [number, number],
  at: boolean,
  bt: boolean,
  rows = 64,
): Workload {
  const [k, m] = at ? a : [a[1], a[0]];
  const n = b[bt ? 0 : 1];
  return {
    ...product(name, [m, k], [k, n], rows),
    inputs: () => ({ a: normal(1, a), b: normal(2, b) }),
    expected: (x) =>
      matmul(
        at ? transpose(x.a.data, a[0], a[1]) : x.a.data,
        bt ? transpose(x.b.data, b[0], b[1]) : x.b.data,
        1,
        m,
        k,
        n,
        rows,
      ),
    ours: ({ bench }, x) => bench((p, q) => (at ? p.t() : p).matmul(bt ? q.t() : q), x.a, x.b),
  };
}

/** x [1, K] × weights [N, K] of 4 or 8 bits. Group i of 32 has the scale (i % 7 + 1) / 64. The code of 0 is 8 or 128. */
function packedProduct(name: string, bits: 4 | 8, K: number, N: number): Workload {
  const groups = (N * K) / 32;
  const scale = (group: number): number => ((group % 7) + 1) / 64; // exact in f16
  return {
    name,
    flops: 2 * K * N,
    bytes: (N * K * bits) / 8 + 2 * groups + 4 * (K + N),
    tolerance: 2e-5,
    inputs: () => {
      const words = new Int32Array(normal(2, [(N * K * bits) / 32]).data.buffer).map((x) => Math.imul(x, 0x9e3779b1));
      return {
        x: normal(1, [1, K]),
        codes: { data: words, shape: [N, (K * bits) / 32] },
        scales: { data: Float32Array.from({ length: groups }, (_, i) => scale(i)), shape: [N, K / 32] },
      };
    },
    expected: ({ x, codes }) => {
      const [each, mask, middle] = [32 / bits, 2 ** bits - 1, 2 ** (bits - 1)];
      return Float64Array.from({ length: N }, (_, n) => {
        let sum = 0;
        for (let k = 0, i = n * K; k < K; k++, i++)
          sum += x.data[k] * (((codes.data[(i / each) | 0] >>> (bits * (i % each))) & mask) - middle) * scale(i >> 5);
        return sum;
      });
    },
    ours: ({ bench, sg }, { x, codes, scales }) => {
      const weight = new QuantizedWeight([N, K], { format: `int${bits}`, group: 32 });
      weight.packed = sg.tensor(new Uint32Array(codes.data.buffer), { shape: codes.shape });
      weight.scales = sg.tensor(scales.data, { shape: scales.shape, dtype: "f16" });
      return bench((v) => quantizedLinear(v, weight), x);
    },
  };
}

const small: [number, number] = [512, 512];
const large: [number, number] = [1024, 1024];

export const workloads: Workload[] = [
  product("matmul_256", [256, 256], [256, 256], 256),
  product("matmul_512", [512, 512], [512, 512], 128),
  transposed("matmul_512_at_b", small, small, true, false),
  transposed("matmul_512_a_bt", small, small, false, true),
  product("matmul_1024", large, large),
  transposed("matmul_1024_at_b", large, large, true, false, 16),
  transposed("matmul_1024_a_bt", large, large, false, true, 16),
  transposed("matmul_1024_at_bt", large, large, true, true, 16),
  product("matmul_2048", [2048, 2048], [2048, 2048], 16),
  product("bmm_32x128x64x128", [32, 128, 64], [32, 64, 128], 4096),
  product("matvec_2048x2048", [1, 2048], [2048, 2048]),
  product("matvec_2048x8192", [1, 2048], [2048, 8192]),
  transposed("matmul_4x2048x8192_a_bt", [4, 2048], [8192, 2048], false, true),
  packedProduct("matvec_int8_2048x8192", 8, 2048, 8192),
  packedProduct("matvec_int4_2048x8192", 4, 2048, 8192),
];
