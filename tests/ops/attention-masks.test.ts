/** Biases of finfo.min, -Infinity and NaN, alone and with masks: attention and its gradients against f64, on every kernel. */
import { beforeAll, describe, expect, test } from "vitest";
import { type EngineOptions, init, scaledDotProductAttention, tensor } from "../../src/index.ts";

const MIN = -3.4028234663852886e38; // torch.finfo(torch.float32).min
const [B, H, S, D] = [2, 2, 37, 12];
type Rule = (b: number, t: number, s: number) => number;

const wave = (n: number, k: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * k + k));

/** Output and gradients of q, k, v for the output gradient g, from the definition. Scores are rounded to f32 as torch has them. */
function attention64(
  T: number,
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  g: Float32Array,
  bias?: Rule,
  mask?: Rule,
) {
  const [o, dq] = [new Float64Array(q.length), new Float64Array(q.length)];
  const [dk, dv] = [new Float64Array(k.length), new Float64Array(k.length)];
  const scale = 1 / Math.sqrt(D);
  for (let bh = 0; bh < B * H; bh++) {
    for (let t = 0; t < T; t++) {
      const row = (bh * T + t) * D;
      const dot = (a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number) => {
        let sum = 0;
        for (let d = 0; d < D; d++) sum += a[i + d] * b[j + d];
        return sum;
      };
      const b = Math.floor(bh / H);
      const scores = Array.from({ length: S }, (_, s) => {
        if (mask && mask(b, t, s) === 0) return -Infinity;
        return Math.fround(dot(q, row, k, (bh * S + s) * D) * scale + (bias?.(b, t, s) ?? 0));
      });
      const top = scores.reduce((x, y) => (y > x || Number.isNaN(y) ? y : x), -Infinity);
      const e = scores.map((x) => (x === -Infinity ? 0 : Math.exp(x - top)));
      const total = e.reduce((x, y) => x + y, 0);
      const p = e.map((x) => (total === 0 ? 0 : x / total));
      const dp = p.map((_, s) => dot(g, row, v, (bh * S + s) * D));
      const mean = p.reduce((sum, w, s) => sum + w * dp[s], 0);
      for (let s = 0; s < S; s++)
        for (let d = 0; d < D; d++) {
          const at = (bh * S + s) * D + d;
          const ds = p[s] * (dp[s] - mean) * scale;
          o[row + d] += p[s] * v[at];
          dq[row + d] += ds * k[at];
          dk[at] += ds * q[row + d];
          dv[at] += p[s] * g[row + d];
        }
    }
  }
  return [o, dq, dk, dv];
}

const causal: Rule = (_b, t, s) => (s <= t ? 0 : MIN);
/** As Hugging Face builds it for samples padded on the left: rows of padding have finfo.min, or less, everywhere. */
const padded: Rule = (b, t, s) => (s < 3 * b ? MIN : 0) + (s <= t ? 0 : MIN);
const odd: Rule = (_b, _t, s) => s % 2;
const cases: [string, { bias?: Rule; mask?: Rule }][] = [
  ["finfo.min everywhere: the mean of v", { bias: () => MIN }],
  ["-Infinity everywhere: zeros", { bias: () => -Infinity }],
  ["a mask that hides everything: zeros", { mask: () => 0 }],
  ["rows of finfo.min, of -Infinity, and others", { bias: (_b, t, s) => [MIN, -Infinity, s % 3 ? 0.5 : MIN][t % 3] }],
  ["finfo.min and -Infinity in one row", { bias: (_b, _t, s) => (s % 3 ? -Infinity : MIN) }],
  ["finfo.min for all keys that the mask leaves", { bias: (_b, _t, s) => (s % 2 ? MIN : 4), mask: odd }],
  ["-Infinity for all keys that the mask leaves", { bias: (_b, _t, s) => (s % 2 ? -Infinity : 4), mask: odd }],
  ["causal by finfo.min", { bias: causal }],
  ["padding and causal by finfo.min, which add up to -Infinity", { bias: (b, t, s) => Math.fround(padded(b, t, s)) }],
  ["the same, limited to finfo.min", { bias: (b, t, s) => Math.max(padded(b, t, s), MIN) }],
  ["-1e9, -1e30 and large biases", { bias: (_b, t, s) => [-1e9, -1e30, 80][(t + s) % 3] }],
  ["NaN in one row", { bias: (_b, t, s) => (t === 0 && s === 5 ? NaN : 0) }],
  ["NaN that the mask hides", { bias: (_b, _t, s) => (s % 2 ? 0.25 : NaN), mask: odd }],
];

const devices: [string, EngineOptions][] = [
  ["subgroups", { backend: "webgpu", tune: false }],
  ["no subgroups", { backend: "webgpu", tune: false, disable: ["subgroups"] }],
  ["reference", { backend: "reference" }],
];

describe.each(devices)("%s", (_device, options) => {
  beforeAll(async () => void (await init(options)));

  describe.each([1, 9, 70])("%i queries", (T) => {
    test.each(cases)("%s", async (_name, { bias, mask }) => {
      const [q, g] = [wave(B * H * T * D, 0.37), wave(B * H * T * D, 0.53)];
      const [k, v] = [wave(B * H * S * D, 0.71), wave(B * H * S * D, 0.29)];
      const spread = (rule: Rule) =>
        Float32Array.from({ length: B * T * S }, (_, i) => rule(Math.floor(i / (T * S)), Math.floor(i / S) % T, i % S));
      const [x, y, z] = [q, k, v].map((data, i) =>
        tensor(data, { shape: [B, H, i === 0 ? T : S, D], requiresGrad: true }),
      );
      const o = scaledDotProductAttention(x, y, z, {
        bias: bias && tensor(spread(bias), { shape: [B, 1, T, S] }),
        mask: mask && tensor(spread(mask), { shape: [B, 1, T, S] }).ne(0),
      });
      o.backward(tensor(g, { shape: [B, H, T, D] }));
      const want = attention64(T, q, k, v, g, bias, mask);
      for (const [i, t] of [o, x.grad!, y.grad!, z.grad!].entries()) {
        const got = await t.data();
        const off = want[i].findIndex((w, n) =>
          Number.isNaN(w) ? !Number.isNaN(got[n]) : !(Math.abs(got[n] - w) <= 2e-5),
        );
        const what = ["output", "gradient of q", "gradient of k", "gradient of v"][i];
        expect(off < 0 ? "right" : `${what}[${off}] is ${got[off]}, want ${want[i][off]}`).toBe("right");
      }
    });
  });
});
