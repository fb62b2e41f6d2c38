import { attention, matmul, rmsNormRow, rows } from "./reference.ts";
import { filled, type Input, normal, type Workload } from "./workload.ts";

// One LLaMA block forward: width 512, 8 heads, SwiGLU 1376, 256 tokens, rotary positions.
export const T = 256;
export const M = 512;
export const H = 8;
export const D = M / H;
const F = 1376;
export const eps = 1e-5;

const angles = (f: (x: number) => number): Input => {
  const data = new Float32Array(T * (D / 2));
  for (let t = 0; t < T; t++) for (let i = 0; i < D / 2; i++) data[t * (D / 2) + i] = f(t * 10000 ** ((-2 * i) / D));
  return { shape: [T, D / 2], data };
};

const weights = () => ({
  n1: filled([M], 1.1),
  wq: normal(21, [M, M], M ** -0.5),
  wk: normal(22, [M, M], M ** -0.5),
  wv: normal(23, [M, M], M ** -0.5),
  wo: normal(24, [M, M], M ** -0.5),
  n2: filled([M], 0.9),
  gate: normal(25, [M, F], M ** -0.5),
  up: normal(26, [M, F], M ** -0.5),
  down: normal(27, [F, M], F ** -0.5),
  cos: angles(Math.cos),
  sin: angles(Math.sin),
});

function expected(x: Record<string, Input>): Float64Array {
  const norm = (y: Input | Float64Array, w: Input) =>
    rows({ shape: [T, M], data: (y instanceof Float64Array ? y : y.data) as Float32Array }, (row) =>
      rmsNormRow(row, w.data, eps),
    );
  const product = (y: Float64Array, w: Input) => matmul(y, w.data, 1, T, w.shape[0], w.shape[1]);
  const heads = (y: Float64Array) =>
    y.map((_, i) => y[(Math.floor(i / D) % T) * M + Math.floor(i / (T * D)) * D + (i % D)]);
  const rope = (y: Float64Array) =>
    y.map((v, i) => {
      const d = i % D;
      const at = (Math.floor(i / D) % T) * (D / 2) + (d % (D / 2));
      const other = d < D / 2 ? -y[i + D / 2] : y[i - D / 2];
      return v * x.cos.data[at] + other * x.sin.data[at];
    });
  const h = norm(x.x, x.n1);
  const o = attention(
    rope(heads(product(h, x.wq))),
    rope(heads(product(h, x.wk))),
    heads(product(h, x.wv)),
    H,
    T,
    D,
  )[0];
  const flat = o.map((_, i) => o[(Math.floor((i % M) / D) * T + Math.floor(i / M)) * D + (i % D)]);
  const mid = product(flat, x.wo).map((v, i) => v + x.x.data[i]);
  const h2 = norm(mid, x.n2);
  const up = product(h2, x.up);
  const act = product(h2, x.gate).map((v, i) => (v / (1 + Math.exp(-v))) * up[i]);
  return product(act, x.down).map((v, i) => v + mid[i]);
}

export const workloads: Workload[] = [
  {
    name: "llama_block_fwd",
    flops: 2 * T * (4 * M * M + 3 * M * F) + (4 * H * D * T * (T + 1)) / 2,
    tolerance: 5e-6,
    inputs: () => ({ x: normal(20, [T, M]), ...weights() }),
    expected,
    ours: ({ sg, bench }, inputs) =>
      bench(
        (x, n1, wq, wk, wv, wo, n2, gate, up, down) => {
          const positions = sg.arange(T);
          const heads = (y: typeof x) => y.reshape([1, T, H, D]).transpose(1, 2); // [1, H, T, D]
          const h = sg.rmsNorm(x, n1, eps);
          const q = sg.rope(heads(h.matmul(wq)), positions);
          const k = sg.rope(heads(h.matmul(wk)), positions);
          const o = sg.scaledDotProductAttention(q, k, heads(h.matmul(wv)), { isCausal: true });
          const mid = o.transpose(1, 2).reshape([T, M]).matmul(wo).add(x);
          const h2 = sg.rmsNorm(mid, n2, eps);
          return h2.matmul(gate).silu().mul(h2.matmul(up)).matmul(down).add(mid);
        },
        ...(Object.values(inputs) as Input[]),
      ),
  },
];
