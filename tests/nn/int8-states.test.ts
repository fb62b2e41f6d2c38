import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdamW, type AdamWOptions, Linear, Module } from "../../src/nn/index.ts";
import { manualSeed, randn, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

class Net extends Module {
  a = new Linear(16, 48);
  b = new Linear(48, 48);
  c = new Linear(48, 3);
  forward(x: Tensor): Tensor {
    return this.c.forward(this.b.forward(this.a.forward(x).silu()).silu());
  }
}

/** A student of a fixed random teacher; everything else follows from the seed. */
async function student(options: AdamWOptions) {
  manualSeed(3);
  const [teacher, model] = [new Net(), new Net()];
  const x = randn(64, 16);
  const y = tensor(Float32Array.from(await teacher.forward(x).mul(5).data()), { shape: [64, 3] });
  const inputs = tensor(Float32Array.from(await x.data()), { shape: [64, 16] });
  const optimizer = new AdamW(model.parameters(), { lr: 3e-3, weightDecay: 0.01, maxNorm: 1, ...options });
  const step = async (): Promise<number> => {
    const loss = model.forward(inputs).sub(y).square().mean();
    loss.backward();
    await optimizer.step();
    return loss.item();
  };
  return { model, optimizer, step };
}

describe.each(["reference", "webgpu"] as const)("AdamW with moments of 8 bits on %s", (backend) => {
  beforeAll(() => init({ backend }));
  afterAll(() => init());

  test("converges as with moments in f32", async () => {
    const run = async (states: "f32" | "int8"): Promise<number[]> => {
      const { step } = await student({ states });
      const losses: number[] = [];
      for (let i = 0; i < 120; i++) losses.push(await step());
      return losses;
    };
    const [full, coded] = [await run("f32"), await run("int8")];
    const end = (losses: number[]): number => losses.slice(-10).reduce((a, b) => a + b, 0) / 10;
    expect(end(full)).toBeLessThan(full[0] / 20);
    expect(end(coded)).toBeLessThan(1.1 * end(full));
    coded.slice(0, 20).forEach((loss, i) => expect(Math.abs(loss / full[i] - 1)).toBeLessThan(0.02));
  });

  test("its state is a quarter as large, is saved, and training goes on from it", async () => {
    const { model, optimizer, step } = await student({ states: "int8" });
    for (let i = 0; i < 3; i++) await step();
    const copy = async (t: Tensor): Promise<Tensor> =>
      tensor((await t.data()).slice() as Float32Array, { shape: [...t.shape], dtype: t.dtype });
    const copies = async (dict: Record<string, Tensor>): Promise<Record<string, Tensor>> =>
      Object.fromEntries(await Promise.all(Object.entries(dict).map(async ([k, t]) => [k, await copy(t)] as const)));
    const saved = [await copies(model.stateDict()), await copies(optimizer.stateDict())];
    expect(Object.keys(saved[1])).toEqual(["steps", "group.0.m", "group.0.v", "group.0.scales"]);
    const numbers = (dict: Record<string, Tensor>): number => Object.values(dict).reduce((n, t) => n + t.numel, 0);
    expect(numbers(saved[1])).toBeLessThan(0.6 * numbers(saved[0])); // f32: twice as many as parameters
    const want = [await step(), await step(), await step()];

    const again = await student({ states: "int8" });
    again.model.loadStateDict(saved[0]); // while the optimizer still packs the parameters
    await again.optimizer.loadStateDict(saved[1]);
    // Equal bits on the interpreter; on the GPU the first step after loading is another plan.
    for (const loss of want)
      expect(Math.abs((await again.step()) / loss - 1)).toBeLessThan(backend === "webgpu" ? 1e-6 : 0.5e-15);

    const plain = await student({});
    await expect(plain.optimizer.loadStateDict(saved[1])).rejects.toThrow(/group\.0\.m is u32, expected f32/);
  });
});

test("the option is checked", () => {
  expect(() => new AdamW(new Linear(2, 2).parameters(), { states: "int4" as never })).toThrow(/states must be/);
});
