import { describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { pack } from "../../src/ops/pack.ts";
import { init } from "../../src/runtime/engine.ts";
import { memoryStats } from "../../src/runtime/statistics.ts";
import { onBoth } from "../support/backend.ts";
import { expectClose } from "../support/compare.ts";
import { uniform } from "../support/f64.ts";

test.each(["reference", "webgpu"] as const)("on %s a value without gradient forgets its inputs", async (backend) => {
  await init({ backend });
  let average = sg.tensor(0);
  for (let i = 0; i < 5; i++) {
    average = average.mul(0.5).add(sg.tensor(1));
    await average.data();
  }
  expect(await average.item()).toBeCloseTo(2 - 2 ** -4, 6);
  expect(average.node.src).toEqual([]);
  const x = sg.tensor([3], { requiresGrad: true });
  const y = x.square();
  expect(await y.item()).toBe(9);
  expect(await sg.grad(y, [x])[0].item()).toBe(6);
});

test("random numbers are the same bits", async () => {
  const { want, got } = await onBoth(() => [sg.rand(1001), sg.rand(3, 5)]);
  expect(got).toEqual(want);
});

describe("special values", () => {
  test("infinities and NaN pass through constants and masks", async () => {
    const { got } = await onBoth(() => {
      const x = sg.tensor([1, 2, 3, 4, 5]);
      return [
        x.maskedFill(x.gt(3), -Infinity),
        x.mul(Infinity),
        sg.full([2], NaN).add(0),
        x.maskedFill(x.gt(3), -Infinity).softmax(0),
      ];
    });
    expect(Array.from(got[0])).toEqual([1, 2, 3, -Infinity, -Infinity]);
    expect(Array.from(got[1])).toEqual(new Array(5).fill(Infinity));
    expect(Array.from(got[2])).toEqual([NaN, NaN]);
    expect(Array.from(got[3]).slice(3)).toEqual([0, 0]);
  });

  test("a row of cross entropy whose targets are all ignored has loss 0 and no gradient", async () => {
    const { got, want } = await onBoth(() => {
      const x = sg.tensor(uniform(10), { shape: [2, 5], requiresGrad: true });
      const loss = sg.crossEntropy(x, sg.tensor([-100, -100], { dtype: "i32" }));
      return [loss, sg.grad(loss, [x])[0]];
    });
    expect(got).toEqual(want);
    expect(got[0][0]).toBe(0);
  });

  test("a query that sees no key gives zeros and no gradient", async () => {
    const { got, want } = await onBoth(() => {
      const q = sg.tensor(uniform(8), { shape: [1, 1, 2, 4], requiresGrad: true });
      const y = sg.scaledDotProductAttention(q, q, q, {
        mask: sg.tensor([
          [false, false],
          [true, true],
        ]),
      });
      return [y, sg.grad(y.square().sum(), [q])[0]];
    });
    expect(Array.from(got[0]).slice(0, 4)).toEqual([0, 0, 0, 0]);
    expectClose({ got, want }, 5e-6);
  });
});

test("composed and multi-output ops agree with the interpreter", async () => {
  const { got, want } = await onBoth(() => {
    const x = sg.tensor(uniform(2 * 4 * 6 * 5, -1, 1, 9), { shape: [2, 4, 6, 5], requiresGrad: true });
    const w = sg.tensor(uniform(6 * 4 * 9, -1, 1, 10), { shape: [6, 4, 3, 3], requiresGrad: true });
    const outputs = [
      sg.conv2d(x, w, null, { padding: 1, stride: 2 }),
      sg.maxPool2d(x, [3, 2], { padding: [1, 0] }),
      sg.interpolate(x, { size: [9, 3], mode: "bicubic", antialias: true }),
      sg.groupNorm(x, 2),
      sg.cat([x, x.mul(2), x.neg(), x.square(), x, x.exp()], 1),
      x.var({ dim: [2, 3] }).sqrt(),
      x.flatten(1).topk(5).values,
      pack([x, w]),
      x.unfold(2, 3, 1).prod(-1),
    ];
    const loss = outputs.map((y) => y.square().mean()).reduce((a, b) => a.add(b));
    return [...outputs, ...sg.grad(loss, [x, w])];
  });
  expectClose({ got, want }, 2e-5);
});

test("checkpoint saves a third of the memory of a deep network's gradients, which stay the same", async () => {
  const [depth, D] = [8, 64];
  const run = async (saving: boolean): Promise<{ peak: number; values: ArrayLike<number> }> => {
    await init({ backend: "webgpu" });
    const weights = Array.from({ length: 2 * depth }, (_, i) =>
      sg.tensor(uniform(4 * D * D, -0.1, 0.1, i), { shape: i % 2 ? [D, 4 * D] : [4 * D, D], requiresGrad: true }),
    );
    const block = (x: sg.Tensor, l: number): sg.Tensor =>
      sg.linear(sg.linear(x, weights[2 * l]).gelu(), weights[2 * l + 1]).add(x);
    let x = sg.tensor(uniform(512 * D), { shape: [512, D] });
    for (let l = 0; l < depth; l++) x = saving ? sg.checkpoint((t) => block(t, l), x) : block(x, l);
    const values = await sg.grad(x.square().mean(), weights)[0].data();
    return { peak: memoryStats().peakBytes, values };
  };
  const [plain, saving] = [await run(false), await run(true)];
  expect(saving.peak).toBeLessThan(plain.peak * 0.67);
  expect(Array.from(saving.values)).toEqual(Array.from(plain.values));
});
