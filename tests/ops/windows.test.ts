/** Convolutions, pools and resampling: what the golden data does not hold. */
import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

const read = async (x: Tensor): Promise<number[]> => [...(await x.data())];
const image = (values: number[], h: number, w: number): Tensor => sg.tensor(values, { shape: [1, 1, h, w] });
const backends = process.env.SHADEGRAD_BACKEND ? [process.env.SHADEGRAD_BACKEND] : ["reference", "webgpu"];

describe.each(backends)("on %s", (backend) => {
  beforeAll(async () => void (await init({ backend: backend as "webgpu" })));

  test("max pooling propagates NaN, with and without positions", async () => {
    const x = image([NaN, 2, 3, 4, 5, 6, 7, 8, 9], 3, 3);
    const { values, indices } = sg.maxPool2d(x, 2, { stride: 1, returnIndices: true });
    expect(await read(sg.maxPool2d(x, 2, { stride: 1 }))).toEqual([NaN, 6, 8, 9]);
    expect(await read(values)).toEqual([NaN, 6, 8, 9]);
    expect(await read(indices)).toEqual([0, 5, 7, 8]);
    // The last of several NaN is selected, as in torch.
    const two = sg.maxPool1d(sg.tensor([[NaN, 1, NaN, 2]]), 4, { returnIndices: true });
    expect(await read(two.indices)).toEqual([2]);
    expect(await read(sg.adaptiveMaxPool2d(x, 1))).toEqual([NaN]);
    expect(await read(sg.adaptiveAvgPool2d(x, 2))).toEqual([NaN, 4, 6, 7]);
  });

  test("a window of -Infinity selects an element of the input, not of the padding", async () => {
    const x = sg.tensor([[-Infinity, -Infinity, 1]]);
    const { values, indices } = sg.maxPool1d(x, 3, { stride: 2, padding: 1, returnIndices: true });
    expect([await read(values), await read(indices)]).toEqual([
      [-Infinity, 1],
      [0, 2],
    ]);
  });

  test("padding of an average does not spread infinities", async () => {
    const x = image([1, 2, 3, 4, 5, Infinity], 2, 3);
    expect(await read(sg.avgPool2d(x, 2, { stride: 1, padding: 1, countIncludePad: false }))).toEqual(
      [1, 1.5, 2.5, 3, 2.5, 3, Infinity, Infinity, 4, 4.5, Infinity, Infinity], // biome-ignore format: rows
    );
  });

  test("interpolation reads only elements that have a weight", async () => {
    const row = image([1, 2, 3, Infinity], 1, 4);
    const wide = await read(sg.interpolate(row, { size: [1, 8], mode: "bilinear" }));
    expect(wide).toEqual([1, 1.25, 1.75, 2.25, 2.75, Infinity, Infinity, Infinity]);
    const same = await read(sg.interpolate(row, { size: [1, 4], mode: "bicubic", alignCorners: true }));
    expect(same).toEqual([1, 2, 3, Infinity]);
    expect(await read(sg.interpolate(row, { size: [1, 2], mode: "area" }))).toEqual([1.5, Infinity]);
  });

  test("grid positions that are no numbers or far outside read zeros or the border", async () => {
    const x = image([1, 2, 3, 4], 2, 2);
    const grid = sg.tensor([NaN, 0, 1e30, 0, -Infinity, -1, 0, 0], { shape: [1, 1, 4, 2] });
    expect(await read(sg.gridSample(x, grid))).toEqual([0, 0, 0, 2.5]);
    const border = await read(sg.gridSample(x, grid, { paddingMode: "border" }));
    expect(border.slice(1)).toEqual([3, 1, 2.5]);
  });

  test("inputs without a batch dim, and batches of 0", async () => {
    expect(sg.conv2d(sg.ones(2, 4, 4), sg.ones(3, 2, 3, 3), sg.ones(3)).shape).toEqual([3, 2, 2]);
    expect(await read(sg.maxPool1d(sg.tensor([[1, 2, 3, 4]]), 2))).toEqual([2, 4]);
    const w = sg.ones(2, 3, 3).requiresGrad_();
    const y = sg.convTranspose1d(sg.zeros(0, 2, 4), w);
    expect(y.shape).toEqual([0, 3, 6]);
    y.sum().backward();
    expect(await read(w.grad!)).toEqual(new Array(18).fill(0));
    expect(sg.avgPool2d(sg.zeros(0, 2, 4, 4), 2).shape).toEqual([0, 2, 2, 2]);
    expect(sg.maxPool2d(sg.zeros(0, 2, 4, 4).requiresGrad_(), 2).shape).toEqual([0, 2, 2, 2]);
  });

  test("paddingMode pads as `pad` does", async () => {
    const x = sg.tensor([[[1, 2, 3]]]);
    const w = sg.tensor([[[1, 10, 100]]]);
    const modes = ["zeros", "reflect", "replicate", "circular"] as const;
    const rows = modes.map((paddingMode) => sg.conv1d(x, w, null, { padding: 1, paddingMode }));
    expect(await read(sg.cat(rows))).toEqual([210, 321, 32, 212, 321, 232, 211, 321, 332, 213, 321, 132]);
  });

  test("running statistics average with any momentum, also one on the device", async () => {
    const x = sg.tensor([1, 3, 10, 30], { shape: [2, 2] });
    const stats = { runningMean: sg.tensor([0, 0]), runningVar: sg.tensor([1, 1]), training: true };
    const half = sg.batchNorm(x, { ...stats, momentum: sg.tensor(0.5) });
    expect(await read(half.runningMean!)).toEqual([2.75, 8.25]);
    expect(await read(half.runningVar!)).toEqual([20.75, 182.75]);
    expect(half.runningVar!.requiresGrad).toBe(false);
  });
});

