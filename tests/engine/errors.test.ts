import { beforeEach, describe, expect, test } from "vitest";
import { assign, type Tensor, tensor } from "../../src/index.ts";
import { float, row } from "../../src/ops/elementwise.ts";
import { packParameters } from "../../src/ops/pack.ts";
import { init } from "../../src/runtime/engine.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { memoryStats } from "../../src/runtime/statistics.ts";
import { upload } from "../../src/runtime/upload.ts";
import { flush } from "../../src/tensor/engine.ts";

/** An op whose shader does not compile, but whose reference value is right. */
const broken = row({
  name: "broken_shader",
  rule: float,
  wgsl: ([x]) => `no_such_function(${x})`,
  js: (x) => x + 1,
  vjp: (g) => [g],
});

const ramp = (n: number, k = 1): Float32Array => Float32Array.from({ length: n }, (_, i) => k * (i % 97));
const gpu = (): GPUDevice => currentDevice()!.gpu;
let uncaptured: string[];

beforeEach(async () => {
  await init({ backend: "webgpu", tune: false });
  uncaptured = [];
  gpu().addEventListener("uncapturederror", (event) => {
    uncaptured.push((event as GPUUncapturedErrorEvent).error.message);
  });
});

/** What no plan has compiled yet, with values to check. */
let unique = 0;
async function expectUnrelatedOpWorks(): Promise<void> {
  const k = ++unique;
  expect([...(await tensor(ramp(7)).mul(k).add(0.5).data())]).toEqual([...ramp(7)].map((x) => x * k + 0.5));
  expect(uncaptured).toEqual([]);
}

/** Makes the next call of a method fail as WebGPU does: an invalid object now, an error later. */
function failOnce<K extends "createBuffer" | "createBindGroup" | "createShaderModule">(
  method: K,
  spoil: (descriptor: any) => object,
  when: (descriptor: any) => boolean = () => true,
): () => boolean {
  const device = gpu() as any;
  const real = device[method].bind(device);
  let done = false;
  device[method] = (descriptor: object) => {
    if (done || !when(descriptor)) return real(descriptor);
    done = true;
    return real(spoil(descriptor));
  };
  return () => done;
}

describe("a kernel that does not compile", () => {
  test("fails its own flush alone, every time that it is asked for", async () => {
    const x = tensor(ramp(12));
    for (let i = 0; i < 2; i++) {
      await expect(broken(x).data()).rejects.toThrow(/kernel broken_shader does not compile: [\s\S]*no_such_function/);
      await expectUnrelatedOpWorks();
    }
    expect([...(await x.add(1).data())]).toEqual([...ramp(12, 1)].map((v) => v + 1));
  });

  test("is no plan and leaves no memory behind", async () => {
    const x = tensor(ramp(1 << 16));
    await flush(x);
    await expectUnrelatedOpWorks();
    const { plans, pipelines, liveBytes } = memoryStats();
    for (let i = 0; i < 3; i++) await expect(broken(x).mul(3).data()).rejects.toThrow(/does not compile/);
    expect(memoryStats()).toMatchObject({ plans, pipelines, liveBytes });
  });

  test("does not fail what is read while it is pending", async () => {
    const lost = broken(tensor([1, 2])).sum();
    expect([...(await tensor([1, 2]).mul(3).data())]).toEqual([3, 6]);
    await expect(lost.item()).rejects.toThrow(/does not compile/);
    await expectUnrelatedOpWorks();
  });

  test("fails one of two flushes that are asked for at once", async () => {
    const x = tensor([1, 2]);
    const results = await Promise.allSettled([
      broken(x).data(),
      x.mul(5).data(),
      broken(x).add(1).data(),
      x.sub(1).data(),
    ]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "rejected", "fulfilled"]);
    expect(results.map((r) => (r as { value?: ArrayLike<number> }).value && [...(r as { value: any }).value])).toEqual([
      undefined,
      [5, 10],
      undefined,
      [0, 1],
    ]);
  });

  test("leaves values in place as they were", async () => {
    const x = tensor([1, 2]);
    assign(x, broken(x));
    await expect(flush()).rejects.toThrow(/does not compile/);
    expect([...(await x.data())]).toEqual([1, 2]);
    await expectUnrelatedOpWorks();
  });
});

