import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import * as nn from "../../src/nn/index.ts";
import { manualSeed, ones, rand, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";

beforeAll(async () => {
  await init({ backend: "reference" });
  manualSeed(11);
});

const x = () => tensor([[-2, -0.5, 0, 0.5, 2]]);

describe("activation modules", () => {
  test.each([
    ["ReLU", new nn.ReLU(), x().relu()],
    ["GELU", new nn.GELU(), x().gelu()],
    ["GELU tanh", new nn.GELU({ approximate: "tanh" }), x().gelu({ approximate: "tanh" })],
    ["SiLU", new nn.SiLU(), x().silu()],
    ["Tanh", new nn.Tanh(), x().tanh()],
    ["Sigmoid", new nn.Sigmoid(), x().sigmoid()],
    ["Softmax", new nn.Softmax(1), x().softmax(1)],
    ["LogSoftmax", new nn.LogSoftmax(-1), x().logSoftmax(-1)],
    ["Identity", new nn.Identity(), x()],
    ["Softsign", new nn.Softsign(), sg.softsign(x())],
    ["SELU", new nn.SELU(), sg.selu(x())],
    ["Mish", new nn.Mish(), sg.mish(x())],
    ["ReLU6", new nn.ReLU6(), sg.relu6(x())],
    ["Hardsigmoid", new nn.Hardsigmoid(), sg.hardsigmoid(x())],
    ["Hardswish", new nn.Hardswish(), sg.hardswish(x())],
    ["LogSigmoid", new nn.LogSigmoid(), sg.logsigmoid(x())],
    ["Tanhshrink", new nn.Tanhshrink(), sg.tanhshrink(x())],
    ["LeakyReLU", new nn.LeakyReLU(0.3), sg.leakyRelu(x(), 0.3)],
    ["ELU", new nn.ELU(0.3), sg.elu(x(), 0.3)],
    ["CELU", new nn.CELU(0.3), sg.celu(x(), 0.3)],
    ["Hardtanh", new nn.Hardtanh(-0.3, 0.4), sg.hardtanh(x(), -0.3, 0.4)],
    ["Hardshrink", new nn.Hardshrink(0.6), sg.hardshrink(x(), 0.6)],
    ["Softshrink", new nn.Softshrink(0.6), sg.softshrink(x(), 0.6)],
    ["Threshold", new nn.Threshold(0.1, 7), sg.threshold(x(), 0.1, 7)],
    ["Softplus", new nn.Softplus({ beta: 2, threshold: 3 }), sg.softplus(x(), { beta: 2, threshold: 3 })],
    ["Softmin", new nn.Softmin(1), sg.softmin(x(), 1)],
  ] as const)("%s is its function", async (_, module: nn.Layer, want) => {
    expect(await module.forward(x()).tolist()).toEqual(await want.tolist());
    expect(module.parameters()).toEqual([]);
  });
});

test("GLU halves a dim, PReLU trains its slope", async () => {
  const even = tensor([[1, -2, 0, 3]]);
  expect(await new nn.GLU().forward(even).tolist()).toEqual(await sg.glu(even, -1).tolist());
  const prelu = new nn.PReLU(2, { init: 0.5 });
  prelu
    .forward(tensor([[-2, 4]]))
    .sum()
    .backward();
  expect(await prelu.weight.grad!.tolist()).toEqual([-2, 0]);
  expect(() => new nn.LeakyReLU(Number.NaN)).toThrow("LeakyReLU: negativeSlope must be finite, got NaN");
  expect(() => new nn.PReLU(0)).toThrow("PReLU: numParameters must be a positive integer, got 0");
  expect(() => new nn.PReLU(1, { slope: 1 } as never)).toThrow("PReLU: unknown option slope");
});

describe("layers", () => {
  test("Dropout2d zeroes whole channels, and scales the others", async () => {
    const layer = new nn.Dropout2d(0.5);
    const y = layer.forward(ones(4, 16, 2, 3));
    const [most, least] = [await y.amax([2, 3]).data(), await y.amin([2, 3]).data()];
    expect(most).toEqual(least);
    expect(new Set(most)).toEqual(new Set([0, 2]));
    expect(layer.forward(ones(4, 2, 3)).shape).toEqual([4, 2, 3]);
    expect(
      await layer
        .eval()
        .forward(x().reshape([1, 1, 1, 5]))
        .tolist(),
    ).toEqual(await x().reshape([1, 1, 1, 5]).tolist());
    expect(() => layer.forward(ones(2, 2))).toThrow("dropout2d: expected");
    expect(() => new nn.Dropout3d(1)).toThrow("Dropout3d: p must be in [0, 1), got 1");
    expect(new nn.Dropout().p).toBe(0.5);
  });

  test("Flatten and Unflatten", () => {
    expect(new nn.Flatten().forward(rand(2, 3, 4)).shape).toEqual([2, 12]);
    expect(new nn.Flatten(0, 1).forward(rand(2, 3, 4)).shape).toEqual([6, 4]);
    expect(new nn.Unflatten(1, [2, -1]).forward(rand(2, 12)).shape).toEqual([2, 2, 6]);
  });

  test("a convolutional net in one Sequential names its tensors as torch does", () => {
    const net = new nn.Sequential(new nn.Conv2d(1, 2, 3), new nn.ReLU(), new nn.Flatten(), new nn.Linear(8, 3));
    expect(Object.keys(net.stateDict())).toEqual(["0.weight", "0.bias", "3.weight", "3.bias"]);
    expect(net.forward(rand(5, 1, 4, 4)).shape).toEqual([5, 3]);
  });

  test("RMSNorm and GroupNorm without weights", async () => {
    const rms = new nn.RMSNorm([2, 2], 0, { elementwiseAffine: false });
    expect(rms.parameters()).toEqual([]);
    expect(
      await rms
        .forward(
          tensor([
            [3, 3],
            [-3, 3],
          ]),
        )
        .tolist(),
    ).toEqual([
      [1, 1],
      [-1, 1],
    ]);
    const group = new nn.GroupNorm(2, 4, { affine: false });
    expect([group.parameters(), group.forward(rand(2, 4, 3)).shape]).toEqual([[], [2, 4, 3]]);
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new nn.Bilinear(2, 0, 3)).toThrow("Bilinear: in2Features must be a positive integer, got 0");
    expect(() => new nn.GroupNorm(3, 4)).toThrow("GroupNorm: numGroups must divide numChannels 4, got 3");
    expect(() => new nn.GroupNorm(2, 4).forward(rand(2, 6))).toThrow("GroupNorm: expected [N, 4, ...], got [2,6]");
    expect(() => new nn.GELU({ approximate: "erf" as never })).toThrow('GELU: unknown approximation "erf"');
    expect(() => new nn.Softmax(0.5)).toThrow("Softmax: dim must be an integer, got 0.5");
  });
});
