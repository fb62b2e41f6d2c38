import { expect, test } from "vitest";
import { currentDevice, init } from "../../src/engine.ts";
import {
  crossEntropy,
  embedding,
  manualSeed,
  rmsNorm,
  rope,
  scaledDotProductAttention,
  tensor,
} from "../../src/index.ts";
import { AdamW, Linear } from "../../src/nn/index.ts";
import type { InitOptions } from "../../src/runtime/device.ts";

/** Losses of a few steps of a one-layer decoder: every kernel family of a training step. */
async function losses(options: InitOptions): Promise<number[]> {
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

test("a decoder trains alike on lesser devices", async () => {
  const want = await losses({ backend: "reference" });
  expect(want[3]).toBeLessThan(want[0]);
  const settings: InitOptions[] = [
    {},
    { defaultLimits: true },
    { disable: ["subgroups"] },
    { defaultLimits: true, disable: ["subgroups", "shader-f16", "timestamp-query"] },
  ];
  for (const setting of settings) {
    const got = await losses({ backend: "webgpu", ...setting });
    got.forEach((v, i) => expect(v, JSON.stringify(setting)).toBeCloseTo(want[i], 4));
    if (setting.defaultLimits)
      expect(currentDevice()!.info).toMatchObject({
        maxStorageBuffers: 8,
        maxInvocations: 256,
        maxWorkgroupBytes: 16384,
      });
  }
});
