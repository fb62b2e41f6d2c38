import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import * as nn from "../../src/nn/index.ts";
import { manualSeed, rand, randn, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

beforeAll(async () => {
  await init({ backend: "reference" });
  manualSeed(13);
});

const equal = async (a: Tensor, b: Tensor) => {
  expect(a.shape).toEqual(b.shape);
  expect(await a.sub(b).abs().max().item()).toBeLessThan(1e-6);
};

describe("convolutions", () => {
  test("three dims, transposed, and groups have torch's weights", () => {
    const shapes = [
      new nn.Conv1d(4, 6, 3, { groups: 2 }),
      new nn.Conv2d(4, 6, [3, 1]),
      new nn.Conv3d(4, 6, 2),
      new nn.ConvTranspose1d(4, 6, 3, { groups: 2 }),
      new nn.ConvTranspose2d(4, 6, 3),
      new nn.ConvTranspose3d(4, 6, [1, 2, 3], { bias: false }),
    ].map((layer) => [layer.weight.shape, layer.bias?.shape]);
    expect(shapes).toEqual([
      [[6, 2, 3], [6]],
      [[6, 4, 3, 1], [6]],
      [[6, 4, 2, 2, 2], [6]],
      [[4, 3, 3], [6]],
      [[4, 6, 3, 3], [6]],
      [[4, 6, 1, 2, 3], undefined],
    ]);
  });

  test("options reach the functions", async () => {
    const layer = new nn.Conv2d(2, 4, 3, { padding: "same", paddingMode: "reflect", dilation: 2, groups: 2 });
    const x = randn(1, 2, 6, 5);
    const options = { padding: "same", paddingMode: "reflect", dilation: 2, groups: 2 } as const;
    await equal(layer.forward(x), sg.conv2d(x, layer.weight, layer.bias, options));
    const up = new nn.ConvTranspose3d(2, 3, 2, { stride: 2, outputPadding: 1 });
    const volume = randn(1, 2, 2, 2, 2);
    await equal(up.forward(volume), sg.convTranspose3d(volume, up.weight, up.bias, { stride: 2, outputPadding: 1 }));
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new nn.Conv2d(3, 4, 3, { groups: 2 })).toThrow(
      "Conv2d: groups must divide the channels, got 2 groups for 3 input and 4 output channels",
    );
    expect(() => new nn.Conv1d(3, 4, [3, 3])).toThrow("Conv1d: kernelSize must be one number or 1, got [3,3]");
    expect(() => new nn.Conv2d(3, 4, 0)).toThrow("Conv2d: kernelSize 0 must be a positive integer, got 0");
    expect(() => new nn.Conv2d(3, 4, 3, { stride: [1, 0] })).toThrow(
      "Conv2d: stride 1 must be a positive integer, got 0",
    );
    expect(() => new nn.Conv2d(3, 4, 3, { outputPadding: 1 } as never)).toThrow("Conv2d: unknown option outputPadding");
    expect(() => new nn.ConvTranspose2d(3, 4, 3, { paddingMode: "reflect" } as never)).toThrow(
      "unknown option paddingMode",
    );
    expect(() => new nn.Conv2d(3, 4, 3).forward(rand(1, 2, 5, 5))).toThrow("conv2d");
  });
});

