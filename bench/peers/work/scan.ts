import { absent, type Variants } from "./variants.ts";

const slow = absent("no run ends within a minute");
/** ONNX Runtime Web; the native library runs the same graphs. */
const inBrowsers = ({ name }: { readonly name: string }): boolean => name.includes("Web");

export const variants: Record<string, Variants> = {
  sum_10M: {
    jax: ({ np, bench }, { x }) => bench((p) => np.sum(p, 0, { keepdims: true }), x),
    tfjs: ({ tf, bench }, { x }) => bench((p) => tf.sum(p, 0, true), x),
    ort: ({ bench }, x) => bench(x, (g) => ({ [g.op("ReduceSum", ["x"], { keepdims: 1 })]: [1] })),
  },
  cumsum_10M: {
    jax: () => slow,
    tfjs: ({ tf, bench }, { x }) => bench((p) => tf.cumsum(p, 0), x),
    ort: (library, x) =>
      inBrowsers(library) ? slow : library.bench(x, (g) => ({ [g.op("CumSum", ["x", g.constant([0])])]: x.x.shape })),
  },
  sort_1M: {
    jax: ({ np, bench }, { x }) => bench((p) => np.sort(p, 0), x),
    // Smallest first: the largest of the negative values.
    tfjs: ({ tf, bench }, { x }) => bench((p) => tf.neg(tf.topk(tf.neg(p), x.shape[0], true).values), x),
    ort: (library, x) =>
      inBrowsers(library)
        ? slow
        : library.bench(x, (g) => ({
            [g.op("TopK", ["x", g.constant([x.x.shape[0]])], { largest: 0, sorted: 1 }, "", 1)]: x.x.shape,
          })),
  },
};
