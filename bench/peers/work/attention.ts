import type { Input } from "../../workloads/workload.ts";
import { absent, type Variants } from "./variants.ts";

/** Transposes [H, T, D] to [T, H, D], the layout of jax-js and ORT. */
const swap = ({ shape: [A, B, C], data }: Input): Input => {
  const out = new Float32Array(data.length);
  for (let a = 0; a < A; a++)
    for (let b = 0; b < B; b++) out.set(data.subarray((a * B + b) * C, (a * B + b + 1) * C), (b * A + a) * C);
  return { shape: [B, A, C], data: out };
};

/** TensorFlow.js has no attention op: products, a mask and a softmax. */
function tfjsAttention(tf: any, [, T, D]: readonly number[]) {
  const mask = tf.mul(tf.sub(1, tf.linalg.bandPart(tf.ones([T, T]), -1, 0)), -1e9);
  return (q: any, k: any, v: any) =>
    tf.matMul(tf.softmax(tf.add(tf.mul(tf.matMul(q, k, false, true), D ** -0.5), mask), -1), v);
}

const forward: Variants = {
  jax: ({ np, jax, bench }, { q, k, v }) =>
    bench(
      (a, b, c) => np.transpose(jax.nn.dotProductAttention(a, b, c, { isCausal: true }), [1, 0, 2]),
      swap(q),
      swap(k),
      swap(v),
    ),
  tfjs: ({ tf, bench }, { q, k, v }) => bench(tfjsAttention(tf, q.shape), q, k, v),
  ort: ({ bench }, { q, k, v }) => {
    const [H, T, D] = q.shape;
    const flat = (x: Input): Input => ({ shape: [1, T, H * D], data: swap(x).data });
    return bench({ q: flat(q), k: flat(k), v: flat(v) }, (g) => {
      const y = g.op("MultiHeadAttention", ["q", "k", "v"], { num_heads: H, unidirectional: 1 }, "com.microsoft");
      const heads = g.op("Transpose", [g.op("Reshape", [y, g.constant([T, H, D])])], { perm: [1, 0, 2] });
      return { [heads]: q.shape };
    });
  },
};

const backward: Variants = {
  jax: ({ np, jax, bench }, { q, k, v, g }) =>
    bench(
      (a, b, c, d) => {
        const attend = (x: any, y: any, z: any) => jax.nn.dotProductAttention(x, y, z, { isCausal: true });
        const [o, pull] = jax.vjp(attend, [a, b, c]);
        const gradients = pull(d);
        pull.dispose();
        return [o, ...gradients].map((x) => np.transpose(x, [1, 0, 2]));
      },
      swap(q),
      swap(k),
      swap(v),
      swap(g),
    ),
  tfjs: ({ tf, bench }, { q, k, v, g }) => {
    const attend = tfjsAttention(tf, q.shape);
    return bench(
      (a, b, c, d) => {
        let o: any;
        const gradients = tf.grads((x: any, y: any, z: any) => {
          const out = attend(x, y, z);
          o ??= tf.keep(out.clone());
          return out;
        })([a, b, c], d);
        return [o, ...gradients];
      },
      q,
      k,
      v,
      g,
    );
  },
  ort: () => absent("no training on WebGPU"),
};

export const variants: Record<string, Variants> = {
  attn_causal_fwd_512: forward,
  attn_causal_fwd_1024: forward,
  attn_causal_fwdbwd_512: backward,
  attn_causal_fwdbwd_1024: backward,
};
