import { beforeAll, describe, expect, test, vi } from "vitest";
import { NF4 } from "../../src/graph/quantization.ts";
import {
  AdamW,
  addLoRA,
  dequantize,
  Linear,
  Module,
  mergeLoRA,
  QuantizedLinear,
  QuantizedWeight,
  type QuantOptions,
  quantize,
  quantizedLinear,
  quantizeLinears,
  Sequential,
  setParameter,
  unmergeLoRA,
} from "../../src/nn/index.ts";
import { manualSeed, randn, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import { flush } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { uniform } from "../support/f64.ts";

const formats: QuantOptions[] = [
  { format: "int8", group: 32 },
  { format: "int8", group: 64, zeroPoint: true },
  { format: "int4", group: 32 },
  { format: "int4", group: 128, zeroPoint: true },
  { format: "nf4", group: 64 },
];

/** Values by the definition, in plain f64 arithmetic. */
function rounded(w: Float32Array, K: number, { format, group = 64, zeroPoint }: QuantOptions): Float64Array {
  const out = new Float64Array(w.length);
  const half = (x: number): number =>
    x === 0 ? 0 : Math.round(x * 2 ** (10 - Math.floor(Math.log2(x)))) / 2 ** (10 - Math.floor(Math.log2(x)));
  const top = format === "int8" ? 127 : 7;
  for (let row = 0; row < w.length; row += K) {
    for (let start = 0; start < K; start += group) {
      const [from, to] = [row + start, row + Math.min(start + group, K)];
      const part = w.slice(from, to);
      const most = Math.max(...part.map(Math.abs));
      const [low, high] = [Math.min(0, ...part), Math.max(0, ...part)];
      const scale = half(format === "nf4" ? most : zeroPoint ? (high - low) / (2 * top + 1) : most / top);
      const zero = zeroPoint ? Math.round(-low / scale) : 0;
      for (let i = from; i < to; i++) {
        if (format === "nf4")
          out[i] = NF4.reduce((a, b) => (Math.abs(b - w[i] / scale) < Math.abs(a - w[i] / scale) ? b : a)) * scale;
        else if (zeroPoint)
          out[i] = (Math.min(Math.max(Math.round(w[i] / scale) + zero, 0), 2 * top + 1) - zero) * scale;
        else out[i] = Math.min(Math.max(Math.round(w[i] / scale), -top - 1), top) * scale;
      }
    }
  }
  return out;
}

const close = (got: ArrayLike<number>, want: ArrayLike<number>, error: number): void => {
  expect(got.length).toBe(want.length);
  const worst = Array.from(got, (x, i) => Math.abs(x - want[i])).reduce((a, b) => Math.max(a, b), 0);
  expect(worst).toBeLessThanOrEqual(error);
};

describe.each(["reference", "webgpu"] as const)("quantised weights, %s", (backend) => {
  beforeAll(async () => {
    await init({ backend });
  });

  test("packs codes from the lowest bits up and keeps one scale a group", async () => {
    const w = new Float32Array(64);
    w.set([7, -7, 3.4, -1.6, 0, 1, 2, -8], 0); // scale 8 / 7 -> rounded to f16
    w.set([14, -14, 2], 32); // scale 2
    const q = quantize(
      w.map((x, i) => (i === 7 ? -7 : x)),
      [1, 64],
      { format: "int4", group: 32 },
    );
    expect(await q.scales.data()).toEqual(Float32Array.from([1, 2]));
    const words = await q.packed.data();
    expect(words.length).toBe(8);
    expect(words[0].toString(16)).toBe("1a986b1f"); // 15 1 11 6 8 9 10 1
    expect(words[4].toString(16)).toBe("8888891f");
    expect((await dequantize(q).data()).slice(0, 8)).toEqual(Float32Array.from([7, -7, 3, -2, 0, 1, 2, -7]));
  });

  test("int8 codes lie around 128, zero-points after the scales, nf4 codes in the table's order", async () => {
    const bytes = quantize(
      Float32Array.from({ length: 32 }, (_, i) => (i === 1 ? -127 : i)),
      [1, 32],
      { format: "int8", group: 32 },
    );
    expect((await bytes.packed.data())[0].toString(16)).toBe("83820180");
    const positive = quantize(
      Float32Array.from({ length: 32 }, (_, i) => i % 16),
      [1, 32],
      { format: "int4", group: 32, zeroPoint: true },
    );
    expect(positive.scales.shape).toEqual([1, 1, 2]);
    expect(await positive.scales.data()).toEqual(Float32Array.from([1, 0]));
    expect((await positive.packed.data())[0].toString(16)).toBe("76543210");
    const table = quantize(
      Float32Array.from({ length: 32 }, (_, i) => 2 * NF4[i % 16]),
      [1, 32],
      { format: "nf4", group: 32 },
    );
    expect(await table.scales.data()).toEqual(Float32Array.from([2]));
    expect((await table.packed.data())[1].toString(16)).toBe("fedcba98");
  });

  test.each(formats)("values are those of the definition: %o", async (options) => {
    for (const [N, K] of [
      [5, 256],
      [3, 100],
      [1, 1],
      [2, 33],
    ]) {
      const w = Float32Array.from(uniform(N * K, -1, 1.5, N + K));
      const got = await dequantize(quantize(w, [N, K], options)).data();
      close(got, rounded(w, K, options), 1e-6);
    }
  });

  test("a group of zeros stays zero, a GPU weight gives the same as a host weight", async () => {
    for (const options of formats) {
      const w = Float32Array.from(uniform(2 * 256)).fill(0, 0, 256);
      const onDevice = tensor(w, { shape: [2, 256] }).mul(1);
      await flush(onDevice);
      const [a, b] = [quantize(w, [2, 256], options), quantize(onDevice, [2, 256], options)];
      expect(await a.packed.data()).toEqual(await b.packed.data());
      const values = await dequantize(a).data();
      expect(values.slice(0, 256).every((x) => x === 0)).toBe(true);
      expect(values.slice(256).some((x) => x !== 0)).toBe(true);
    }
  });

  test.each(formats)("linear and its gradient equal those of the dense values: %o", async (options) => {
    for (const [M, N, K] of [
      [1, 24, 128],
      [2, 9, 64],
      [6, 7, 100],
      [40, 65, 96],
    ]) {
      const q = quantize(Float32Array.from(uniform(N * K, -1, 1, 3)), [N, K], options);
      const bias = tensor(uniform(N, -1, 1, 4));
      const x = tensor(uniform(M * K, -1, 1, 5), { shape: [1, M, K] }).requiresGrad_();
      const x2 = tensor(uniform(M * K, -1, 1, 5), { shape: [1, M, K] }).requiresGrad_();
      const y = quantizedLinear(x, q, bias);
      const want = x2.matmul(dequantize(q).t()).add(bias);
      expect(y.shape).toEqual([1, M, N]);
      close(await y.data(), await want.data(), 1e-5);
      const g = tensor(uniform(M * N, -1, 1, 6), { shape: [1, M, N] });
      y.backward(g);
      want.backward(g);
      close(await x.grad!.data(), await x2.grad!.data(), 1e-5);
    }
  });

  test("int8 activations are rounded by row and group; the gradient is that of the dense values", async () => {
    for (const [M, N, K, group] of [
      [1, 24, 128, 32],
      [6, 7, 100, 64],
      [20, 33, 96, 32],
    ] as const) {
      const options = { format: "int8", group, activations: "int8" } as const;
      const q = quantize(Float32Array.from(uniform(N * K, -1, 1, 3)), [N, K], options);
      const dense = await dequantize(q).data();
      const values = Float32Array.from(uniform(M * K, -1, 1, 5));
      const seen = Float64Array.from(values);
      for (let row = 0; row < M; row++) {
        for (let start = 0; start < K; start += group) {
          const part = seen.subarray(row * K + start, row * K + Math.min(K, start + group));
          const scale = Math.max(...part.map(Math.abs)) / 127;
          part.forEach((x, i) => (part[i] = Math.round(x / scale) * scale));
        }
      }
      const product = (a: ArrayLike<number>) =>
        Float64Array.from({ length: M * N }, (_, i) => {
          let sum = 0;
          for (let k = 0; k < K; k++) sum += a[Math.floor(i / N) * K + k] * dense[(i % N) * K + k];
          return sum;
        });
      const x = tensor(values, { shape: [M, K] }).requiresGrad_();
      const y = quantizedLinear(x, q);
      close(await y.data(), product(seen), 1e-5);
      const exact = product(values);
      const off = Math.max(...Array.from(await y.data(), (v, i) => Math.abs(v - exact[i])));
      expect(off).toBeGreaterThan(1e-4); // it is rounded
      expect(off).toBeLessThan(0.05);
      const g = tensor(uniform(M * N, -1, 1, 6), { shape: [M, N] });
      y.backward(g);
      close(await x.grad!.data(), await g.matmul(dequantize(q)).data(), 1e-5);
    }
  });

  test("a LoRA on a quantised layer learns, and nothing else changes", async () => {
    manualSeed(3);
    const model = new Sequential(new Linear(64, 32), (x: Tensor) => x.relu(), new Linear(32, 8));
    const before = await model.forward(randn([4, 64])).data();
    expect(before.length).toBe(32);
    expect(await quantizeLinears(model, { format: "nf4", group: 32 })).toEqual(["0", "2"]);
    const names = ["0.bias", "0.weight.packed", "0.weight.scales", "2.bias", "2.weight.packed", "2.weight.scales"];
    expect(Object.keys(model.stateDict())).toEqual(names);
    addLoRA(model, ["0"], { r: 4 });
    const state = model.stateDict();
    const frozen = await Promise.all([
      state["0.weight.packed"].data(),
      state["0.weight.scales"].data(),
      state["2.bias"].data(),
    ]);
    const trained = model.parameters().filter((p) => p.requiresGrad);
    expect(trained.length).toBe(2);
    const optimizer = new AdamW(trained, { lr: 0.02 });
    const [x, y] = [tensor(uniform(256), { shape: [4, 64] }), tensor(uniform(32, -1, 1, 9), { shape: [4, 8] })];
    const losses: number[] = [];
    for (let step = 0; step < 30; step++) {
      optimizer.zeroGrad();
      const loss = model.forward(x).sub(y).square().mean();
      loss.backward();
      await optimizer.step();
      losses.push(await loss.item());
    }
    expect(losses[29]).toBeLessThan(0.6 * losses[0]);
    const after = model.stateDict();
    expect(
      await Promise.all([after["0.weight.packed"].data(), after["0.weight.scales"].data(), after["2.bias"].data()]),
    ).toEqual(frozen);
  });

  test.each([
    { format: "int8", group: 64 },
    { format: "int4", group: 32, zeroPoint: true },
    { format: "nf4", group: 32 },
  ] as const)("a LoRA is merged into $format as PEFT does: dense, updated, rounded again", async (options) => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    manualSeed(3);
    const model = new Sequential(new Linear(40, 24), (x: Tensor) => x.relu(), new Linear(24, 8));
    await quantizeLinears(model, options);
    addLoRA(model, ["0"], { r: 4, alpha: 8 });
    const layer = [...model.children()][0] as QuantizedLinear;
    const { lora_B: b } = layer.lora!.adapters.get("default")!;
    setParameter(b, randn([24, 4]).mul(0.1));
    const x = randn([5, 40]).keep();
    const beside = await layer.forward(x).data();
    const dense = await dequantize(layer.weight).data();
    const delta = await layer.lora!.adapters.get("default")!.delta().data();
    const expected = quantize(
      Float32Array.from(dense, (w, i) => w + delta[i]),
      [24, 40],
      options,
    );
    const want = await dequantize(expected).data();
    mergeLoRA(model);
    expect(warn).toHaveBeenCalledOnce();
    expect(warn.mock.calls[0][0]).toContain("mergeLoRA: 1 quantised weights (0, …) were rounded again");
    const got = await dequantize(layer.weight).data();
    const near = (a: ArrayLike<number>, w: ArrayLike<number>) =>
      Math.hypot(...Array.from(a, (v, i) => v - w[i])) / Math.hypot(...Array.from(w));
    // A sum that lies between two codes may be rounded either way.
    expect(near(got, want)).toBeLessThan(options.format === "int8" ? 1e-3 : 1e-2);
    expect(near(await layer.forward(x).data(), beside)).toBeLessThan(options.format === "int8" ? 0.02 : 0.2);
    unmergeLoRA(model);
    expect(warn).toHaveBeenCalledTimes(2);
    expect(near(await dequantize(layer.weight).data(), dense)).toBeLessThan(options.format === "int8" ? 0.01 : 0.2);
    expect(near(await layer.forward(x).data(), beside)).toBeLessThan(options.format === "int8" ? 0.02 : 0.2);
    warn.mockRestore();
  });

  test("state of one layer loads into another", async () => {
    const source = QuantizedLinear.fromLinear(new Linear(40, 6), { format: "int4", zeroPoint: true });
    const target = new QuantizedLinear(40, 6, { format: "int4", zeroPoint: true });
    target.loadStateDict(source.stateDict());
    const x = tensor(uniform(80), { shape: [2, 40] });
    expect(await target.forward(x).data()).toEqual(await source.forward(x).data());
  });
});

