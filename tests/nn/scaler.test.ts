import { beforeAll, expect, test } from "vitest";
import { train } from "../../models/training/train.ts";
import { AdamW, LossScaler } from "../../src/nn/index.ts";
import { tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

beforeAll(() => init({ backend: "reference" }));

const parameter = () => tensor([1, 2, 3], { requiresGrad: true });
const lossOf = (w: Tensor, x: number): Tensor => w.mul(x).square().mean();

test("scaling changes no update, over several micro-batches neither", async () => {
  const run = async (scaler?: LossScaler): Promise<number[]> => {
    const w = parameter();
    const optimizer = new AdamW([w], { lr: 0.1, maxNorm: 1 });
    await train({ batches: [1, 2, 3, 4], loss: (x) => lossOf(w, x), optimizer, accumulate: 2, scaler });
    return [...(await w.data())];
  };
  const plain = await run();
  (await run(new LossScaler())).forEach((v, i) => expect(v).toBeCloseTo(plain[i], 6));
});

test("a step that overflows is skipped, counted, and halves the factor; good ones double it", async () => {
  const w = parameter();
  const optimizer = new AdamW([w], { lr: 0.1 });
  const scaler = new LossScaler({ scale: 8, growthInterval: 2 });
  const reports: number[] = [];
  const { losses } = await train({
    batches: [1, Number.POSITIVE_INFINITY, 1, 1],
    loss: (x) => lossOf(w, x),
    optimizer,
    scaler,
    onProgress: ({ skipped }) => reports.push(skipped),
  });
  expect(losses.length).toBe(4);
  expect(losses[1]).not.toBeLessThan(Infinity);
  expect(scaler.state).toEqual({ scale: 8, good: 0, skipped: 1 }); // 8, 4 (skipped), 4, 8
  expect(optimizer.steps).toBe(3);
  expect(reports.at(-1)).toBe(1);
  expect((await w.data()).every(Number.isFinite)).toBe(true);
});

test("without a scaler an infinite loss ends training; with one, endless overflow does", async () => {
  const w = parameter();
  const endless = () => Array.from({ length: 100 }, () => Number.POSITIVE_INFINITY);
  const make = () => ({ batches: endless(), loss: (x: number) => lossOf(w, x), optimizer: new AdamW([w]) });
  await expect(train(make())).rejects.toThrow("the loss of step 1 is Infinity");
  await expect(train({ ...make(), scaler: new LossScaler() })).rejects.toThrow("overflow at every scale");
});
