import { attention, crossEntropy, matmul, mlpLosses, rmsNormRow, rows } from "./reference.ts";
import { filled, type Input, ids, normal, type Workload } from "./workload.ts";

export const adam = { b1: 0.9, b2: 0.999, eps: 1e-8 };

// 128 images of 784, two hidden layers of 512, ten classes, Adam.
const MLP = [784, 512, 512, 10];
export const mlpRate = 1e-3;
const mlp: Workload = {
  name: "mlp_train_step",
  flops: 3 * 2 * 128 * (784 * 512 + 512 * 512 + 512 * 10) - 2 * 128 * 784 * 512,
  tolerance: 2e-4,
  inputs: () => ({
    x: normal(31, [128, 784]),
    y: ids(32, [128], 10),
    parameters: MLP.slice(1).flatMap((n, i) => [normal(33 + i, [MLP[i], n], Math.sqrt(2 / MLP[i])), filled([n], 0)]),
  }),
  expected: ({ x, y, parameters }) => mlpLosses(x, y.data, parameters, MLP, 3, mlpRate),
  ours: ({ sg, train }, { x, y, parameters }) =>
    train(
      parameters,
      { lr: mlpRate, betas: [adam.b1, adam.b2], eps: adam.eps, weightDecay: 0 },
      [x, y],
      (p, [images, labels]) => {
        let h = images;
        for (let i = 0; i < 3; i++) {
          h = h.matmul(p[2 * i]).add(p[2 * i + 1]);
          if (i < 2) h = h.relu();
        }
        return sg.crossEntropy(h, labels);
      },
    ),
};

// A decoder of 4 layers: width 256, 4 heads, GELU 1024, learned positions, RMSNorm, vocabulary 4,096, batch 4 × 128.
export const L = 4;
export const B = 4;
export const T = 128;
export const M = 256;
export const H = 4;
export const D = M / H;
const F = 4 * M;
export const V = 4096;
export const N = B * T;
export const eps = 1e-5;

function decoderParameters(): Input[] {
  const list = [normal(50, [V, M], 0.02), normal(51, [T, M], 0.02)];
  for (let i = 0; i < L; i++) {
    list.push(filled([M], 1));
    for (let j = 0; j < 4; j++) list.push(normal(60 + 10 * i + j, [M, M], M ** -0.5));
    list.push(filled([M], 1), normal(64 + 10 * i, [M, F], M ** -0.5), normal(65 + 10 * i, [F, M], F ** -0.5));
  }
  return [...list, filled([M], 1), normal(52, [M, V], 0.02)];
}

function decoderLoss(tokens: ArrayLike<number>, targets: ArrayLike<number>, parameters: Input[]): number {
  const p = parameters.map((y) => y.data);
  const norm = (y: Float64Array, w: ArrayLike<number>) =>
    rows({ shape: [N, M], data: y as any }, (row) => rmsNormRow(row, w, eps));
  const add = (y: Float64Array, z: Float64Array) => y.map((v, i) => v + z[i]);
  // Transposes [B, a, b, D] to [B, b, a, D].
  const swap = (y: Float64Array, a: number, b: number) =>
    y.map(
      (_, i) =>
        y[
          ((Math.floor(i / (a * b * D)) * a + (Math.floor(i / D) % a)) * b + (Math.floor(i / (a * D)) % b)) * D +
            (i % D)
        ],
    );
  let x = Float64Array.from(
    { length: N * M },
    (_, i) => p[0][tokens[Math.floor(i / M)] * M + (i % M)] + p[1][i % (T * M)],
  );
  for (let i = 0; i < L; i++) {
    const [n1, wq, wk, wv, wo, n2, w1, w2] = p.slice(2 + 8 * i);
    const h = norm(x, n1);
    const [q, k, v] = [wq, wk, wv].map((w) => swap(matmul(h, w, 1, N, M, M), T, H));
    const o = new Float64Array(N * M);
    for (let b = 0; b < B; b++) {
      const part = (y: Float64Array) => y.subarray(b * T * M, (b + 1) * T * M);
      o.set(attention(part(q), part(k), part(v), H, T, D)[0], b * T * M);
    }
    x = add(x, matmul(swap(o, H, T), wo, 1, N, M, M));
    const inner = matmul(norm(x, n2), w1, 1, N, M, F).map(
      (y) => 0.5 * y * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (y + 0.044715 * y ** 3))),
    );
    x = add(x, matmul(inner, w2, 1, N, F, M));
  }
  return crossEntropy(matmul(norm(x, p[p.length - 2]), p[p.length - 1], 1, N, M, V), targets, V).loss;
}

export const lr = 3e-4;
export const decay = 0.1;
const perToken = L * (4 * M * M + 2 * M * F) + M * V;

const decoder: Workload = {
  name: "decoder_train_step",
  agree: true,
  flops: 3 * 2 * N * perToken + 3.5 * L * B * H * 4 * D * ((T * (T + 1)) / 2),
  tolerance: 2e-4,
  inputs: () => ({ tokens: ids(53, [B, T], V), targets: ids(54, [N], V), parameters: decoderParameters() }),
  // The first loss has an f64 value. The next two depend on the gradients: the libraries must agree on them.
  expected: ({ tokens, targets, parameters }) =>
    Float64Array.of(decoderLoss(tokens.data, targets.data, parameters), NaN, NaN),
  ours: ({ sg, train }, { tokens, targets, parameters }) =>
    train(
      parameters,
      { lr, betas: [adam.b1, adam.b2], eps: adam.eps, weightDecay: decay },
      [tokens, targets],
      (p, [t, y]) => {
        const heads = (z: any) => z.reshape([B, T, H, D]).transpose(1, 2); // [B, H, T, D]
        let x = sg.embedding(t, p[0]).add(p[1]).reshape([N, M]);
        for (let i = 0; i < L; i++) {
          const [n1, wq, wk, wv, wo, n2, w1, w2] = p.slice(2 + 8 * i);
          const h = sg.rmsNorm(x, n1, eps);
          const o = sg.scaledDotProductAttention(heads(h.matmul(wq)), heads(h.matmul(wk)), heads(h.matmul(wv)), {
            isCausal: true,
          });
          x = x.add(o.transpose(1, 2).reshape([N, M]).matmul(wo));
          x = x.add(sg.rmsNorm(x, n2, eps).matmul(w1).gelu({ approximate: "tanh" }).matmul(w2));
        }
        return sg.crossEntropy(sg.rmsNorm(x, p[p.length - 2], eps).matmul(p[p.length - 1]), y);
      },
    ),
};

export const workloads: Workload[] = [mlp, decoder];