class Tree extends Module {
  head = new Linear(32, 4);
  blocks = [new Sequential(new Linear(32, 32)), new Linear(32, 32, { bias: false })];
}

test("quantizeLinears takes what include and exclude leave, in arrays and private fields too", async () => {
  await init({ backend: "reference" });
  const tree = new Tree();
  expect(await quantizeLinears(tree, { format: "int8", exclude: /^head$/ })).toEqual(["blocks.1", "blocks.0.0"]);
  expect(tree.head).toBeInstanceOf(Linear);
  expect(tree.blocks[1]).toBeInstanceOf(QuantizedLinear);
  expect(() => tree.requiresGrad_()).not.toThrow();
  expect(tree.stateDict()["blocks.1.weight.scales"].requiresGrad).toBe(false);
  await expect(quantizeLinears(tree, { format: "int8", include: /^nothing/ })).rejects.toThrow(
    "no Linear in Tree matches",
  );
});

test("wrong calls say what was expected", () => {
  const w = new Float32Array(64);
  expect(() => quantize(w, [2, 64], { format: "int4" })).toThrow("quantize: 64 values do not fill a matrix [2,64]");
  expect(() => quantize(w, [1, 64], { format: "int3" as "int4" })).toThrow('unknown format "int3"');
  expect(() => quantize(w, [1, 64], { format: "int4", group: 48 as 32 })).toThrow(
    "group must be 32, 64 or 128, got 48",
  );
  expect(() => quantize(w, [1, 64], { format: "nf4", zeroPoint: true })).toThrow("nf4 has no zero-point");
  expect(() => quantize(w, [1, 64], { format: "int4", activations: "int8" })).toThrow(
    "int8 activations need int8 weights without zero-points, got int4",
  );
  expect(() => quantize(w, [1, 64], { format: "int8", activations: "fp8" as "int8" })).toThrow('got "fp8"');
  const q = new QuantizedWeight([4, 64], { format: "int8" });
  expect(() => quantizedLinear(tensor(new Float32Array(32)), q)).toThrow(
    "input [32] does not fit weight [4,64] ([out, in])",
  );
});

