import { expect, test } from "vitest";
import { AdamW, Embedding, LayerNorm, Linear, Module, RMSNorm } from "../../src/nn/index.ts";
import { cat, embedding, manualSeed, randn, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

/** One of each layer whose gradients come from kernels of their own. */
class Net extends Module {
  embed = new Embedding(6, 12);
  norm1 = new LayerNorm(12);
  hidden = new Linear(12, 12);
  norm2 = new RMSNorm(12);
  out = new Linear(12, 3, { bias: false });
  forward(ids: Tensor): Tensor {
    const x = this.norm1.forward(this.embed.forward(ids));
    return this.out.forward(this.norm2.forward(x.add(this.hidden.forward(x).gelu())));
  }
}

/** Every parameter after `count` steps, and the losses. */
async function run(backend: "reference" | "webgpu", count: number): Promise<Record<string, number[]>> {
  await init({ backend });
  manualSeed(4);
  const model = new Net();
  const target = tensor(await randn(5, 3).data(), { shape: [5, 3] });
  const optimizer = new AdamW(model.parameters(), { lr: 0.02, maxNorm: 0.5 });
  const losses: number[] = [];
  for (let step = 0; step < count; step++) {
    const ids = tensor([step % 6, 1, 2, 3, 3], { dtype: "i32" });
    const loss = model.forward(ids).sub(target).square().mean();
    loss.backward();
    await optimizer.step();
    losses.push(await loss.item());
  }
  const values = await Promise.all(
    [...model.namedParameters()].map(async ([name, p]) => [name, [...(await p.data())]] as const),
  );
  return { losses, ...Object.fromEntries(values) };
}

test("every parameter trains on the device as in the interpreter, over replayed steps too", async () => {
  const want = await run("reference", 6);
  const got = await run("webgpu", 6);
  expect(want.losses[5]).toBeLessThan(want.losses[0]);
  for (const [name, values] of Object.entries(want)) {
    const worst = Math.max(...values.map((x, i) => Math.abs(x - got[name][i])));
    expect(worst, name).toBeLessThan(2e-5);
  }
});

test("vectors of one layout in one step: groups of equal sizes, weights loaded after the optimizer was made", async () => {
  const weights = async (backend: "reference" | "webgpu"): Promise<number[]> => {
    await init({ backend });
    manualSeed(5);
    const [a, b, saved] = [new Linear(8, 8), new Linear(8, 8), new Linear(8, 8)];
    const x = tensor(await randn(4, 8).data(), { shape: [4, 8] });
    const optimizer = new AdamW([
      { params: a.parameters(), lr: 0.1 },
      { params: b.parameters(), lr: 0.01 },
    ]);
    b.loadStateDict(saved.stateDict());
    for (let step = 0; step < 2; step++) {
      b.forward(a.forward(x).tanh()).square().mean().backward();
      await optimizer.step();
    }
    return (await Promise.all([...a.parameters(), ...b.parameters()].map((p) => p.data()))).flatMap((v) => [...v]);
  };
  const [want, got] = [await weights("reference"), await weights("webgpu")];
  expect(Math.max(...want.map((w, i) => Math.abs(w - got[i])))).toBeLessThan(2e-5);
});

test("frozen norms give x the same gradient, and none to themselves", async () => {
  await init({ backend: "webgpu" });
  manualSeed(6);
  const [x, r] = [await randn(7, 12).data(), await randn(7, 12).data()];
  for (const norm of [new LayerNorm(12), new RMSNorm(12)]) {
    const gradient = async (): Promise<number[]> => {
      const leaf = tensor(x, { shape: [7, 12] }).requiresGrad_();
      const y = norm
        .forward(leaf)
        .mul(tensor(r, { shape: [7, 12] }))
        .add(leaf);
      y.sum().backward();
      return [...(await leaf.grad!.data())];
    };
    const want = await gradient();
    expect(norm.weight.grad).not.toBeNull();
    norm.weight.grad = null;
    norm.requiresGrad_(false);
    expect(await gradient()).toEqual(want);
    expect(norm.weight.grad).toBeNull();
  }
});

test("rows of a table joined with others keep their places, whatever the lengths", async () => {
  await init({ backend: "webgpu" });
  const count = (n: number, from: number) => Float32Array.from({ length: n }, (_, i) => from + i);
  const table = tensor(count(12 * 8, 0), { shape: [12, 8] });
  const image = tensor(count(4 * 8, 1000), { shape: [1, 4, 8] });
  for (const n of [1, 2, 3, 4, 5]) {
    const text = embedding(tensor([Array.from({ length: n + 1 }, (_, i) => i + 1)], { dtype: "i32" }), table);
    const joined = cat([text.narrow(1, 0, 1), image, text.narrow(1, 1, n)], 1);
    expect([...(await joined.data())]).toEqual([...count(8, 8), ...count(32, 1000), ...count(8 * n, 16)]);
  }
});
