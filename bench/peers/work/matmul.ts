import { absent, type Variants } from "../variants.ts";

const product: Variants = {
  jax: ({ np, bench }, x) => bench((p, q) => np.matmul(p, q), x.a, x.b),
  tfjs: ({ tf, bench }, x) => bench((p, q) => tf.matMul(p, q), x.a, x.b),
  ort: ({ bench }, x) =>
    bench(x, (g) => ({ [g.op("MatMul", ["a", "b"])]: [...x.a.shape.slice(0, -1), x.b.shape.at(-1)] })),
};

const transposed = (a: boolean): Variants => ({
  jax: ({ np, bench }, x) =>
    bench((p, q) => (a ? np.matmul(np.transpose(p), q) : np.matmul(p, np.transpose(q))), x.a, x.b),
  tfjs: ({ tf, bench }, x) => bench((p, q) => tf.matMul(p, q, a, !a), x.a, x.b),
  ort: ({ bench }, x) =>
    bench(x, (g) => ({ [g.op("Gemm", ["a", "b"], a ? { transA: 1 } : { transB: 1 })]: x.a.shape })),
});

/** Codes lie in the same order in MatMulNBits, two in a byte. */
const int4: Variants = {
  jax: () => absent("no packed weights"),
  tfjs: () => absent("no packed weights"),
  ort: ({ bench }, { x, codes, scales }) => {
    const [N, K] = [codes.shape[0], codes.shape[1] * 8];
    return bench({ x }, (g) => {
      const weight = g.bytes(new Uint8Array(codes.data.buffer), [N, K / 32, 16]);
      const attributes = { K, N, bits: 4, block_size: 32 };
      return { [g.op("MatMulNBits", ["x", weight, g.constant(scales)], attributes, "com.microsoft")]: [1, N] };
    });
  },
};

export const variants: Record<string, Variants> = {
  matmul_256: product,
  matmul_512: product,
  matmul_512_at_b: transposed(true),
  matmul_512_a_bt: transposed(false),
  matmul_1024: product,
  matmul_2048: product,
  bmm_32x128x64x128: product,
  matvec_2048x2048: product,
  matvec_2048x8192: product,
  matvec_int4_2048x8192: int4,
};