describe("errors at the call", () => {
  const x = sg.zeros(1, 4, 6, 6);
  test.each<[() => unknown, string]>([
    [() => sg.conv1d(x, sg.zeros(1, 4, 3)), "conv1d: input must be [N, C, L] or [C, L], got [1,4,6,6]"],
    [() => sg.conv2d(x.int(), sg.zeros(1, 4, 3, 3)), "conv2d: input [1,4,6,6] is i32: cast it with float()"],
    [() => sg.conv2d(x, sg.zeros(4, 4, 3)), "conv2d: input [1,4,6,6] does not fit weight [4,4,3]"],
    [() => sg.conv2d(x, sg.zeros(4, 2, 3, 3), null, { groups: 3 }), "with 3 group(s)"],
    [
      () => sg.conv2d(x, sg.zeros(4, 4, 7, 7)),
      "conv2d: windows [7,7] (dilation [1,1]) are larger than input [1,4,6,6]",
    ],
    [() => sg.conv2d(x, sg.zeros(4, 4, 3, 3), sg.zeros(3)), "conv2d: bias must be [4], got [3]"],
    [() => sg.conv2d(x, sg.zeros(4, 4, 3, 3), null, { stride: 0 }), "conv2d: stride 0"],
    [() => sg.conv2d(x, sg.zeros(4, 4, 3, 3), null, { stride: 2, padding: "same" }), 'padding "same" needs stride 1'],
    [() => sg.conv2d(x, sg.zeros(4, 4, 3, 3), null, { pad: 1 } as never), "conv2d: unknown option pad"],
    [
      () => sg.convTranspose2d(x, sg.zeros(3, 4, 3, 3)),
      "convTranspose2d: input [1,4,6,6] does not fit weight [3,4,3,3]",
    ],
    [() => sg.convTranspose2d(x, sg.zeros(4, 2, 3, 3), null, { outputPadding: 1 }), "outputPadding 1 of dim 0"],
    [() => sg.maxPool2d(x, 8), "maxPool2d: windows [8,8] (dilation [1,1]) are larger than input [1,4,6,6]"],
    [() => sg.maxPool2d(x, 2, { padding: 2 }), "maxPool2d: padding 2 for a kernel of 2: expected at most half"],
    [() => sg.avgPool2d(x, 2, { divisorOverride: 0 }), "avgPool2d: divisorOverride 0"],
    [() => sg.adaptiveAvgPool2d(x, [1.5, 2]), "adaptiveAvgPool2d: size [1.5,2]"],
    [() => sg.interpolate(x, {}), "interpolate: expected either size or scaleFactor"],
    [() => sg.interpolate(x, { size: 3, mode: "linear" }), "interpolate: mode linear of [1,4,6,6]"],
    [() => sg.interpolate(x, { scaleFactor: 0.1 }), "gives sizes [0,0]"],
    [() => sg.gridSample(x, sg.zeros(2, 3, 3, 2)), "gridSample: input [1,4,6,6] and grid [2,3,3,2]"],
    [() => sg.affineGrid(sg.zeros(1, 2, 3), [2, 1, 4, 4]), "affineGrid: theta [1,2,3] with size [2,1,4,4]"],
    [() => sg.pixelShuffle(x, 3), "pixelShuffle: [1,4,6,6] with factor 3"],
    [() => sg.pixelUnshuffle(x, 4), "pixelUnshuffle: [1,4,6,6] with factor 4"],
    [() => sg.batchNorm(x), "batchNorm: normalising with running statistics needs runningMean and runningVar"],
    [() => sg.batchNorm(sg.zeros(1, 4), { training: true }), "batchNorm: 1 value(s) per channel of [1,4]"],
    [() => sg.instanceNorm(sg.zeros(2, 4, 1)), "instanceNorm: 1 value(s) per channel and sample of [2,4,1]"],
    [() => sg.batchNorm(x, { weight: sg.zeros(3), training: true }), "batchNorm: weight must be [4], got [3]"],
  ])("%s", (call, message) => expect(call).toThrow(message));
});

