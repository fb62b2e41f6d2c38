import { beforeEach, describe, expect, test } from "vitest";
import { assign, crossEntropy, manualSeed, rand, tensor, zeros } from "../../src/index.ts";
import { AdamW, Linear, Sequential } from "../../src/nn/index.ts";
import { packParameters } from "../../src/ops/pack.ts";
import { init, read, synchronize } from "../../src/runtime/engine.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { memoryStats } from "../../src/runtime/statistics.ts";
import { flush } from "../../src/tensor/engine.ts";

const values = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 0.7));

beforeEach(async () => {
  await init({ backend: "webgpu" });
});

describe("plans", () => {
  test("the same graph on other data replays the plan", async () => {
    const f = async (k: number) =>
      tensor(values(12).map((v) => v * k))
        .mul(2)
        .add(1)
        .data();
    const first = await f(1);
    const { plans, pipelines } = memoryStats();
    const second = await f(3);
    expect(memoryStats()).toMatchObject({ plans, pipelines });
    expect([...second]).toEqual(
      [...first].map((_, i) => Math.fround(Math.fround(Math.fround(values(12)[i]) * 3) * 2 + 1)),
    );
  });

  test("other sizes share pipelines", async () => {
    const f = (n: number) =>
      tensor(values(n * 8), { shape: [n, 8] })
        .add(tensor(values(8)))
        .relu()
        .data();
    await f(4);
    const { pipelines } = memoryStats();
    await f(16);
    expect(memoryStats().pipelines).toBe(pipelines);
  });

  test("a scalar that changes is data, not a new plan", async () => {
    const x = tensor(values(8));
    await flush(x);
    await x.mul(tensor(0.5)).data();
    const { plans } = memoryStats();
    for (const lr of [0.1, 0.2, 0.3]) expect((await x.mul(tensor(lr)).data())[1]).toBeCloseTo(Math.sin(0.7) * lr, 6);
    expect(memoryStats().plans).toBe(plans);
  });
});

describe("in-place values", () => {
  test("assign takes effect at the next flush, once", async () => {
    const x = tensor(values(6));
    const before = x.mul(1);
    await before.data();
    assign(x, x.mul(2));
    assign(x, x.add(1));
    expect([...(await x.data())].map((v) => v.toFixed(5))).toEqual([...values(6)].map((v) => (v * 2 + 1).toFixed(5)));
  });

  test("a graph over an overwritten value says so", async () => {
    const x = tensor([0, 0, 0, 0]);
    const old = x.add(1);
    assign(x, x.add(5));
    await flush();
    await expect(old.data()).rejects.toThrow(/overwritten in place/);
    expect([...(await x.data())]).toEqual([5, 5, 5, 5]);
  });

  test("packed parameters keep their values and are updated where they lie", async () => {
    const params = [tensor(values(7), { requiresGrad: true }), tensor(values(130), { requiresGrad: true })];
    await packParameters(params);
    expect([...(await params[1].data())]).toEqual([...values(130)]);
    assign(params[0], params[0].mul(3));
    expect([...(await params[0].data())].map(Math.fround)).toEqual([...values(7)].map((v) => Math.fround(v * 3)));
    expect([...(await params[1].data())]).toEqual([...values(130)]);
  });
});

describe("errors leave the engine usable", () => {
  test("a tensor larger than a buffer can be", async () => {
    const { maxBufferSize } = currentDevice()!.gpu.limits;
    await expect(
      zeros(Math.ceil(maxBufferSize / 4) + 64)
        .add(1)
        .data(),
    ).rejects.toThrow(/larger than/);
    expect(await tensor([1, 2]).sum().item()).toBe(3);
  });

  test("a lost device is an error, not a hang, and init() recovers", async () => {
    await tensor([1]).add(1).data();
    currentDevice()!.gpu.destroy();
    await expect(tensor([1, 2]).add(1).data()).rejects.toThrow(/lost/);
    await init({ backend: "webgpu" });
    expect([...(await tensor([1, 2]).add(1).data())]).toEqual([2, 3]);
  });
});

test("random numbers depend on the seed alone", async () => {
  const draw = async (seed: number) => {
    manualSeed(seed);
    return [...(await rand(1000).data())];
  };
  const a = await draw(7);
  expect(await draw(7)).toEqual(a);
  expect(await draw(8)).not.toEqual(a);
  const mean = a.reduce((s, v) => s + v, 0) / a.length;
  expect(mean).toBeGreaterThan(0.45);
  expect(mean).toBeLessThan(0.55);
});

test("1,000 train steps keep live bytes flat and one plan", async () => {
  manualSeed(3);
  const model = new Sequential(new Linear(16, 32), new Linear(32, 4));
  const optimizer = new AdamW(model.parameters(), { lr: 1e-2 });
  const target = tensor(Int32Array.from({ length: 32 }, (_, i) => i % 4));
  const step = async () => {
    const loss = crossEntropy(model.forward(tensor(values(512), { shape: [32, 16] })), target);
    optimizer.zeroGrad();
    loss.backward();
    await optimizer.step();
    return loss;
  };
  const first = await (await step()).item();
  for (let i = 0; i < 20; i++) await step();
  await synchronize();
  const warm = memoryStats();
  const heap = process.memoryUsage().rss;
  let last = 0;
  for (let i = 0; i < 1000; i++) {
    const loss = await step();
    if (i % 100 === 99) last = await loss.item();
  }
  await synchronize();
  expect(last).toBeLessThan(first);
  expect(memoryStats()).toMatchObject({ plans: warm.plans, pipelines: warm.pipelines });
  // Up to three flushes are in flight, each with a staging buffer of 256 bytes: when they first overlap is chance.
  expect(memoryStats().liveBytes - warm.liveBytes).toBeLessThanOrEqual(2 * 256);
  expect(process.memoryUsage().rss - heap).toBeLessThan(150e6);
});

test("a loop that reads nothing flushes now and then", async () => {
  let sum = tensor(0);
  for (let i = 0; i < 5000; i++) sum = sum.add(tensor(1));
  expect(await sum.item()).toBe(5000);
});

test("dropped results give their memory back", async () => {
  const x = tensor(values(1 << 20));
  await flush(x);
  let peak = 0;
  for (let i = 0; i < 200; i++) {
    await flush(x.mul(tensor(i))); // 4 MB each, 800 MB in all
    if (i === 100) peak = memoryStats().liveBytes;
  }
  expect(memoryStats().liveBytes).toBeLessThanOrEqual(peak + 40e6);
  expect(peak).toBeLessThan(400e6);
  const y = x.add(1);
  await flush(y);
  y[Symbol.dispose]();
  await expect(y.add(1).data()).rejects.toThrow(/released/);
  await expect(x.add(1).sum().item()).resolves.toBeGreaterThan(0);
});

test("values read twice, and read while others are pending", async () => {
  const x = tensor(values(5));
  const y = x.add(1);
  const z = y.mul(2);
  const [a, b] = await Promise.all([y.data(), z.data()]);
  expect([...b]).toEqual([...a].map((v) => v * 2));
  expect(await read(y.node)).toEqual(await read(y.node));
});
