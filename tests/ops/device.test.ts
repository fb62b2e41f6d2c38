import { describe, expect, test } from "vitest";
import { flush, init, memoryStats } from "../../src/runtime/engine.ts";
import * as sg from "../../src/tensor/tensor.ts";
import { uniform } from "../helpers/f64.ts";

type Build = () => sg.Tensor[];

/** The values of the same tensors on the interpreter and on the GPU. */
async function onBoth(build: Build): Promise<{ want: ArrayLike<number>[]; got: ArrayLike<number>[] }> {
  const [want, got] = [[], []] as ArrayLike<number>[][];
  for (const [backend, out] of [
    ["reference", want],
    ["webgpu", got],
  ] as const) {
    await init({ backend });
    sg.manualSeed(11);
    const tensors = build();
    await flush(tensors.map((t) => t.node));
    for (const t of tensors) out.push(await t.data());
  }
  return { want, got };
}

/** Small, ordinary and extreme arguments; 4 k + 1 of them, so that both vector and scalar code run. */
const wide = [
  ...uniform(40, -1, 1, 3),
  ...uniform(24, -8, 8, 4),
  0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  -1.5,
  2.5,
  1e-6,
  -1e-6,
  1e-3,
  20,
  -20,
  60,
  -60,
  85,
  -85,
];
const positive = wide.map((x) => Math.abs(x) + 1e-4);

const unary: [name: string, f: (x: sg.Tensor) => sg.Tensor, domain?: number[]][] = [
  ["neg", (x) => x.neg()],
  ["abs", (x) => x.abs()],
  ["sign", (x) => x.sign()],
  ["floor", (x) => x.floor()],
  ["ceil", (x) => x.ceil()],
  ["round", (x) => x.round()],
  ["exp", (x) => x.exp()],
  ["log", (x) => x.log(), positive],
  ["sqrt", (x) => x.sqrt(), positive],
  ["rsqrt", (x) => x.rsqrt(), positive],
  ["reciprocal", (x) => x.reciprocal(), positive],
  ["square", (x) => x.square()],
  ["sin", (x) => x.sin()],
  ["cos", (x) => x.cos()],
  ["tanh", (x) => x.tanh()],
  ["sigmoid", (x) => x.sigmoid()],
  ["erf", (x) => x.erf()],
  ["relu", (x) => x.relu()],
  ["gelu", (x) => x.gelu()],
  ["gelu tanh", (x) => x.gelu({ approximate: "tanh" })],
  ["silu", (x) => x.silu()],
  ["quickGelu", (x) => x.quickGelu()],
  ["softplus", (x) => x.softplus()],
  ["clamp", (x) => x.clamp({ min: -0.5, max: 2 })],
  ["clamp from below", (x) => x.clamp({ min: 0.25 })],
  ["pow 3.5", (x) => x.pow(3.5), positive],
  ["pow 5 of negatives", (x) => x.clamp({ min: -3, max: 3 }).pow(5)],
  ["pow -2 of negatives", (x) => x.clamp({ max: -0.5 }).pow(-2)],
  ["pow 0", (x) => x.pow(0)],
  ["mod", (x) => x.mod(3)],
  ["mod of negative integers", (x) => x.int().mod(3)],
  ["cast to i32", (x) => x.int()],
  ["cast to bool", (x) => x.to("bool")],
  ["cast to f16", (x) => x.half()],
  ["comparison", (x) => x.ge(0.5).logicalAnd(x.lt(8).logicalNot().logicalOr(x.ne(1)))],
  ["where", (x) => sg.where(x.gt(0), x.mul(2), 7)],
  ["maximum and minimum", (x) => x.maximum(-0.25).minimum(x.neg().add(1))],
];

test("every elementwise op is within 2e-6 + 2e-5 |y| of f64", async () => {
  const build = (): sg.Tensor[] =>
    unary.flatMap(([, f, domain = wide]) => {
      const x = sg.tensor(domain, { requiresGrad: true });
      const y = f(x);
      return y.requiresGrad ? [y, sg.grad(y.sum(), [x], { allowUnused: true })[0] ?? y] : [y, y];
    });
  const { want, got } = await onBoth(build);
  const bad: string[] = [];
  unary.forEach(([name, , domain = wide], k) => {
    ["value", "slope"].forEach((what, part) => {
      for (let i = 0; i < domain.length; i++) {
        const [g, w] = [got[2 * k + part][i], want[2 * k + part][i]];
        if (!(Math.abs(g - w) <= 2e-6 + 2e-5 * Math.abs(w)))
          bad.push(`${what} of ${name}(${domain[i]}): ${g}, expected ${w}`);
      }
    });
  });
  expect(bad).toEqual([]);
});

test.each(["reference", "webgpu"] as const)(
  "on %s a value without gradient forgets what it was made of",
  async (backend) => {
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
  },
);

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
    got.forEach((g, k) => Array.from(g).forEach((x, i) => expect(x).toBeCloseTo(want[k][i], 5)));
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
      sg.pack([x, w]),
      x.unfold(2, 3, 1).prod(-1),
    ];
    const loss = outputs.map((y) => y.square().mean()).reduce((a, b) => a.add(b));
    return [...outputs, ...sg.grad(loss, [x, w])];
  });
  got.forEach((g, k) => {
    const worst = Math.max(...Array.from(g, (v, i) => Math.abs(v - want[k][i]) / (1 + Math.abs(want[k][i]))));
    expect(worst, `output ${k}`).toBeLessThan(2e-5);
  });
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
