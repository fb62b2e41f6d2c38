import { adam, B, D, decay, eps, H, L, lr, M, mlpRate, N, T, V } from "../../workloads/train.ts";
import { filled, type Input } from "../../workloads/workload.ts";
import { absent, type Variants } from "./variants.ts";

const corrections = (t: number) => [1 / (1 - adam.b1 ** t), 1 / (1 - adam.b2 ** t)];
const like = (x: Input) => filled(x.shape, 0);

/** jax-js has no AdamW that can be jitted: the textbook update, one fused kernel per parameter. */
function jaxAdamW(np: any, p: any, g: any, m: any, v: any, c1: any, c2: any, lr: number, decay: number) {
  const m2 = np.add(np.multiply(m, adam.b1), np.multiply(g.ref, 1 - adam.b1));
  const v2 = np.add(np.multiply(v, adam.b2), np.multiply(np.square(g), 1 - adam.b2));
  const update = np.divide(np.multiply(m2.ref, c1), np.add(np.sqrt(np.multiply(v2.ref, c2)), adam.eps));
  return [np.subtract(np.multiply(p, 1 - lr * decay), np.multiply(update, lr)), m2, v2];
}

function jaxSteps(
  library: any,
  parameters: Input[],
  constants: Input[],
  lr: number,
  decay: number,
  loss: (p: any[], ...x: any[]) => any,
) {
  const { jax, np, steps } = library;
  const n = parameters.length;
  const zeros = parameters.map(like);
  return steps([...parameters, ...zeros, ...zeros], constants, corrections, (...x: any[]) => {
    const [p, m, v] = [x.slice(0, n), x.slice(n, 2 * n), x.slice(2 * n, 3 * n)];
    const data = x.slice(3 * n, x.length - 2);
    const [c1, c2] = x.slice(-2);
    const [value, gradients] = jax.valueAndGrad((q: any[]) => loss(q, ...data))(p.map((y: any) => y.ref));
    const next = p.map((y: any, i: number) => jaxAdamW(np, y, gradients[i], m[i], v[i], c1.ref, c2.ref, lr, decay));
    c1.dispose();
    c2.dispose();
    return [...next.map((y: any) => y[0]), ...next.map((y: any) => y[1]), ...next.map((y: any) => y[2]), value];
  });
}

function tfjsSteps(
  library: any,
  parameters: Input[],
  lr: number,
  decay: number,
  loss: (p: any[]) => any,
  owned: any[],
) {
  const { tf, steps, put } = library;
  const variables = parameters.map((x) => tf.variable(put(x)));
  const optimizer = tf.train.adam(lr, adam.b1, adam.b2, adam.eps);
  return steps(() => {
    const { value, grads } = tf.variableGrads(() => loss(variables), variables);
    if (decay) for (const variable of variables) variable.assign(tf.mul(variable, 1 - lr * decay));
    optimizer.applyGradients(grads);
    return value;
  }, [...variables, ...owned]);
}

const mlp: Variants = {
  jax: (library, { x, y, parameters }) =>
    jaxSteps(library, parameters, [x, y], mlpRate, 0, (p, images, labels) => {
      const { np, jax } = library;
      let h: any = images;
      for (let i = 0; i < 3; i++) {
        h = np.add(np.matmul(h, p[2 * i]), p[2 * i + 1]);
        if (i < 2) h = jax.nn.relu(h);
      }
      return np.negative(np.mean(np.sum(np.multiply(jax.nn.logSoftmax(h, -1), jax.nn.oneHot(labels, 10)), -1)));
    }),
  tfjs: (library, { x, y, parameters }) => {
    const { tf, put } = library;
    const images = put(x);
    const target = tf.cast(tf.oneHot(put(y), 10), "float32");
    return tfjsSteps(
      library,
      parameters,
      mlpRate,
      0,
      (p) => {
        let h: any = images;
        for (let i = 0; i < 3; i++) {
          h = tf.add(tf.matMul(h, p[2 * i]), p[2 * i + 1]);
          if (i < 2) h = tf.relu(h);
        }
        return tf.losses.softmaxCrossEntropy(target, h);
      },
      [images, target],
    );
  },
  ort: () => absent("no training on WebGPU"),
};

