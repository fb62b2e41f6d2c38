import type { Input } from "./workload.ts";

// f64 values that check every library: plain loops, ordered for speed.

/** [B, M, K] × [B or 1, K, N]. Computes `rows` of all rows, evenly spread; the others are NaN. */
export function matmul(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  batch: number,
  m: number,
  k: number,
  n: number,
  rows = batch * m,
): Float64Array {
  const out = new Float64Array(batch * m * n).fill(NaN);
  const step = Math.max(1, Math.floor((batch * m) / rows));
  const shared = b.length === k * n;
  for (let row = 0; row < batch * m; row += step) {
    const from = shared ? 0 : Math.floor(row / m) * k * n;
    const sum = out.subarray(row * n, (row + 1) * n).fill(0);
    for (let i = 0; i < k; i++) {
      const x = a[row * k + i];
      for (let j = 0; j < n; j++) sum[j] += x * b[from + i * n + j];
    }
  }
  return out;
}

/** Applies `f` to every row of the last dimension. */
export function rows(x: Input, f: (row: Float64Array) => void): Float64Array {
  const out = Float64Array.from(x.data);
  const width = x.shape[x.shape.length - 1];
  for (let i = 0; i < out.length; i += width) f(out.subarray(i, i + width));
  return out;
}

export function softmaxRow(row: Float64Array): void {
  let max = -Infinity;
  for (const x of row) max = Math.max(max, x);
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i] = Math.exp(row[i] - max);
  for (let i = 0; i < row.length; i++) row[i] /= sum;
}

export function rmsNormRow(row: Float64Array, weight: ArrayLike<number>, eps: number): void {
  let sum = 0;
  for (const x of row) sum += x * x;
  const scale = 1 / Math.sqrt(sum / row.length + eps);
  for (let i = 0; i < row.length; i++) row[i] *= scale * weight[i];
}

export function layerNormRow(row: Float64Array, weight: ArrayLike<number>, bias: ArrayLike<number>, eps: number): void {
  let mean = 0;
  for (const x of row) mean += x / row.length;
  for (let i = 0; i < row.length; i++) row[i] -= mean;
  rmsNormRow(row, weight, eps);
  for (let i = 0; i < row.length; i++) row[i] += bias[i];
}

/** Causal attention of [H, T, D]. With dO also its gradients: [o, dq, dk, dv]. */
export function attention(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  H: number,
  T: number,
  D: number,
  dO?: ArrayLike<number>,
): Float64Array[] {
  const [o, dq, dk, dv] = [0, 1, 2, 3].map(() => new Float64Array(H * T * D));
  const scale = 1 / Math.sqrt(D);
  for (let h = 0; h < H; h++) {
    for (let i = 0; i < T; i++) {
      const qi = (h * T + i) * D;
      const p = new Float64Array(i + 1);
      for (let j = 0; j <= i; j++) {
        const kj = (h * T + j) * D;
        for (let d = 0; d < D; d++) p[j] += q[qi + d] * k[kj + d];
        p[j] *= scale;
      }
      softmaxRow(p);
      for (let j = 0; j <= i; j++) for (let d = 0; d < D; d++) o[qi + d] += p[j] * v[(h * T + j) * D + d];
      if (!dO) continue;
      let inner = 0;
      for (let d = 0; d < D; d++) inner += dO[qi + d] * o[qi + d];
      for (let j = 0; j <= i; j++) {
        const kj = (h * T + j) * D;
        let dp = 0;
        for (let d = 0; d < D; d++) dp += dO[qi + d] * v[kj + d];
        const ds = p[j] * (dp - inner) * scale;
        for (let d = 0; d < D; d++) {
          dv[kj + d] += p[j] * dO[qi + d];
          dq[qi + d] += ds * k[kj + d];
          dk[kj + d] += ds * q[qi + d];
        }
      }
    }
  }
  return dO ? [o, dq, dk, dv] : [o];
}

/** Error function to about 1e-15: a series below 3, a continued fraction above. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let n = 1; n < 80; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * sum * (2 / Math.sqrt(Math.PI));
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
}

export const gelu = (x: number) => 0.5 * x * (1 + erf(x / Math.SQRT2));

export function join(parts: Float64Array[]): Float64Array {
  const out = new Float64Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function transpose(x: ArrayLike<number>, m: number, n: number): Float64Array {
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) out[j * m + i] = x[i * n + j];
  return out;
}

/** Mean cross-entropy of logits [N, C] and its gradient. */
export function crossEntropy(
  logits: Float64Array,
  target: ArrayLike<number>,
  classes: number,
): { loss: number; gradient: Float64Array } {
  const n = target.length;
  const gradient = logits.slice();
  let loss = 0;
  for (let i = 0; i < n; i++) {
    const row = gradient.subarray(i * classes, (i + 1) * classes);
    softmaxRow(row);
    loss -= Math.log(row[target[i]]) / n;
    row[target[i]] -= 1;
    for (let j = 0; j < classes; j++) row[j] /= n;
  }
  return { loss, gradient };
}

/** Losses of `steps` Adam steps of a ReLU perceptron with layer sizes `sizes`. Parameters are [w, b, w, b, …]. */
export function mlpLosses(
  x: Input,
  target: ArrayLike<number>,
  parameters: Input[],
  sizes: number[],
  steps: number,
  lr: number,
): Float64Array {
  const n = x.shape[0];
  const p = parameters.map((y) => Float64Array.from(y.data));
  const moments = p.map((y) => [new Float64Array(y.length), new Float64Array(y.length)]);
  return Float64Array.from({ length: steps }, (_, t) => {
    const h: Float64Array[] = [Float64Array.from(x.data)];
    for (let i = 0; i + 1 < sizes.length; i++) {
      const y = matmul(h[i], p[2 * i], 1, n, sizes[i], sizes[i + 1]);
      for (let j = 0; j < y.length; j++) {
        y[j] += p[2 * i + 1][j % sizes[i + 1]];
        if (i + 2 < sizes.length) y[j] = Math.max(0, y[j]);
      }
      h.push(y);
    }
    const { loss, gradient: last } = crossEntropy(h[h.length - 1], target, sizes[sizes.length - 1]);
    let gradient: Float64Array = last;
    const gradients: Float64Array[] = [];
    for (let i = sizes.length - 2; i >= 0; i--) {
      const [from, to] = [sizes[i], sizes[i + 1]];
      const bias = new Float64Array(to);
      for (let j = 0; j < gradient.length; j++) bias[j % to] += gradient[j];
      gradients[2 * i] = matmul(transpose(h[i], n, from), gradient, 1, from, n, to);
      gradients[2 * i + 1] = bias;
      gradient = matmul(gradient, transpose(p[2 * i], from, to), 1, n, to, from);
      for (let j = 0; j < gradient.length; j++) if (!(h[i][j] > 0)) gradient[j] = 0;
    }
    for (let i = 0; i < p.length; i++) {
      const [m, v] = moments[i];
      for (let j = 0; j < m.length; j++) {
        m[j] = 0.9 * m[j] + 0.1 * gradients[i][j];
        v[j] = 0.999 * v[j] + 0.001 * gradients[i][j] ** 2;
        p[i][j] -= (lr * (m[j] / (1 - 0.9 ** (t + 1)))) / (Math.sqrt(v[j] / (1 - 0.999 ** (t + 1))) + 1e-8);
      }
    }
    return loss;
  });
}
