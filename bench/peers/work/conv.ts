import { eps, shape } from "../../workloads/conv.ts";
import { type Case, concat, type Input } from "../../workloads/workload.ts";
import { absent, type Variants } from "./variants.ts";

const [N, C, H, W] = shape;
const one = [
  [1, 1],
  [1, 1],
];

/** An array with its dims in another order, as `transpose` gives it. */
function permuted({ data, shape }: Input, order: readonly number[]): Input {
  const strides = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
  const to = order.map((d) => shape[d]);
  const out = new Float32Array(data.length);
  const index = new Array<number>(to.length).fill(0);
  for (let e = 0; e < out.length; e++) {
    out[e] = data[index.reduce((sum, i, d) => sum + i * strides[order[d]], 0)];
    for (let d = to.length - 1; d >= 0 && ++index[d] === to[d]; d--) index[d] = 0;
  }
  return { shape: to, data: out };
}

/** TensorFlow.js convolves [N, H, W, C] with [kh, kw, in, out]: inputs are laid out so before the clock starts. */
const channelsLast = (x: Input): Input => permuted(x, [0, 2, 3, 1]);
const filter = (w: Input): Input => permuted(w, [2, 3, 1, 0]);
const imageBack = (data: Float32Array): Float32Array =>
  permuted({ data, shape: [N, H, W, C] }, [0, 3, 1, 2]).data as Float32Array;
const filterBack = (data: Float32Array): Float32Array =>
  permuted({ data, shape: [3, 3, C, C] }, [3, 2, 0, 1]).data as Float32Array;

/** The case with its values in the order of the others. */
const reordered = (given: Case, order: (values: Float32Array) => Float32Array): Case => ({
  ...given,
  result: async () => order(await given.result()),
});
/** An image first, then what `rest` reorders. */
const split =
  (rest: (values: Float32Array) => Float32Array) =>
  (values: Float32Array): Float32Array => {
    const size = N * C * H * W;
    return concat([imageBack(values.subarray(0, size)), rest(values.subarray(size))]);
  };

export const variants: Record<string, Variants> = {
  conv2d_3x3_64_56: {
    jax: ({ jax, bench }, { x, w }) => bench((p, q) => jax.lax.conv(p, q, [1, 1], one as any), x, w),
    tfjs: ({ tf, bench }, { x, w }) =>
      reordered(
        bench((p, q) => tf.conv2d(p, q, 1, "same"), channelsLast(x), filter(w)),
        imageBack,
      ),
    ort: ({ bench }, x) =>
      bench(x, (g) => ({ [g.op("Conv", ["x", "w"], { pads: [1, 1, 1, 1], kernel_shape: [3, 3] })]: x.x.shape })),
  },
  conv2d_3x3_64_56_fwdbwd: {
    jax: ({ jax, np, bench }, { x, w }) =>
      bench(
        (p, q) => {
          const loss = (v: any[]) => np.multiply(np.sum(np.square(jax.lax.conv(v[0], v[1], [1, 1], one as any))), 0.5);
          return (jax as any).grad(loss)([p, q]);
        },
        x,
        w,
      ),
    tfjs: ({ tf, bench }, { x, w }) =>
      reordered(
        bench(
          (p, q) =>
            tf.grads((a: any, b: any) => tf.mul(tf.sum(tf.square(tf.conv2d(a, b, 1, "same"))), 0.5) as any)([p, q]),
          channelsLast(x),
          filter(w),
        ),
        split(filterBack),
      ),
    ort: () => absent("no training on WebGPU"),
  },
  depthwise_3x3_64_56: {
    jax: ({ jax, bench }, { x, w }) =>
      bench((p, q) => (jax.lax as any).convGeneralDilated(p, q, [1, 1], one, { featureGroupCount: C }), x, w),
    tfjs: ({ tf, bench }, { x, w }) =>
      reordered(
        bench((p, q) => tf.depthwiseConv2d(p, q, 1, "same"), channelsLast(x), permuted(w, [2, 3, 0, 1])),
        imageBack,
      ),
    ort: ({ bench }, x) =>
      bench(x, (g) => ({
        [g.op("Conv", ["x", "w"], { pads: [1, 1, 1, 1], kernel_shape: [3, 3], group: C })]: x.x.shape,
      })),
  },
  batchnorm_64_56_fwdbwd: {
    jax: ({ jax, np, bench }, { x, t, weight, bias }) =>
      bench(
        (p, target, q, r) => {
          const channel = (v: any) => np.reshape(v, [1, C, 1, 1]);
          const loss = (v: any[]) => {
            const mean = np.mean(v[0].ref, [0, 2, 3], { keepdims: true });
            const centred: any = np.subtract(v[0], mean);
            const variance = np.mean(np.square(centred.ref), [0, 2, 3], { keepdims: true });
            const y = np.multiply(centred, np.reciprocal(np.sqrt(np.add(variance, eps))));
            const output = np.add(np.multiply(y, channel(v[1])), channel(v[2]));
            return np.multiply(np.sum(np.square(np.subtract(output, target))), 0.5);
          };
          return (jax as any).grad(loss)([p, q, r]);
        },
        x,
        t,
        weight,
        bias,
      ),
    tfjs: ({ tf, bench }, { x, t, weight, bias }) =>
      reordered(
        bench(
          (p, target, q, r) =>
            tf.grads((a: any, b: any, c: any) => {
              const { mean, variance } = tf.moments(a, [0, 1, 2]);
              return tf.mul(
                tf.sum(tf.square(tf.sub(tf.batchNorm(a, mean as any, variance as any, c, b, eps), target))),
                0.5,
              ) as any;
            })([p, q, r]),
          channelsLast(x),
          channelsLast(t),
          weight,
          bias,
        ),
        split((values) => values),
      ),
    ort: () => absent("no training on WebGPU"),
  },
};