describe("pools and resizing", () => {
  test.each([
    ["MaxPool1d", new nn.MaxPool1d(2, { stride: 1 }), [1, 2, 5], (x: Tensor) => sg.maxPool1d(x, 2, { stride: 1 })],
    ["MaxPool2d", new nn.MaxPool2d(3, { padding: 1 }), [1, 2, 5, 6], (x: Tensor) => sg.maxPool2d(x, 3, { padding: 1 })],
    ["MaxPool3d", new nn.MaxPool3d(2), [1, 1, 2, 4, 4], (x: Tensor) => sg.maxPool3d(x, 2)],
    ["AvgPool1d", new nn.AvgPool1d(2), [1, 2, 6], (x: Tensor) => sg.avgPool1d(x, 2)],
    [
      "AvgPool2d",
      new nn.AvgPool2d([2, 3], { ceilMode: true }),
      [1, 2, 5, 6],
      (x: Tensor) => sg.avgPool2d(x, [2, 3], { ceilMode: true }),
    ],
    ["AvgPool3d", new nn.AvgPool3d(2), [1, 1, 2, 4, 4], (x: Tensor) => sg.avgPool3d(x, 2)],
    ["AdaptiveAvgPool1d", new nn.AdaptiveAvgPool1d(3), [1, 2, 7], (x: Tensor) => sg.adaptiveAvgPool1d(x, 3)],
    [
      "AdaptiveAvgPool2d",
      new nn.AdaptiveAvgPool2d([null, 2]),
      [1, 2, 5, 6],
      (x: Tensor) => sg.adaptiveAvgPool2d(x, [null, 2]),
    ],
    ["AdaptiveAvgPool3d", new nn.AdaptiveAvgPool3d(1), [1, 2, 2, 3, 4], (x: Tensor) => sg.adaptiveAvgPool3d(x, 1)],
    ["AdaptiveMaxPool1d", new nn.AdaptiveMaxPool1d(2), [1, 2, 7], (x: Tensor) => sg.adaptiveMaxPool1d(x, 2)],
    ["AdaptiveMaxPool2d", new nn.AdaptiveMaxPool2d(2), [1, 2, 5, 6], (x: Tensor) => sg.adaptiveMaxPool2d(x, 2)],
    ["AdaptiveMaxPool3d", new nn.AdaptiveMaxPool3d(1), [1, 2, 2, 3, 4], (x: Tensor) => sg.adaptiveMaxPool3d(x, 1)],
    [
      "Upsample",
      new nn.Upsample({ scaleFactor: 2, mode: "bilinear" }),
      [1, 2, 3, 3],
      (x: Tensor) => sg.interpolate(x, { scaleFactor: 2, mode: "bilinear" }),
    ],
    ["PixelShuffle", new nn.PixelShuffle(2), [1, 8, 2, 2], (x: Tensor) => sg.pixelShuffle(x, 2)],
    ["PixelUnshuffle", new nn.PixelUnshuffle(2), [1, 2, 4, 4], (x: Tensor) => sg.pixelUnshuffle(x, 2)],
  ] as const)("%s is its function", async (_, module: nn.Layer, shape, f) => {
    const x = randn([...shape]);
    await equal(module.forward(x), f(x));
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new nn.MaxPool2d(0)).toThrow("MaxPool2d: kernelSize 0 must be a positive integer, got 0");
    expect(() => new nn.AvgPool2d(2, { dilation: 2 } as never)).toThrow("AvgPool2d: unknown option dilation");
    expect(() => new nn.Upsample({})).toThrow("Upsample: expected size or scaleFactor, one of them");
    expect(() => new nn.PixelShuffle(1.5)).toThrow("PixelShuffle: factor must be a positive integer, got 1.5");
  });
});

describe("norms with running statistics", () => {
  test("batches update the statistics in place; eval uses them, and they are no parameters", async () => {
    const norm = new nn.BatchNorm1d(1, { momentum: 0.5 });
    const { running_mean } = norm;
    norm.forward(tensor([[1], [3]]));
    norm.forward(tensor([[5], [7]])); // before the first update ran
    expect(norm.running_mean).toBe(running_mean);
    expect(await norm.running_mean!.tolist()).toEqual([(0.5 * 2) / 2 + 3]);
    expect(await norm.running_var!.tolist()).toEqual([(0.5 + 1 + 2) / 2]);
    expect(await norm.num_batches_tracked!.item()).toBe(2);
    expect([...norm.namedParameters()].map(([name]) => name)).toEqual(["weight", "bias"]);
    const y = await norm
      .eval()
      .forward(tensor([[4]]))
      .item();
    expect(y).toBeCloseTo((4 - 3.5) / Math.sqrt(1.75 + 1e-5), 5);
    expect(await norm.num_batches_tracked!.item()).toBe(2);
  });

  test("without running statistics eval uses those of the batch", async () => {
    const norm = new nn.BatchNorm2d(2, { trackRunningStats: false, affine: false }).eval();
    expect(Object.keys(norm.stateDict())).toEqual([]);
    const y = norm.forward(randn(3, 2, 4, 4));
    expect(await y.mean([0, 2, 3]).abs().max().item()).toBeLessThan(1e-6);
  });

  test("instance norm takes samples without a batch", async () => {
    const norm = new nn.InstanceNorm1d(2);
    const x = randn(2, 5);
    await equal(norm.forward(x), norm.forward(x.unsqueeze(0)).squeeze(0));
    expect(new nn.InstanceNorm3d(2).forward(randn(1, 2, 2, 2, 2)).shape).toEqual([1, 2, 2, 2, 2]);
    expect(new nn.BatchNorm3d(2).forward(randn(1, 2, 2, 2, 2)).shape).toEqual([1, 2, 2, 2, 2]);
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new nn.BatchNorm2d(4, { momentum: 2 })).toThrow(
      "BatchNorm2d: momentum must be null or in [0, 1], got 2",
    );
    expect(() => new nn.BatchNorm2d(4, { eps: -1 })).toThrow("BatchNorm2d: eps must be finite and >= 0, got -1");
    expect(() => new nn.BatchNorm2d(4).forward(rand(2, 3, 1, 1))).toThrow(
      "BatchNorm2d: expected [N, C, H, W] with C = 4, got [2,3,1,1]",
    );
    expect(() => new nn.BatchNorm1d(4).forward(rand(1, 4))).toThrow(
      "batchNorm: 1 value(s) per channel of [1,4]: training expects more than one",
    );
    expect(() => new nn.InstanceNorm2d(4, { tracking: true } as never)).toThrow(
      "InstanceNorm2d: unknown option tracking",
    );
  });
});