/** Sizes with several tiles, guards on every side, and few samples for many columns. */
const convolutions: [x: number[], w: number[], options: sg.ConvOptions][] = [
  [[2, 6, 9, 13], [40, 6, 3, 3], { padding: 1 }],
  [[3, 8, 12, 12], [36, 4, 3, 3], { padding: 1, groups: 2 }],
  [[2, 5, 11, 14], [7, 5, 3, 2], { stride: [2, 3], padding: [2, 1], dilation: [2, 1] }],
  [[2, 12, 10, 8], [20, 12, 1, 1], { stride: 2 }],
  [[1, 9, 150], [18, 3, 5], { groups: 3, padding: "same" }],
  [[2, 4, 5, 6, 7], [9, 4, 2, 3, 3], { padding: 1, stride: [1, 2, 1], dilation: [2, 1, 1] }],
  [[4, 3, 16, 16], [3, 3, 3, 3], { padding: 1 }],
  [[2, 32, 10, 12], [32, 1, 3, 3], { padding: 1, groups: 32 }],
  [[2, 3, 11, 9], [6, 1, 5, 4], { groups: 3 }],
  [[2, 3, 60], [3, 1, 7], { padding: 3, groups: 3 }],
  [[1, 2, 12, 12], [2, 1, 7, 7], { padding: "same", groups: 2 }],
  [[2, 6, 10, 9], [12, 1, 5, 5], { padding: 2, stride: 2, groups: 6 }],
];

/** A tensor with smooth values around `mean`. */
const waves = (shape: number[], seed: number, mean = 0): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  return sg.tensor(
    Float32Array.from({ length: size }, (_, j) => mean + Math.sin(7 * j + seed)),
    { shape },
  );
};

/** Values, running statistics and gradients, where the mean is large against the deviation. */
async function normalize(backend: "webgpu" | "reference"): Promise<number[][]> {
  await init({ backend });
  const [x, weight, bias] = [waves([3, 5, 7, 12], 0, 50), waves([5], 1), waves([5], 2)].map((t) => t.requiresGrad_());
  const stats = { runningMean: sg.zeros(5), runningVar: sg.ones(5) };
  const { output, runningMean, runningVar } = sg.batchNorm(x, { weight, bias, training: true, ...stats });
  const grads = sg.grad(output.tanh().square().sum(), [x, weight, bias]);
  return Promise.all([output, runningMean!, runningVar!, ...grads].map(read));
}

async function convolve(backend: "webgpu" | "reference"): Promise<number[][]> {
  await init({ backend });
  const results: number[][] = [];
  for (const [xs, ws, options] of convolutions) {
    const [x, w] = [xs, ws].map((shape, i) => waves(shape, i).requiresGrad_());
    const f = { 3: sg.conv1d, 4: sg.conv2d, 5: sg.conv3d }[xs.length as 4];
    const y = f(x, w, null, options).tanh();
    for (const t of [y, ...sg.grad(y.square().sum(), [x, w])]) results.push(await read(t));
  }
  return results;
}

/** The largest error relative to the largest value of each result. */
const errors = (got: number[][], want: number[][]): number[] =>
  want.map((values, i) => {
    const largest = Math.max(1, ...values.map(Math.abs));
    return Math.max(...values.map((v, j) => Math.abs(v - got[i][j]) / largest));
  });

test("kernels equal the definition: convolutions and both gradients", async () => {
  const want = await convolve("reference");
  expect(Math.max(...errors(await convolve("webgpu"), want))).toBeLessThan(4e-6); // tanh alone is five ulps off
});

test("kernels equal the definition: batch normalisation", async () => {
  const want = await normalize("reference");
  expect(Math.max(...errors(await normalize("webgpu"), want))).toBeLessThan(2e-5);
});
