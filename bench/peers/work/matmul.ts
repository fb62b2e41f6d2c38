import { absent, type Variants } from "./variants.ts";

const product: Variants = {
  jax: ({ np, bench }, x) => bench((p, q) => np.matmul(p, q), x.a, x.b),
  tfjs: ({ tf, bench }, x) => bench((p, q) => tf.matMul(p, q), x.a, x.b),
  ort: ({ bench }, x) =>
    bench(x, (g) => ({ [g.op("MatMul", ["a", "b"])]: [...x.a.shape.slice(0, -1), x.b.shape.at(-1)] })),
};

const transposed = (a: boolean, b: boolean): Variants => ({
  jax: ({ np, bench }, x) => bench((p, q) => np.matmul(a ? np.transpose(p) : p, b ? np.transpose(q) : q), x.a, x.b),
  tfjs: ({ tf, bench }, x) => bench((p, q) => tf.matMul(p, q, a, b), x.a, x.b),
  ort: ({ bench }, x) =>
    bench(x, (g) => {
      const shape = [x.a.shape[a ? 1 : 0], x.b.shape[b ? 0 : 1]];
      return { [g.op("Gemm", ["a", "b"], { transA: Number(a), transB: Number(b) })]: shape };
    }),
});

/** MatMulNBits has the same order of codes. */
const packed = (bits: 4 | 8): Variants => ({
  jax: () => absent("no packed weights"),
  tfjs: () => absent("no packed weights"),
  ort: ({ bench }, { x, codes, scales }) => {
    const [N, K] = [codes.shape[0], (codes.shape[1] * 32) / bits];
    return bench({ x }, (g) => {
      const weight = g.bytes(new Uint8Array(codes.data.buffer), [N, K / 32, 4 * bits]);
      const attributes = { K, N, bits, block_size: 32 };
      return { [g.op("MatMulNBits", ["x", weight, g.constant(scales)], attributes, "com.microsoft")]: [1, N] };
    });
  },
});

export const variants: Record<string, Variants> = {
  matmul_256: product,
  matmul_512: product,
  matmul_512_at_b: transposed(true, false),
  matmul_512_a_bt: transposed(false, true),
  matmul_1024: product,
  matmul_1024_at_b: transposed(true, false),
  matmul_1024_a_bt: transposed(false, true),
  matmul_1024_at_bt: transposed(true, true),
  matmul_2048: product,
  bmm_32x128x64x128: product,
  matvec_2048x2048: product,
  matvec_2048x8192: product,
  matmul_4x2048x8192_a_bt: transposed(false, true),
  matvec_int8_2048x8192: packed(8),
  matvec_int4_2048x8192: packed(4),
};
