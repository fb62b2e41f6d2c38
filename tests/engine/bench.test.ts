/** `shadegrad/bench`: what a person needs who times and studies kernels. */
import { beforeEach, describe, expect, test } from "vitest";
import ladder from "../../kernels/ladder/matmul_6_subgroup.wgsl";
import {
  adapterFamily,
  gpuDevice,
  kernelsOf,
  measureRoofline,
  onReplay,
  setChoices,
  setFusion,
  specializeKernel,
} from "../../src/bench/index.ts";
import { type DeviceInfo, flush, init, plan, rand, tune } from "../../src/index.ts";

const info: DeviceInfo = {
  kind: "discrete",
  subgroupSize: 32,
  f16: true,
  f16Arithmetic: true,
  dot4: true,
  matrixUnits: [],
  timestamps: true,
  maxInvocations: 256,
  maxWorkgroupBytes: 16384,
  maxBindingBytes: 2 ** 30,
  maxStorageBuffers: 8,
  description: "discrete GPU",
};

test("kernelsOf lists the kernels of a graph for an adapter that is not here, and computes nothing", () => {
  const [a, b] = [rand(64, 32), rand(32, 16)];
  const all = kernelsOf([a.matmul(b).relu().softmax(-1)], info);
  expect(all.map((k) => k.kernel)).toEqual([expect.stringMatching(/^matmul/), "softmax"]);
  const [product] = all;
  expect(product).toMatchObject({
    flops: 2 * 64 * 32 * 16,
    bytes: 4 * (64 * 32 + 32 * 16 + 64 * 16),
    elements: 64 * 32,
  });
  expect(product.code).toContain("@compute");
  expect(kernelsOf([a.add(1)], info)).toEqual([]);
});

test("kernelsOf asks for facts: a software adapter gets another variant", () => {
  const product = () => [rand(512, 512).matmul(rand(512, 512))];
  const [there] = kernelsOf(product(), info);
  const [here] = kernelsOf(product(), { ...info, kind: "software", subgroupSize: 8 });
  expect(here.code).not.toBe(there.code);
});

test("specializeKernel sets parameters, and refuses names and values that the file does not have", () => {
  expect(specializeKernel(ladder, { SG: 16 })).toContain("const SG: u32 = 16u;");
  expect(() => specializeKernel(ladder, { LANES: 16 })).toThrow(/no param LANES; it has SG/);
  expect(() => specializeKernel(ladder, { SG: 1.5 })).toThrow(/param SG: u32 does not hold 1.5/);
});

describe("on a GPU", () => {
  beforeEach(async () => void (await init({ backend: "webgpu" })));

  test("the device and its peaks", async () => {
    const gpu = await gpuDevice();
    expect(gpu.limits.maxBufferSize).toBeGreaterThan(0);
    const peaks = await measureRoofline();
    expect(peaks.gflops).toBeGreaterThan(0);
    expect(peaks.gbs).toBeGreaterThan(0);
    expect(await adapterFamily()).toContain("subgroups");
  });

  test("setFusion: one kernel per op, and back", async () => {
    const kernels = async () => (await plan(rand(64).exp().sin().neg()))!.kernels;
    expect(await kernels()).toBe(1);
    await setFusion(false);
    expect(await kernels()).toBe(4);
    await setFusion(true);
    expect(await kernels()).toBe(1);
  });

  test("setChoices: without answers tune measures, with them it has nothing to measure", async () => {
    const [a, b] = [rand(72, 72), rand(72, 72)];
    const work = () => a.matmul(b).data();
    await setChoices();
    const results = await tune(work);
    expect(results.length).toBeGreaterThan(0);
    await setChoices(results);
    expect(await tune(work)).toEqual([]);
    await setChoices();
    expect((await tune(work)).map((r) => r.key)).toEqual(results.map((r) => r.key));
  });

  test("onReplay reports each run of a plan until it is stopped", async () => {
    const x = rand(64);
    await x.data();
    const times: number[] = [];
    onReplay((ms) => times.push(ms));
    for (let i = 0; i < 3; i++) await flush(x.add(i));
    onReplay(undefined);
    await flush(x.add(3));
    expect(times).toHaveLength(3);
    for (const ms of times) expect(ms).toBeGreaterThan(0);
  });
});

test("the reference backend has no device", async () => {
  await init({ backend: "reference" });
  for (const [name, call] of Object.entries({ gpuDevice, measureRoofline, setChoices, adapterFamily }))
    await expect(call()).rejects.toThrow(`${name}: needs a GPU; the reference backend has none`);
});
