/**
 * What kernels must compute, from the definitions, in f64 over host arrays. Written apart from src/reference, whose values
 * come through the engine's own ops.
 */
import { contiguousStrides, numel } from "../../src/graph/shape.ts";

/** A strided array: element (i, j, …) is data[offset + i * strides[0] + j * strides[1] + …]. Default: contiguous. */
export interface View {
  readonly data: ArrayLike<number>;
  readonly shape: readonly number[];
  readonly offset?: number;
  readonly strides?: readonly number[];
}

export const at = ({ data, shape, offset = 0, strides = contiguousStrides(shape) }: View, ...i: number[]): number =>
  data[offset + i.reduce((sum, n, j) => sum + n * strides[j], 0)];

/** A view of a contiguous array. */
export const view = (data: ArrayLike<number>, ...shape: number[]): View => ({ data, shape });

/** C = A B for A [..., M, K] and B [..., K, N], whose batch dims broadcast to `batch`: [...batch, M, N]. */
export function product(a: View, b: View, batch: readonly number[] = []): Float64Array {
  const [M, K] = a.shape.slice(-2);
  const N = b.shape[b.shape.length - 1];
  const out = new Float64Array(numel(batch) * M * N);
  const start = ({ shape, offset = 0, strides = contiguousStrides(shape) }: View, index: number): number => {
    let first = offset;
    for (let d = batch.length - 1; d >= 0; d--) {
      const own = d - batch.length + shape.length - 2;
      if (own >= 0 && shape[own] !== 1) first += (index % batch[d]) * strides[own];
      index = Math.floor(index / batch[d]);
    }
    return first;
  };
  const [am, ak] = (a.strides ?? contiguousStrides(a.shape)).slice(-2);
  const [bk, bn] = (b.strides ?? contiguousStrides(b.shape)).slice(-2);
  for (let i = 0; i < numel(batch); i++) {
    const [ai, bi] = [start(a, i), start(b, i)];
    for (let m = 0; m < M; m++)
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += a.data[ai + m * am + k * ak] * b.data[bi + k * bk + n * bn];
        out[(i * M + m) * N + n] = sum;
      }
  }
  return out;
}

/** Softmax or log-softmax of rows of `cols` values. */
export function softmax(x: ArrayLike<number>, cols: number, log = false): Float64Array {
  const y = new Float64Array(x.length);
  for (let r = 0; r < x.length; r += cols) {
    let [high, sum] = [-Infinity, 0];
    for (let c = r; c < r + cols; c++) high = Math.max(high, x[c]);
    for (let c = r; c < r + cols; c++) sum += Math.exp(x[c] - high);
    for (let c = r; c < r + cols; c++) y[c] = log ? x[c] - high - Math.log(sum) : Math.exp(x[c] - high) / sum;
  }
  return y;
}

/** Gradient of `softmax` from its output y. */
export function softmaxGradient(g: ArrayLike<number>, y: ArrayLike<number>, cols: number, log: boolean): Float64Array {
  const dx = new Float64Array(y.length);
  for (let r = 0; r < y.length; r += cols) {
    let sum = 0;
    for (let c = r; c < r + cols; c++) sum += log ? g[c] : g[c] * y[c];
    for (let c = r; c < r + cols; c++) dx[c] = log ? g[c] - Math.exp(y[c]) * sum : y[c] * (g[c] - sum);
  }
  return dx;
}

export interface NormOptions {
  readonly cols: number;
  readonly eps: number;
  /** LayerNorm; false: RMSNorm. */
  readonly center: boolean;
  readonly weight?: ArrayLike<number>;
  readonly bias?: ArrayLike<number>;
}

/** LayerNorm or RMSNorm of rows: y, the rows before weight and bias, and 1 / deviation of each row. */
export function norm(x: ArrayLike<number>, { cols, eps, center, weight, bias }: NormOptions) {
  const [y, normal] = [new Float64Array(x.length), new Float64Array(x.length)];
  const scales = new Float64Array(x.length / cols);
  for (let r = 0; r < scales.length; r++) {
    let [mean, square] = [0, 0];
    if (center) for (let c = 0; c < cols; c++) mean += x[r * cols + c] / cols;
    for (let c = 0; c < cols; c++) square += (x[r * cols + c] - mean) ** 2 / cols;
    scales[r] = 1 / Math.sqrt(square + eps);
    for (let i = r * cols; i < (r + 1) * cols; i++) {
      normal[i] = (x[i] - mean) * scales[r];
      y[i] = normal[i] * (weight?.[i % cols] ?? 1) + (bias?.[i % cols] ?? 0);
    }
  }
  return { y, normal, scales };
}

