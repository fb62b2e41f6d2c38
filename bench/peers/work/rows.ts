import { eps, TINY } from "../../workloads/rows.ts";
import type { Variants } from "./variants.ts";

const softmax: Variants = {
  jax: ({ jax, bench }, { x }) => bench((p) => jax.nn.softmax(p, -1), x),
  tfjs: ({ tf, bench }, { x }) => bench((p) => tf.softmax(p, -1), x),
  ort: ({ bench }, x) => bench(x, (g) => ({ [g.op("Softmax", ["x"], { axis: -1 })]: x.x.shape })),
};

const layernorm: Variants = {
  jax: ({ np, jax, bench }, { x, w, b }) =>
    bench((p, q, r) => np.add(np.multiply(jax.nn.standardize(p, -1, { epsilon: eps }), q), r), x, w, b),
  tfjs: ({ tf, bench }, { x, w, b }) =>
    bench(
      (p, q, r) => {
        const { mean, variance } = tf.moments(p, -1, true);
        return tf.add(tf.mul(tf.mul(tf.sub(p, mean), tf.rsqrt(tf.add(variance, eps))), q), r);
      },
      x,
      w,
      b,
    ),
  ort: ({ bench }, x) =>
    bench(x, (g) => ({
      [g.op("LayerNormalization", ["x", "w", "b"], { axis: -1, epsilon: { float: eps } })]: x.x.shape,
    })),
};

const rmsnorm: Variants = {
  jax: ({ np, bench }, { x, w }) =>
    bench(
      (p, q) => {
        const scale = np.reciprocal(np.sqrt(np.add(np.mean(np.square(p.ref), -1, { keepdims: true }), eps)));
        return np.multiply(np.multiply(p, scale), q);
      },
      x,
      w,
    ),
  tfjs: ({ tf, bench }, { x, w }) =>
    bench((p, q) => tf.mul(tf.mul(p, tf.rsqrt(tf.add(tf.mean(tf.square(p), -1, true), eps))), q), x, w),
  ort: ({ bench }, x) =>
    bench(x, (g) => ({
      [g.op("SimplifiedLayerNormalization", ["x", "w"], { axis: -1, epsilon: { float: eps } })]: x.x.shape,
    })),
};

const chain: Variants = {
  jax: ({ np, jax, bench }, { a, b }) =>
    bench(
      (p, q) => {
        const y = jax.nn.gelu(np.add(np.multiply(p.ref, 0.5), q.ref), { approximate: false });
        return np.subtract(np.multiply(np.tanh(y), p), q);
      },
      a,
      b,
    ),
  tfjs: ({ tf, bench }, { a, b }) =>
    bench(
      (p, q) => {
        const y = tf.add(tf.mul(p, 0.5), q);
        const z = tf.mul(tf.mul(y, 0.5), tf.add(tf.erf(tf.mul(y, Math.SQRT1_2)), 1));
        return tf.sub(tf.mul(tf.tanh(z), p), q);
      },
      a,
      b,
    ),
  ort: ({ bench }, x) =>
    bench(x, (g) => {
      const y = g.op("Add", [g.op("Mul", ["a", g.constant(0.5)]), "b"]);
      const z = g.op("Tanh", [g.op("Gelu", [y], {}, "com.microsoft")]);
      return { [g.op("Sub", [g.op("Mul", [z, "a"]), "b"])]: x.a.shape };
    }),
};

const tiny: Variants = {
  jax: ({ np, eager }, { a, b }) =>
    eager(
      (p, q) => {
        for (let n = 0; n < TINY; n++) p = np.add(p, q.ref);
        q.dispose();
        return p;
      },
      a,
      b,
    ),
  tfjs: ({ tf, bench }, { a, b }) =>
    bench(
      (p, q) => {
        for (let n = 0; n < TINY; n++) p = tf.add(p, q);
        return p;
      },
      a,
      b,
    ),
  ort: ({ bench }, x) =>
    bench(x, (g) => {
      let y = "a";
      for (let n = 0; n < TINY; n++) y = g.op("Add", [y, "b"]);
      return { [y]: x.a.shape };
    }),
};

export const variants: Record<string, Variants> = {
  softmax_4096x1024: softmax,
  layernorm_4096x1024: layernorm,
  rmsnorm_4096x1024: rmsnorm,
  gelu_chain_4M: chain,
  dispatch_1000: tiny,
  dispatch_1000_unfused: tiny,
};