const decoder: Variants = {
  jax: (library, { tokens, targets, parameters }) => {
    const { np, jax } = library;
    const norm = (y: any, w: any) => {
      const scale = np.reciprocal(np.sqrt(np.add(np.mean(np.square(y.ref), -1, { keepdims: true }), eps)));
      return np.multiply(np.multiply(y, scale), w);
    };
    const heads = (y: any) => np.reshape(y, [B, T, H, D]);
    return jaxSteps(library, parameters, [{ shape: [N], data: tokens.data }, targets], lr, decay, (p, t, y) => {
      // The gradient of `take` cannot be jitted, so the embedding is a product with one-hot rows.
      let x: any = np.matmul(jax.nn.oneHot(t, V), p[0]);
      x = np.reshape(np.add(np.reshape(x, [B, T, M]), p[1]), [N, M]);
      for (let i = 0; i < L; i++) {
        const [n1, wq, wk, wv, wo, n2, w1, w2] = p.slice(2 + 8 * i);
        const h = norm(x.ref, n1);
        const o: any = jax.nn.dotProductAttention(
          heads(np.matmul(h.ref, wq)),
          heads(np.matmul(h.ref, wk)),
          heads(np.matmul(h, wv)),
          { isCausal: true },
        );
        x = np.add(x, np.matmul(np.reshape(o, [N, M]), wo));
        x = np.add(x.ref, np.matmul(jax.nn.gelu(np.matmul(norm(x, n2), w1), { approximate: true }), w2));
      }
      const logits = np.matmul(norm(x, p[p.length - 2]), p[p.length - 1]);
      return np.negative(np.mean(np.sum(np.multiply(jax.nn.logSoftmax(logits, -1), jax.nn.oneHot(y, V)), -1)));
    });
  },
  tfjs: (library, { tokens, targets, parameters }) => {
    const { tf, put } = library;
    const t = put({ shape: [N], data: tokens.data });
    const target = tf.cast(tf.oneHot(put(targets), V), "float32");
    const mask = tf.mul(tf.sub(1, tf.linalg.bandPart(tf.ones([T, T]), -1, 0)), -1e9);
    const norm = (y: any, w: any) => tf.mul(tf.mul(y, tf.rsqrt(tf.add(tf.mean(tf.square(y), -1, true), eps))), w);
    const heads = (y: any) => tf.transpose(tf.reshape(y, [B, T, H, D]), [0, 2, 1, 3]);
    const gelu = (y: any) =>
      tf.mul(
        tf.mul(y, 0.5),
        tf.add(tf.tanh(tf.mul(tf.add(y, tf.mul(tf.mul(tf.mul(y, y), y), 0.044715)), Math.sqrt(2 / Math.PI))), 1),
      );
    return tfjsSteps(
      library,
      parameters,
      lr,
      decay,
      (p) => {
        let x: any = tf.gather(p[0], t);
        x = tf.reshape(tf.add(tf.reshape(x, [B, T, M]), p[1]), [N, M]);
        for (let i = 0; i < L; i++) {
          const [n1, wq, wk, wv, wo, n2, w1, w2] = p.slice(2 + 8 * i);
          const h = norm(x, n1);
          const s = tf.add(
            tf.mul(tf.matMul(heads(tf.matMul(h, wq)), heads(tf.matMul(h, wk)), false, true), D ** -0.5),
            mask,
          );
          const o = tf.matMul(tf.softmax(s, -1), heads(tf.matMul(h, wv)));
          x = tf.add(x, tf.matMul(tf.reshape(tf.transpose(o, [0, 2, 1, 3]), [N, M]), wo));
          x = tf.add(x, tf.matMul(gelu(tf.matMul(norm(x, n2), w1)), w2));
        }
        const logits = tf.matMul(norm(x, p[p.length - 2]), p[p.length - 1]);
        return tf.losses.softmaxCrossEntropy(target, logits);
      },
      [t, target, mask],
    );
  },
  ort: () => absent("no training on WebGPU"),
};

export const variants: Record<string, Variants> = { mlp_train_step: mlp, decoder_train_step: decoder };