/** Gradients of `norm`: of x, weight and bias. */
export function normGradients(g: ArrayLike<number>, x: ArrayLike<number>, options: NormOptions): Float64Array[] {
  const { cols, center, weight } = options;
  const { normal, scales } = norm(x, options);
  const [dx, dw, db] = [new Float64Array(x.length), new Float64Array(cols), new Float64Array(cols)];
  for (let r = 0; r < scales.length; r++) {
    let [shift, slope] = [0, 0];
    for (let c = 0; c < cols; c++) {
      const i = r * cols + c;
      const h = g[i] * (weight?.[c] ?? 1);
      if (center) shift += h / cols;
      slope += (h * normal[i]) / cols;
      dw[c] += g[i] * normal[i];
      db[c] += g[i];
    }
    for (let c = 0; c < cols; c++) {
      const i = r * cols + c;
      dx[i] = scales[r] * (g[i] * (weight?.[c] ?? 1) - shift - normal[i] * slope);
    }
  }
  return [dx, dw, db];
}

/** Cross entropy of rows of logits against classes, with smoothing s, and its gradient for weights g of the rows. */
export function crossEntropy(x: Float32Array, target: Int32Array, g: Float32Array, ignoreIndex: number, s: number) {
  const cols = x.length / target.length;
  const [loss, dx] = [new Float64Array(target.length), new Float64Array(x.length)];
  for (let r = 0; r < target.length; r++) {
    if (target[r] === ignoreIndex) continue;
    const row = x.subarray(r * cols, (r + 1) * cols);
    const high = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const lse = high + Math.log(row.reduce((a, b) => a + Math.exp(b - high), 0));
    const mean = row.reduce((a, b) => a + b, 0) / cols;
    loss[r] = (1 - s) * (lse - row[target[r]]) + (s === 0 ? 0 : s * (lse - mean));
    for (let c = 0; c < cols; c++)
      dx[r * cols + c] = g[r] * (Math.exp(row[c] - lse) - s / cols - (c === target[r] ? 1 - s : 0));
  }
  return { loss, dx };
}

export interface Attention {
  readonly q: View; // [B, H, T, D]
  readonly k: View; // [B, heads, S, D], each for H / heads query heads
  readonly v: View; // as k
  readonly g?: View; // gradient of o, as q
  readonly scale: number;
  visible(b: number, h: number, t: number, s: number): boolean;
  bias?(b: number, h: number, t: number, s: number): number;
}

/** Attention, the log-sum-exp of its scores to base 2, and, for a gradient g of o, the gradients of q, k and v. */
export function attention({ q, k, v, g, scale, visible, bias = () => 0 }: Attention) {
  const [B, H, T, D] = q.shape;
  const [, heads, S] = k.shape;
  const [o, dq] = [new Float64Array(B * H * T * D), new Float64Array(B * H * T * D)];
  const [dk, dv] = [new Float64Array(B * heads * S * D), new Float64Array(B * heads * S * D)];
  const lse = new Float64Array(B * H * T);
  const dot = (x: View, xh: number, xr: number, y: View, yh: number, yr: number, b: number): number => {
    let sum = 0;
    for (let d = 0; d < D; d++) sum += at(x, b, xh, xr, d) * at(y, b, yh, yr, d);
    return sum;
  };
  const gradients = (b: number, h: number, t: number, seen: readonly number[], weights: readonly number[]): void => {
    const kv = Math.floor(h / (H / heads));
    const row = ((b * H + h) * T + t) * D;
    let rowsum = 0;
    for (let d = 0; d < D; d++) rowsum += o[row + d] * at(g!, b, h, t, d);
    seen.forEach((s, i) => {
      const key = ((b * heads + kv) * S + s) * D;
      const ds = weights[i] * (dot(g!, h, t, v, kv, s, b) - rowsum) * scale;
      for (let d = 0; d < D; d++) {
        dq[row + d] += ds * at(k, b, kv, s, d);
        dk[key + d] += ds * at(q, b, h, t, d);
        dv[key + d] += weights[i] * at(g!, b, h, t, d);
      }
    });
  };
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let t = 0; t < T; t++) {
        const kv = Math.floor(h / (H / heads));
        const row = (b * H + h) * T + t;
        const seen = Array.from({ length: S }, (_, s) => s).filter(
          (s) => visible(b, h, t, s) && bias(b, h, t, s) > -Infinity,
        );
        const scores = seen.map((s) => dot(q, h, t, k, kv, s, b) * scale + bias(b, h, t, s));
        const top = Math.max(...scores);
        const total = scores.reduce((sum, x) => sum + Math.exp(x - top), 0);
        lse[row] = seen.length ? (top + Math.log(total)) * Math.LOG2E : -Infinity;
        const weights = scores.map((x) => 2 ** (x * Math.LOG2E - lse[row]));
        seen.forEach((s, i) => {
          for (let d = 0; d < D; d++) o[row * D + d] += weights[i] * at(v, b, kv, s, d);
        });
        if (g) gradients(b, h, t, seen, weights);
      }
  return { o, lse, dq, dk, dv };
}
