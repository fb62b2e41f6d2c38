import { beforeAll, describe, expect, test } from "vitest";
import { crossEntropy, grad, linear, linearCrossEntropy, tensor } from "../../src/ops/functional.ts";
import { init, synchronize } from "../../src/runtime/engine.ts";
import { memoryStats } from "../../src/runtime/statistics.ts";
import { flush } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { random } from "../support/tensors.ts";

const gpu = process.env.SHADEGRAD_BACKEND !== "reference";
beforeAll(() => init({ backend: gpu ? "webgpu" : "reference" }));

const float = (shape: number[], seed: number): Tensor => random(shape, seed).requiresGrad_();
const classes = (n: number, V: number, ignored = 5): Tensor =>
  tensor(Int32Array.from({ length: n }, (_, i) => (i % ignored === 2 ? -100 : (i * 7919) % V)));

/** Loss and gradients of hidden and weight. */
async function values(loss: Tensor, ...x: Tensor[]): Promise<number[][]> {
  const d = grad(loss, x);
  return Promise.all([loss, ...d].map(async (t) => [...(await t.data())]));
}

const close = (got: number[][], want: number[][], tolerance: number): void =>
  got.forEach((g, k) => {
    const size = Math.max(...want[k].map(Math.abs));
    g.forEach((v, i) => expect(Math.abs(v - want[k][i])).toBeLessThanOrEqual(tolerance * size + 1e-12));
  });

describe("linearCrossEntropy is crossEntropy of linear", () => {
  test.each([
    [1, 1, 3, 1],
    [5, 3, 7, 2],
    [37, 8, 101, 16],
    [37, 8, 101, 1000],
    [13, 5, 4099, undefined],
  ])("%i rows of %i, %i classes, parts of %s", async (N, D, V, chunk) => {
    const [h, w] = [float([N, D], 1), float([V, D], 2)];
    const t = classes(N, V);
    for (const reduction of ["mean", "sum"] as const) {
      const options = { reduction, labelSmoothing: reduction === "sum" ? 0.1 : 0 };
      const want = await values(crossEntropy(linear(h, w), t, options), h, w);
      close(await values(linearCrossEntropy(h, w, t, { ...options, chunk }), h, w), want, 3e-6);
    }
  });

  test("over leading dims, under a factor, of frozen weights, of ignored labels alone", async () => {
    const [h, w] = [float([2, 3, 8], 3), float([50, 8], 4)];
    const t = classes(6, 50);
    const want = await values(crossEntropy(linear(h.reshape([6, 8]), w), t).mul(3), h, w);
    const loss = linearCrossEntropy(h, w, t.reshape([2, 3]), { chunk: 4 }).mul(3);
    close(await values(loss, h, w), want, 3e-6);
    close(
      await values(linearCrossEntropy(h, w.detach(), t.reshape([2, 3]), { chunk: 4 }).mul(3), h),
      want.slice(0, 2),
      3e-6,
    );
    const none = linearCrossEntropy(h, w, tensor(new Int32Array(6).fill(-100), { shape: [2, 3] }), { chunk: 4 });
    expect((await values(none, h, w)).flat().every((v) => v === 0)).toBe(true);
  });

  test("vocabularies larger than a workgroup: 32,003 and 152,064", async () => {
    for (const [V, chunk] of [
      [32_003, 2],
      [152_064, 3],
    ]) {
      const [h, w] = [float([5, 4], 5), float([V, 4], 6)];
      const [hidden, weight] = [await h.data(), await w.data()];
      const t = classes(5, V, 4);
      const targets = [...(await t.data())];
      const [loss, dh] = await values(linearCrossEntropy(h, w, t, { chunk }), h);
      const logit = (n: number, v: number): number =>
        [0, 1, 2, 3].reduce((s, d) => s + hidden[n * 4 + d] * weight[v * 4 + d], 0);
      const kept = targets.filter((c) => c >= 0).length;
      let want = 0;
      const slope = new Float64Array(20);
      targets.forEach((c, n) => {
        if (c < 0) return;
        const e = Float64Array.from({ length: V }, (_, v) => Math.exp(logit(n, v)));
        const sum = e.reduce((a, b) => a + b, 0);
        want += (Math.log(sum) - logit(n, c)) / kept;
        for (let v = 0; v < V; v++)
          for (let d = 0; d < 4; d++) slope[n * 4 + d] += ((e[v] / sum - Number(v === c)) * weight[v * 4 + d]) / kept;
      });
      close([loss, dh], [[want], [...slope]], 1e-5);
    }
  });
});

test.skipIf(!gpu)("holds the logits of one part at a time", async () => {
  const [N, D, V] = [256, 64, 8192];
  const peak = async (lossOf: (h: Tensor, w: Tensor, t: Tensor) => Tensor): Promise<number> => {
    await init({ backend: "webgpu" });
    const [h, w] = [float([N, D], 7), float([V, D], 8)];
    const d = grad(lossOf(h, w, classes(N, V)), [h, w]);
    await flush(...d);
    await synchronize();
    return memoryStats().peakBytes;
  };
  const logits = 4 * N * V;
  const whole = await peak((h, w, t) => crossEntropy(linear(h, w), t));
  const parts = await peak((h, w, t) => linearCrossEntropy(h, w, t, { chunk: 32 }));
  expect(whole).toBeGreaterThan(2 * logits);
  // Two buffers of a part's logits; the weight, two of its running gradient and the one that is kept; the rest.
  expect(parts).toBeLessThan((2 * logits) / 8 + 4 * 4 * V * D + 16 * 4 * N * D);
  expect(parts).toBeLessThan(whole - logits);
});

test("what does not fit is said at the call", async () => {
  const [h, w] = [float([2, 4], 1), float([7, 4], 2)];
  const t = tensor(Int32Array.of(1, 2));
  expect(() => linearCrossEntropy(h, float([7, 5], 1), t)).toThrow(/hidden \[2,4\] does not fit weight \[7,5\]/);
  expect(() => linearCrossEntropy(h, w, tensor(Int32Array.of(1)))).toThrow(/labels \[1\]/);
  expect(() => linearCrossEntropy(h, w, tensor(Int32Array.of(1, 7)))).toThrow(/target 7 is out of range for 7 classes/);
  expect(() => linearCrossEntropy(h, w, t, { chunk: 0 })).toThrow(/chunk/);
  const [dh] = grad(linearCrossEntropy(h, w, t), [h], { createGraph: true } as never);
  expect(() => grad(dh.sum(), [w])).toThrow(/second derivatives|does not depend/);
});
