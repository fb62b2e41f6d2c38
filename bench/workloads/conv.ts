import { type Input, normal, type Workload } from "./workload.ts";

// Batch 8, 64 channels, 56 x 56: the first stage of a ResNet-18.
export const shape = [8, 64, 56, 56];
const [N, C, H, W] = shape;
const P = H * W;
export const eps = 1e-5;
const flops = 2 * N * C * P * C * 9;
const bytes = 4 * N * C * P;

/** Σ a[c, i + r, j + s] b[c, r, s] over `channels` and a 3 x 3 window with a padding of 1, from plane `at` of a on. */
function windowSum(a: ArrayLike<number>, at: number, b: ArrayLike<number>, from: number, channels: number, p: number) {
  const [i, j] = [Math.floor(p / W), p % W];
  let sum = 0;
  for (let c = 0; c < channels; c++)
    for (let r = Math.max(0, 1 - i); r < Math.min(3, H + 1 - i); r++)
      for (let s = Math.max(0, 1 - j); s < Math.min(3, W + 1 - j); s++)
        sum += a[(at + c) * P + (i + r - 1) * W + j + s - 1] * b[from + c * 9 + r * 3 + s];
  return sum;
}

/** y = conv2d(x, w, padding 1), every `step`-th element; the others are NaN. */
function convolve(x: ArrayLike<number>, w: ArrayLike<number>, step: number, depthwise = false): Float64Array {
  const y = new Float64Array(N * C * P).fill(NaN);
  for (let e = 0; e < y.length; e += step) {
    const [plane, p] = [Math.floor(e / P), e % P];
    const [n, o] = [Math.floor(plane / C), plane % C];
    y[e] = depthwise ? windowSum(x, plane, w, o * 9, 1, p) : windowSum(x, n * C, w, o * C * 9, C, p);
  }
  return y;
}

/** The weight [in, out, 3, 3] whose convolution gives the gradient of the input. */
const reversed = (w: ArrayLike<number>): Float64Array =>
  Float64Array.from({ length: C * C * 9 }, (_, e) => {
    const [i, o, k] = [Math.floor(e / (C * 9)), Math.floor(e / 9) % C, e % 9];
    return w[(o * C + i) * 9 + 8 - k];
  });

/** Gradient of the weight for every `step`-th element. */
function weightGradient(x: ArrayLike<number>, g: ArrayLike<number>, step: number): Float64Array {
  const dw = new Float64Array(C * C * 9).fill(NaN);
  for (let e = 0; e < dw.length; e += step) {
    const [o, c, r, s] = [Math.floor(e / (C * 9)), Math.floor(e / 9) % C, Math.floor(e / 3) % 3, e % 3];
    let sum = 0;
    for (let n = 0; n < N; n++)
      for (let i = Math.max(0, 1 - r); i < Math.min(H, H + 1 - r); i++)
        for (let j = Math.max(0, 1 - s); j < Math.min(W, W + 1 - s); j++)
          sum += g[(n * C + o) * P + i * W + j] * x[(n * C + c) * P + (i + r - 1) * W + j + s - 1];
    dw[e] = sum;
  }
  return dw;
}

/** Gradients of Σ (y - t)² / 2 for x, weight and bias, where y is the batch norm of x in training. */
function batchNormGradients(x: Input, t: Input, weight: Input, bias: Input): Float64Array {
  const [dx, dw, db] = [new Float64Array(x.data.length), new Float64Array(C), new Float64Array(C)];
  const n = N * P;
  for (let c = 0; c < C; c++) {
    const each = (f: (at: number) => void): void => {
      for (let s = 0; s < N; s++) for (let p = 0; p < P; p++) f((s * C + c) * P + p);
    };
    let [mean, variance] = [0, 0];
    each((at) => void (mean += x.data[at] / n));
    each((at) => void (variance += (x.data[at] - mean) ** 2 / n));
    const inverse = 1 / Math.sqrt(variance + eps);
    const normal = (at: number) => (x.data[at] - mean) * inverse;
    const gradient = (at: number) => normal(at) * weight.data[c] + bias.data[c] - t.data[at];
    each((at) => {
      db[c] += gradient(at);
      dw[c] += gradient(at) * normal(at);
    });
    each((at) => {
      dx[at] = weight.data[c] * inverse * (gradient(at) - (db[c] + normal(at) * dw[c]) / n);
    });
  }
  return Float64Array.from([...[dx, dw, db].map((a) => [...a])].flat());
}

const image = (seed: number): Input => normal(seed, shape);
const filter = (seed: number): Input => normal(seed, [C, C, 3, 3], (C * 9) ** -0.5);

export const workloads: Workload[] = [
  {
    name: "conv2d_3x3_64_56",
    flops,
    bytes: 2 * bytes,
    tolerance: 1e-5,
    inputs: () => ({ x: image(201), w: filter(202) }),
    expected: ({ x, w }) => convolve(x.data, w.data, 61),
    ours: ({ sg, bench }, { x, w }) => bench((p, q) => sg.conv2d(p, q, null, { padding: 1 }), x, w),
  },
  {
    // Gradients of Σ y² / 2 for x and w: forward and backward.
    name: "conv2d_3x3_64_56_fwdbwd",
    flops: 3 * flops,
    bytes: 3 * bytes,
    tolerance: 2e-5,
    inputs: () => ({ x: image(203), w: filter(204) }),
    expected: ({ x, w }) => {
      const y = convolve(x.data, w.data, 1);
      const [dx, dw] = [convolve(y, reversed(w.data), 61), weightGradient(x.data, y, 97)];
      const all = new Float64Array(dx.length + dw.length);
      all.set(dx);
      all.set(dw, dx.length);
      return all;
    },
    ours: ({ sg, bench }, { x, w }) =>
      bench(
        (p, q) => {
          const leaves = [p, q].map((t) => t.detach().requiresGrad_());
          const y = sg.conv2d(leaves[0], leaves[1], null, { padding: 1 });
          return sg.grad(y.square().sum().mul(0.5), leaves);
        },
        x,
        w,
      ),
  },
  {
    name: "depthwise_3x3_64_56",
    flops: 2 * N * C * P * 9,
    bytes: 2 * bytes,
    tolerance: 1e-5,
    inputs: () => ({ x: image(205), w: normal(206, [C, 1, 3, 3]) }),
    expected: ({ x, w }) => convolve(x.data, w.data, 1, true),
    ours: ({ sg, bench }, { x, w }) => bench((p, q) => sg.conv2d(p, q, null, { padding: 1, groups: C }), x, w),
  },
  {
    // Gradients of Σ (y - t)² / 2 for x, weight and bias: forward and backward in training.
    name: "batchnorm_64_56_fwdbwd",
    bytes: 3 * bytes,
    tolerance: 2e-5,
    inputs: () => ({ x: image(207), t: image(208), weight: normal(209, [C]), bias: normal(210, [C]) }),
    expected: ({ x, t, weight, bias }) => batchNormGradients(x, t, weight, bias),
    ours: ({ sg, bench }, { x, t, weight, bias }) =>
      bench(
        (p, target, q, r) => {
          const leaves = [p, q, r].map((v) => v.detach().requiresGrad_());
          const { output } = sg.batchNorm(leaves[0], { weight: leaves[1], bias: leaves[2], training: true, eps });
          return sg.grad(output.sub(target).square().sum().mul(0.5), leaves);
        },
        x,
        t,
        weight,
        bias,
      ),
  },
];
