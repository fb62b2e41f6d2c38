import { beforeAll, describe, expect, test } from "vitest";
import { parameterTable, train } from "../../models/training/train.ts";
import { saveSafetensors } from "../../src/io/safetensors.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import {
  AdamW,
  clipGradNorm,
  cosineSchedule,
  decayMatrices,
  Linear,
  linearSchedule,
  Module,
  type OptimizerOptions,
  SGD,
} from "../../src/nn/index.ts";
import { manualSeed, randn, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { expectDigits } from "../support/compare.ts";

beforeAll(() => init({ backend: "reference" }));

class Net extends Module {
  a = new Linear(3, 5);
  b = new Linear(5, 1);
  forward(x: Tensor): Tensor {
    return this.b.forward(this.a.forward(x).tanh());
  }
}

const net = () => {
  manualSeed(1);
  return new Net();
};
const data = () => {
  manualSeed(2);
  return { x: randn(8, 3), y: randn(8, 1) };
};
const loss = (model: Net, { x, y }: { x: Tensor; y: Tensor }) => model.forward(x).sub(y).square().mean();
const weights = async (model: Module) =>
  (await Promise.all(model.parameters().map((p) => p.data()))).flatMap((d) => [...d]);

describe("accumulation", () => {
  test.each(["mean", "sum"] as const)("%s of micro-batches equals one batch of them all", async (accumulation) => {
    const { x, y } = data();
    const whole = net();
    const factor = accumulation === "sum" ? 4 : 1;
    const once = new SGD(whole.parameters(), { lr: 0.1 });
    for (let step = 0; step < 2; step++) {
      loss(whole, { x, y }).mul(factor).backward();
      await once.step();
    }
    const parts = net();
    const optimizer = new SGD(parts.parameters(), { lr: 0.1, accumulation });
    for (let step = 0; step < 2; step++) {
      for (let i = 0; i < 4; i++) {
        loss(parts, { x: x.narrow(0, 2 * i, 2), y: y.narrow(0, 2 * i, 2) }).backward();
        if (i < 3) await optimizer.accumulate();
      }
      await optimizer.step(); // the last micro-batch comes with it
    }
    expectDigits(await weights(parts), await weights(whole));
  });

  test("a step without a further backward uses what was accumulated", async () => {
    const [a, b] = [net(), net()];
    loss(a, data()).backward();
    await new AdamW(a.parameters()).step();
    const optimizer = new AdamW(b.parameters());
    loss(b, data()).backward();
    await optimizer.accumulate();
    await optimizer.step();
    expectDigits(await weights(b), await weights(a));
    await expect(optimizer.step()).rejects.toThrow("4 of 4 parameters have no gradient");
  });
});

test("a saved state goes on as if nothing had happened", async () => {
  const options: OptimizerOptions = { lr: 0.05, maxNorm: 1, schedule: cosineSchedule({ warmup: 2, total: 8 }) };
  const model = net();
  const optimizer = new AdamW(model.parameters(), options);
  const step = async (m: Net, o: AdamW) => {
    loss(m, data()).backward();
    await o.step();
  };
  for (let i = 0; i < 3; i++) await step(model, optimizer);
  const files = memoryFiles();
  const entries = Object.entries({ ...optimizer.stateDict(), ...model.stateDict() });
  await saveSafetensors(
    files,
    "state.safetensors",
    Object.fromEntries(entries.map(([name, t]) => [name, { shape: t.shape, dtype: t.dtype, read: () => t.data() }])),
  );
  for (let i = 0; i < 3; i++) await step(model, optimizer);

  const saved = await TensorFiles.open(files, "state.safetensors");
  const read = async (name: string) => {
    const { data, shape, dtype } = await saved.read(name);
    return tensor(data, { shape, dtype });
  };
  const resumed = net();
  resumed.loadStateDict(
    Object.fromEntries(
      await Promise.all(Object.keys(resumed.stateDict()).map(async (name) => [name, await read(name)])),
    ),
  );
  const again = new AdamW(resumed.parameters(), options);
  await again.loadStateDict(
    Object.fromEntries(await Promise.all(Object.keys(again.stateDict()).map(async (name) => [name, await read(name)]))),
  );
  expect(again.steps).toBe(3);
  for (let i = 0; i < 3; i++) await step(resumed, again);
  expectDigits(await weights(resumed), await weights(model));
  await expect(new AdamW(new Linear(2, 2).parameters()).loadStateDict(again.stateDict())).rejects.toThrow(
    "other parameters?",
  );
});

test("clipGradNorm scales to the norm, and leaves smaller gradients alone", async () => {
  const p = tensor([3, 4], { requiresGrad: true });
  const gradient = async (max: number) => {
    p.grad = null;
    p.mul(p).sum().mul(0.5).backward(); // gradient = p, norm 5
    const norm = await clipGradNorm([p], max).item();
    expect(norm).toBeCloseTo(5, 6);
    return [...(await p.grad!.data())];
  };
  expectDigits(await gradient(1), [0.6, 0.8]);
  expectDigits(await gradient(10), [3, 4]);
});

test("schedules warm up, decay, and end at their minimum", () => {
  const cosine = cosineSchedule({ warmup: 4, total: 10, min: 0.1 });
  expectDigits([0, 2, 4, 7, 10].map(cosine), [0, 0.5, 1, 0.55, 0.1]);
  const linear = linearSchedule({ warmup: 0, total: 10, min: 0.2 });
  expectDigits([0, 5, 10, 12].map(linear), [1, 0.6, 0.2, 0.2]);
});

test("frozen parameters and biases without decay", async () => {
  const model = net();
  model.a.requiresGrad_(false);
  const before = await weights(model.a);
  const optimizer = new AdamW(decayMatrices(model.parameters(), 0.5, 0.1));
  expect(optimizer.groups.map(({ params, weightDecay }) => [params.length, weightDecay])).toEqual([
    [1, 0.5],
    [1, 0],
  ]);
  loss(model, data()).backward();
  await optimizer.step();
  expect(await weights(model.a)).toEqual(before);
  expect(parameterTable(model)).toEqual([
    { part: "a", values: 20, trained: 0 },
    { part: "b", values: 6, trained: 6 },
  ]);
});

describe("train", () => {
  const batches = (n: number) => Array.from({ length: n }, data);

  test("lowers the loss, reports every step and stops in time", async () => {
    const model = net();
    const optimizer = new AdamW(model.parameters(), { lr: 0.05 });
    const seen: number[] = [];
    const { losses } = await train({
      batches: batches(99),
      loss: (b) => loss(model, b),
      optimizer,
      steps: 30,
      work: () => 8,
      onProgress: (p) => seen.push(p.step),
    });
    expect(seen).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
    expect(losses.length).toBe(30);
    expect(losses[29]).toBeLessThan(0.7 * losses[0]);
    expect(optimizer.steps).toBe(30);
  });

  test("averages micro-batches, the last ones included", async () => {
    const model = net();
    const optimizer = new SGD(model.parameters(), { lr: 0.01 });
    const { losses } = await train({ batches: batches(5), loss: (b) => loss(model, b), optimizer, accumulate: 2 });
    expect([losses.length, optimizer.steps]).toEqual([3, 3]);
  });

  test("stops at a loss that is not finite", async () => {
    const model = net();
    const optimizer = new SGD(model.parameters(), { lr: 1e-3 });
    const broken = { x: data().x, y: data().y.mul(Infinity) };
    await expect(train({ batches: [broken], loss: (b) => loss(model, b), optimizer })).rejects.toThrow(
      "the loss of step 1 is",
    );
    await expect(train({ batches: [], loss: (b: typeof broken) => loss(model, b), optimizer })).rejects.toThrow(
      "no batches",
    );
  });
});

describe("bad input is named", () => {
  const p = () => tensor([1, 2], { requiresGrad: true });
  test.each([
    [() => new AdamW([]), "no parameters to train"],
    [() => new AdamW([tensor([1])]), "no parameters to train: the list is empty, or all parameters are frozen"],
    [() => new AdamW([p()], { lr: NaN }), "AdamW: lr must be a finite number >= 0, got NaN"],
    [() => new AdamW([{ params: [p()], lr: Infinity }]), "lr must be a finite number >= 0, got Infinity"],
    [() => new AdamW([p()], { betas: [0.9, 1] }), "betas must be in [0, 1)"],
    [() => new AdamW([p()], { eps: -1 }), "eps must be a finite number >= 0, got -1"],
    [() => new AdamW([p()], { maxNorm: 0 }), "maxNorm must be positive"],
    [() => new SGD([p()], { momentum: 1 }), "momentum must be in [0, 1)"],
    [() => new SGD([p()], { nesterov: true }), "nesterov needs a momentum"],
    [() => cosineSchedule({ warmup: 5, total: 3 }), "expected 0 <= warmup <= total"],
    [
      () => {
        const q = p();
        return new AdamW([q, q]);
      },
      "a parameter of shape [2] is listed twice",
    ],
  ])("%#", (make, message) => expect(make).toThrow(message));

  test("a parameter outside the loss, and a schedule that goes wrong", async () => {
    const [a, b] = [p(), p()];
    const optimizer = new AdamW([a, b], { schedule: (step) => (step === 0 ? 1 : NaN) });
    a.sum().backward();
    await expect(optimizer.step()).rejects.toThrow("AdamW: 1 of 2 parameters have no gradient ([2])");
    optimizer.zeroGrad();
    a.add(b).sum().backward();
    await optimizer.step();
    a.add(b).sum().backward();
    await expect(optimizer.step()).rejects.toThrow("learning rate of group 0 must be a finite number");
    expect(optimizer.steps).toBe(1);
  });
});
