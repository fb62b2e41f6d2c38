import {
  crossEntropy,
  embedding,
  type InitOptions,
  init,
  manualSeed,
  rmsNorm,
  rope,
  scaledDotProductAttention,
  tensor,
} from "../../src/index.ts";
import { AdamW, Linear } from "../../src/nn/index.ts";

/** Losses of a few steps of a one-layer decoder: every kernel family of a training step. */
export async function losses(options: InitOptions): Promise<number[]> {
  await init(options);
  manualSeed(11);
  const [B, T, H, D, V] = [2, 9, 2, 8, 23];
  const table = tensor(
    Float32Array.from({ length: V * H * D }, (_, i) => Math.sin(i * 1.7)),
    { shape: [V, H * D], requiresGrad: true },
  );
  const weight = tensor(new Float32Array(H * D).fill(1), { requiresGrad: true });
  const [qkv, out, head] = [
    new Linear(H * D, 3 * H * D, { bias: false }),
    new Linear(H * D, H * D),
    new Linear(H * D, V),
  ];
  const optimizer = new AdamW([table, weight, ...qkv.parameters(), ...out.parameters(), ...head.parameters()], {
    lr: 1e-2,
    maxNorm: 1,
  });
  const ids = tensor(
    Int32Array.from({ length: B * T }, (_, i) => (i * 5) % V),
    { shape: [B, T] },
  );
  const targets = tensor(Int32Array.from({ length: B * T }, (_, i) => (i * 5 + 5) % V));
  const positions = tensor(Int32Array.from({ length: T }, (_, i) => i));
  const result: number[] = [];
  for (let step = 0; step < 4; step++) {
    const x = embedding(ids, table); // [B, T, H*D]
    const [q, k, v] = qkv
      .forward(rmsNorm(x, weight, 1e-6))
      .chunk(3, -1)
      .map((t) => t.reshape([B, T, H, D]).transpose(1, 2));
    const a = scaledDotProductAttention(rope(q, positions), rope(k, positions), v, { isCausal: true });
    const y = x.add(out.forward(a.transpose(1, 2).reshape([B, T, H * D])));
    const loss = crossEntropy(head.forward(y).reshape([B * T, V]), targets);
    optimizer.zeroGrad();
    loss.backward();
    await optimizer.step();
    result.push(await loss.item());
  }
  return result;
}

/** One use of each kernel that depends on the subgroup size, on awkward sizes: few pipelines, as wide ones compile slowly. */
export async function values(options: InitOptions): Promise<number[]> {
  await init(options);
  const wave = (seed: number, ...shape: number[]) =>
    tensor(
      Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(seed + i * 1.3 * seed)),
      { shape, requiresGrad: true },
    );
  const row = wave(1, 1, 132).matmul(wave(2, 37, 132).t()); // one row times [N, K] weights
  const product = wave(3, 35, 20).matmul(wave(4, 20, 132));
  const [q, k, v] = [wave(5, 1, 4, 19, 12), wave(6, 1, 2, 19, 12), wave(7, 1, 2, 19, 12)];
  const o = scaledDotProductAttention(q, k, v, { isCausal: true });
  o.backward(wave(8, 1, 4, 19, 12).detach());
  const parts = [row, product, o, q.grad!, k.grad!, v.grad!];
  return (await Promise.all(parts.map((x) => x.data()))).flatMap((x) => [...x]);
}
