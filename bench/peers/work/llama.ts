import { D, eps, H, M, T } from "../../workloads/llama.ts";
import type { Input } from "../../workloads/workload.ts";
import type { Variants } from "./variants.ts";

const block: Variants = {
  jax: ({ np, jax, bench }, inputs) =>
    bench(
      (x, n1, wq, wk, wv, wo, n2, gate, up, down, cos, sin) => {
        const norm = (y: typeof x, w: typeof x) => {
          const scale = np.reciprocal(np.sqrt(np.add(np.mean(np.square(y.ref), -1, { keepdims: true }), eps)));
          return np.multiply(np.multiply(y, scale), w);
        };
        const c = np.reshape(np.concatenate([cos.ref, cos], -1), [T, 1, D]);
        const s = np.reshape(np.concatenate([sin.ref, sin], -1), [T, 1, D]);
        const rope = (y: typeof x) => {
          const [a, b] = np.split(y.ref, 2, -1);
          return np.add(np.multiply(y, c.ref), np.multiply(np.concatenate([np.negative(b), a], -1), s.ref));
        };
        const heads = (y: typeof x) => np.reshape(y, [T, H, D]);
        const h = norm(x.ref, n1);
        const q = rope(heads(np.matmul(h.ref, wq)));
        const k = rope(heads(np.matmul(h.ref, wk)));
        c.dispose();
        s.dispose();
        const o = jax.nn.dotProductAttention(q, k, heads(np.matmul(h, wv)), { isCausal: true });
        const mid = np.add(np.matmul(np.reshape(o, [T, M]), wo), x);
        const h2 = norm(mid.ref, n2);
        const act = np.multiply(jax.nn.silu(np.matmul(h2.ref, gate)), np.matmul(h2, up));
        return np.add(np.matmul(act, down), mid);
      },
      ...(Object.values(inputs) as Input[]),
    ),
  tfjs: ({ tf, bench }, inputs) => {
    const mask = tf.mul(tf.sub(1, tf.linalg.bandPart(tf.ones([T, T]), -1, 0)), -1e9);
    return bench(
      (x, n1, wq, wk, wv, wo, n2, gate, up, down, cos, sin) => {
        const norm = (y: typeof x, w: typeof x) =>
          tf.mul(tf.mul(y, tf.rsqrt(tf.add(tf.mean(tf.square(y), -1, true), eps))), w);
        const c = tf.concat([cos, cos], -1);
        const s = tf.concat([sin, sin], -1);
        const rope = (y: typeof x) => {
          const [a, b] = tf.split(y, 2, -1);
          return tf.add(tf.mul(y, c), tf.mul(tf.concat([tf.neg(b), a], -1), s));
        };
        const heads = (y: typeof x) => tf.transpose(tf.reshape(y, [T, H, D]), [1, 0, 2]);
        const h = norm(x, n1);
        const q = rope(heads(tf.matMul(h, wq)));
        const k = rope(heads(tf.matMul(h, wk)));
        const p = tf.softmax(tf.add(tf.mul(tf.matMul(q, k, false, true), D ** -0.5), mask), -1);
        const o = tf.matMul(p, heads(tf.matMul(h, wv)));
        const mid = tf.add(tf.matMul(tf.reshape(tf.transpose(o, [1, 0, 2]), [T, M]), wo), x);
        const h2 = norm(mid, n2);
        const g = tf.matMul(h2, gate);
        return tf.add(tf.matMul(tf.mul(tf.mul(g, tf.sigmoid(g)), tf.matMul(h2, up)), down), mid);
      },
      ...(Object.values(inputs) as Input[]),
    );
  },
  ort: ({ bench }, inputs) => {
    const shaped = { ...inputs, x: { shape: [1, T, M], data: inputs.x.data } };
    return bench(shaped, (g) => {
      const ms = "com.microsoft";
      const norm = (y: string, w: string) =>
        g.op("SimplifiedLayerNormalization", [y, w], { axis: -1, epsilon: { float: eps } });
      const product = (y: string, w: string) => g.op("MatMul", [y, w]);
      const positions = g.constant([...Array(T).keys()]);
      const at = g.op("Reshape", [positions, g.constant([1, T])]);
      const rope = (y: string) =>
        g.op("RotaryEmbedding", [y, at, "cos", "sin"], { num_heads: H, rotary_embedding_dim: 0 }, ms);
      const h = norm("x", "n1");
      const o = g.op(
        "MultiHeadAttention",
        [rope(product(h, "wq")), rope(product(h, "wk")), product(h, "wv")],
        { num_heads: H, unidirectional: 1 },
        ms,
      );
      const mid = g.op("Add", [product(o, "wo"), "x"]);
      const h2 = norm(mid, "n2");
      const gate = product(h2, "gate");
      const act = g.op("Mul", [g.op("Mul", [gate, g.op("Sigmoid", [gate])]), product(h2, "up")]);
      return { [g.op("Add", [product(act, "down"), mid])]: [1, T, M] };
    });
  },
};

export const variants: Record<string, Variants> = { llama_block_fwd: block };