describe("a GPU call that fails", () => {
  const badUsage = (d: GPUBufferDescriptor) => ({ ...d, usage: 0x10000000 });
  const size = (bytes: number) => (d: GPUBufferDescriptor) => d.size >= bytes;

  /** The value of a graph that fails once, then again as often as it is asked for, without an error. */
  async function failsOnce(value: Tensor, want: number[], failed: () => boolean, message = /WebGPU: /): Promise<void> {
    await expect(value.data()).rejects.toThrow(message);
    expect(failed()).toBe(true);
    await expectUnrelatedOpWorks();
    expect([...(await value.data())].slice(0, want.length)).toEqual(want); // still computable
    expect(uncaptured).toEqual([]);
  }

  test("making a temporary buffer", async () => {
    const x = tensor(ramp(1 << 18), { shape: [512, 512] });
    await flush(x);
    const failed = failOnce("createBuffer", badUsage, size(1 << 20));
    await failsOnce(x.matmul(x).mul(0).add(2), [2, 2], failed);
  });

  test("making the buffer of a result", async () => {
    const x = tensor([1, 2]);
    const y = x.add(1);
    const failed = failOnce("createBuffer", badUsage, (d) => (d.usage & 0x80) !== 0);
    await expect(flush(y)).rejects.toThrow(/WebGPU: /);
    expect(failed()).toBe(true);
    await expectUnrelatedOpWorks();
    await flush(y);
    expect([...(await y.data())]).toEqual([2, 3]);
  });

  test("making the buffer that values are read from", async () => {
    const failed = failOnce("createBuffer", badUsage, (d) => (d.usage & 0x01) !== 0);
    await failsOnce(tensor([1, 2]).add(1), [2, 3], failed);
  });

  test("making the uniforms of a plan", async () => {
    const failed = failOnce("createBuffer", badUsage, (d) => (d.usage & 0x40) !== 0);
    await failsOnce(tensor([1, 2]).add(1), [2, 3], failed);
  });

  test("uploading a value", async () => {
    const x = tensor(ramp(64), { requiresGrad: true }); // moves to the GPU at its first use
    const failed = failOnce("createBuffer", badUsage, (d) => (d.usage & 0x80) !== 0);
    await failsOnce(x.mul(2), [0, 2, 4], failed);
    const leaf = tensor(ramp(1 << 12));
    const words = new Uint32Array(ramp(1 << 12, 2).buffer);
    failOnce("createBuffer", badUsage, size(1 << 14));
    await expect(upload(leaf.node, words)).rejects.toThrow(/WebGPU: /);
    await expectUnrelatedOpWorks();
    expect(await upload(leaf.node, words)).toBe(true);
    expect([...(await leaf.add(0).data())].slice(0, 3)).toEqual([0, 2, 4]);
  });

  test("running out of memory", async () => {
    const device = gpu() as any;
    const real = device.popErrorScope.bind(device);
    // The adapter here has memory enough, so one answer of the scope "out-of-memory", the innermost, is made up.
    device.popErrorScope = async () => {
      device.popErrorScope = real;
      await real();
      return { message: "no memory" };
    };
    const value = tensor([1, 2]).add(1);
    await expect(value.data()).rejects.toThrow("WebGPU: the GPU is out of memory: no memory");
    await expectUnrelatedOpWorks();
    expect([...(await value.data())]).toEqual([2, 3]);
  });

  test("making a bind group", async () => {
    const failed = failOnce("createBindGroup", (d) => ({ ...d, entries: d.entries.slice(1) }));
    await failsOnce(tensor([1, 2]).add(1), [2, 3], failed);
  });

  test("making a bind group of a plan that ran before", async () => {
    const x = tensor([1, 2]);
    const y = tensor([3, 4]);
    await flush(x, y);
    await x.square().data();
    const failed = failOnce("createBindGroup", (d) => ({ ...d, entries: d.entries.slice(1) }));
    await failsOnce(y.square(), [9, 16], failed);
  });

  test("compiling a shader that is valid the next time", async () => {
    const failed = failOnce("createShaderModule", (d) => ({ ...d, code: `${d.code}\nthis is no WGSL` }));
    await failsOnce(tensor([1, 2]).add(1), [2, 3], failed, /does not compile/);
  });

  test("submitting", async () => {
    const x = tensor([1, 2]);
    await x.add(1).data();
    const { queue } = gpu() as any;
    const real = queue.submit.bind(queue);
    queue.submit = (buffers: GPUCommandBuffer[]) => {
      queue.submit = real;
      real(buffers);
      real(buffers); // a command buffer may be submitted once
    };
    const value = tensor([5, 6]).add(1);
    await expect(value.data()).rejects.toThrow(/WebGPU: /);
    await expectUnrelatedOpWorks();
    expect([...(await value.data())]).toEqual([6, 7]);
  });

  test("packing parameters", async () => {
    const params = [tensor([1, 2], { requiresGrad: true }), tensor([3], { requiresGrad: true })];
    await flush(...params);
    failOnce("createBuffer", badUsage);
    await expect(packParameters(params)).rejects.toThrow(/WebGPU: /);
    await expectUnrelatedOpWorks();
    await packParameters(params);
    expect([...(await params[0].data())]).toEqual([1, 2]);
    expect([...(await params[1].data())]).toEqual([3]);
  });
});

test("an error of the caller's own code on their device is not the engine's", async () => {
  gpu().createBuffer({ size: 16, usage: 0x10000000 });
  await new Promise((done) => setTimeout(done, 20));
  expect(uncaptured).toHaveLength(1);
  expect([...(await tensor([1, 2]).mul(7).data())]).toEqual([7, 14]);
});
