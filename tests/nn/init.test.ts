import { beforeAll, describe, expect, test } from "vitest";
import * as nn from "../../src/nn/index.ts";
import { manualSeed, zeros } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

beforeAll(async () => {
  await init({ backend: "reference" });
  manualSeed(3);
});

async function moments(x: Tensor) {
  const data = Array.from(await x.data());
  const mean = data.reduce((a, b) => a + b, 0) / data.length;
  const std = Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length);
  return { mean, std, max: Math.max(...data), min: Math.min(...data) };
}

describe("initialisers", () => {
  const shape = [64, 16, 3, 3]; // fan in 144, fan out 576

  test.each([
    ["uniform", () => nn.uniform(shape, { a: 1, b: 3 }), 2, 2 / Math.sqrt(12)],
    ["uniform by bound", () => nn.uniform(shape, 0.5), 0, 1 / Math.sqrt(12)],
    ["normal", () => nn.normal(shape, { mean: 2, std: 0.5 }), 2, 0.5],
    ["truncatedNormal", () => nn.truncatedNormal(shape, { std: 1 }), 0, 0.8796], // of the normal distribution cut at ±2
    ["kaimingUniform", () => nn.kaimingUniform(shape, { a: Math.sqrt(5) }), 0, Math.sqrt(1 / 3 / 144)],
    ["kaimingUniform, fan out", () => nn.kaimingUniform(shape, { mode: "fanOut" }), 0, Math.sqrt(2 / 576)],
    ["kaimingNormal", () => nn.kaimingNormal(shape, { nonlinearity: "relu" }), 0, Math.sqrt(2 / 144)],
    ["xavierUniform", () => nn.xavierUniform(shape, { gain: 2 }), 0, 2 * Math.sqrt(2 / 720)],
    ["xavierNormal", () => nn.xavierNormal(shape), 0, Math.sqrt(2 / 720)],
  ])("%s has the mean and deviation of its formula", async (_, make, mean, std) => {
    const x = make();
    const found = await moments(x);
    expect([x.shape, x.requiresGrad]).toEqual([shape, true]);
    expect(Math.abs(found.mean - mean)).toBeLessThan(0.04 * std);
    expect(Math.abs(found.std / std - 1)).toBeLessThan(0.03);
  });

  test("limits hold", async () => {
    expect((await moments(nn.xavierUniform(shape))).max).toBeLessThan(Math.sqrt(6 / 720));
    const cut = await moments(nn.truncatedNormal([4000], { mean: 1, std: 2, a: 0, b: 1.5 }));
    expect([cut.min >= 0, cut.max <= 1.5]).toEqual([true, true]);
  });

  test.each([{ shape: [3, 5] }, { shape: [5, 3] }, { shape: [4, 2, 2] }])(
    "orthogonal $shape has orthogonal rows or columns of length gain",
    async ({ shape }) => {
      const x = nn.orthogonal(shape, { gain: 2 });
      const matrix = x.reshape([shape[0], -1]);
      const product = shape[0] <= matrix.shape[1] ? matrix.matmul(matrix.t()) : matrix.t().matmul(matrix);
      const found = Array.from(await product.data());
      const n = product.shape[0];
      found.forEach((value, i) => expect(value).toBeCloseTo(i % (n + 1) === 0 ? 4 : 0, 5));
    },
  );

  test("eye, dirac and constants", async () => {
    expect(await nn.eye([2, 3]).tolist()).toEqual([
      [1, 0, 0],
      [0, 1, 0],
    ]);
    expect(await nn.dirac([4, 2, 3], 2).tolist()).toEqual(
      [0, 1, 0, 1].map((at) => [0, 1].map((i) => (i === at ? [0, 1, 0] : [0, 0, 0]))),
    );
    expect(await nn.dirac([1, 1, 2, 3]).tolist()).toEqual([
      [
        [
          [0, 0, 0],
          [0, 1, 0],
        ],
      ],
    ]);
    expect(await nn.constant([2], 7).tolist()).toEqual([7, 7]);
    expect(await nn.ones([2]).tolist()).toEqual([1, 1]);
  });

  test("an existing tensor gets the values in place", async () => {
    const layer = new nn.Linear(4, 4);
    const { weight } = layer;
    expect(nn.eye(weight)).toBe(weight);
    expect(nn.zeros(layer.bias!)).toBe(layer.bias);
    expect([weight.requiresGrad, await weight.tolist(), await layer.bias!.tolist()]).toEqual([
      true,
      await nn.eye([4, 4]).tolist(),
      [0, 0, 0, 0],
    ]);
    const half = zeros([3], { dtype: "f16" });
    nn.constant(half, 0.5);
    expect([half.dtype, await half.tolist()]).toEqual(["f16", [0.5, 0.5, 0.5]]);
  });

  test("bad arguments are errors at the call", () => {
    expect(() => nn.xavierUniform([3])).toThrow(
      "xavierUniform: expected a weight of at least two dims, [out, in, ...], got [3]",
    );
    expect(() => nn.kaimingNormal([3, 3], { mode: "fan" as never })).toThrow('kaimingNormal: unknown mode "fan"');
    expect(() => nn.kaimingNormal([3, 3], { slope: 1 } as never)).toThrow("kaimingNormal: unknown option slope");
    expect(() => nn.uniform([3], { a: 2, b: 1 })).toThrow("uniform: expected a <= b");
    expect(() => nn.uniform([3], Number.NaN)).toThrow("uniform: a must be finite, got NaN");
    expect(() => nn.normal([3], { std: -1 })).toThrow("normal: std must not be negative, got -1");
    expect(() => nn.truncatedNormal([3], { std: 0.01, a: 1, b: 2 })).toThrow("almost no values in [1, 2]");
    expect(() => nn.orthogonal([3])).toThrow("orthogonal: expected at least two dims, got [3]");
    expect(() => nn.dirac([3, 3])).toThrow("dirac: expected a convolution weight");
    expect(() => nn.dirac([3, 3, 3], 2)).toThrow("dirac: groups must divide the 3 output channels, got 2");
    expect(() => nn.eye([3])).toThrow("eye: expected a matrix, got [3]");
    expect(() => nn.calculateGain("swish" as never)).toThrow('calculateGain: unknown nonlinearity "swish"');
  });

  test("gains are torch's", () => {
    expect(nn.calculateGain("linear")).toBe(1);
    expect(nn.calculateGain("tanh")).toBe(5 / 3);
    expect(nn.calculateGain("relu")).toBe(Math.SQRT2);
    expect(nn.calculateGain("leaky_relu", 0.2)).toBeCloseTo(Math.sqrt(2 / 1.04), 12);
    expect(nn.calculateGain("selu")).toBe(0.75);
  });
});
