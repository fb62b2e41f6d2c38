import { absent, type Variants } from "./variants.ts";

const slow = absent("no run ends within a minute");

export const variants: Record<string, Variants> = {
  sum_10M: {
    jax: ({ np, bench }, { x }) => bench((p) => np.sum(p, 0, { keepdims: true }), x),
    tfjs: ({ tf, bench }, { x }) => bench((p) => tf.sum(p, 0, true), x),
    ort: ({ bench }, x) => bench(x, (g) => ({ [g.op("ReduceSum", ["x"], { keepdims: 1 })]: [1] })),
  },
  cumsum_10M: {
    jax: () => slow,
    tfjs: ({ tf, bench }, { x }) => bench((p) => tf.cumsum(p, 0), x),
    ort: () => slow,
  },
  sort_1M: {
    jax: ({ np, bench }, { x }) => bench((p) => np.sort(p, 0), x),
    // Smallest first: the largest of the negative values.
    tfjs: ({ tf, bench }, { x }) => bench((p) => tf.neg(tf.topk(tf.neg(p), x.shape[0], true).values), x),
    ort: () => slow,
  },
};