describe.each(["webgpu", "reference"] as const)("groups of tiny and huge weights on %s", (backend) => {
  beforeAll(async () => void (await init({ backend })));

  test.each([
    ["int8", [1e-5, 5e-5, 3e-4, 0.003, 5e4, 8e6]],
    ["int4", [1e-5, 5e-5, 4e-4, 0.003, 5e4, 4e5]],
    ["nf4", [1e-5, 5e-5, 4e-4, 0.003, 5e4]],
  ] as const)("%s keeps them", async (format, sizes) => {
    for (const zeroPoint of format === "nf4" ? [false] : [false, true])
      for (const size of sizes) {
        const q = quantize(new Float32Array(64).fill(size), [1, 64], { format, zeroPoint });
        for (const value of await dequantize(q).data()) expect(Math.abs(value / size - 1)).toBeLessThan(0.005);
      }
  });

  test("values beyond the largest scale are refused on the host, and clamped on the device", async () => {
    const huge = new Float32Array(64).fill(1e7);
    expect(() => quantize(huge, [1, 64], { format: "int8" })).toThrow("f16 scales reach ±8319008");
    const product = tensor(new Float32Array(64).fill(1e4), { shape: [1, 64] }).mul(1e3);
    const [value] = await dequantize(quantize(product, [1, 64], { format: "int8" })).data();
    expect(Math.abs(value / (127 * 65504) - 1)).toBeLessThan(0.01);
  });
});
