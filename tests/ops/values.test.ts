import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { adamw } from "../../src/ops/adamw.ts";
import { erf } from "../../src/ops/math.ts";
import { pack, packOffsets } from "../../src/ops/pack.ts";
import { init } from "../../src/runtime/engine.ts";
import { leaf, uniform, valuesOf } from "../support/f64.ts";

const { tensor } = sg;
const i32 = (...values: number[]) => tensor(values, { dtype: "i32" });
const list = (t: sg.Tensor): number[] => [...valuesOf(t)];

beforeAll(async () => void (await init({ backend: "reference" })));

describe("tensor", () => {
  test("infers shape and dtype", async () => {
    expect(
      tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    ).toMatchObject({ shape: [2, 3], dtype: "f32", ndim: 2, numel: 6 });
    expect(tensor(5)).toMatchObject({ shape: [], dtype: "f32" });
    expect(tensor([true, false]).dtype).toBe("bool");
    expect(tensor(Int32Array.of(1, 2), { shape: [2, 1] })).toMatchObject({ shape: [2, 1], dtype: "i32" });
    expect(
      await tensor([
        [1, 2],
        [3, 4],
      ]).tolist(),
    ).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(await tensor([[7]]).item()).toBe(7);
  });

  test("rounds f16 on storage and on cast", () => {
    const third = 1 / 3;
    expect(list(tensor([third], { dtype: "f16" }))[0]).toBe(0.333251953125);
    expect(list(tensor([third]).half())[0]).toBe(0.333251953125);
  });

  test("reads integers and booleans back as themselves", async () => {
    expect(await i32(-1, 2).data()).toEqual(Int32Array.of(-1, 2));
    expect(await tensor([0.5, -1]).gt(0).data()).toEqual(Uint32Array.of(1, 0));
  });
});

describe("dtypes", () => {
  const cases: [string, sg.Tensor, string][] = [
    ["i32 + 1", i32(1).add(1), "i32"],
    ["i32 + 0.5", i32(1).add(0.5), "f32"],
    ["i32 / i32", i32(1).div(i32(2)), "f32"],
    ["i32 + f32", i32(1).add(tensor([1])), "f32"],
    ["f16 * f32", tensor([1], { dtype: "f16" }).mul(tensor([1])), "f32"],
    ["f16 * 2", tensor([1], { dtype: "f16" }).mul(2), "f16"],
    ["bool + bool", tensor([true]).add(tensor([true])), "bool"],
    ["exp of i32", i32(1).exp(), "f32"],
    ["sum of bool", tensor([true, true]).sum(), "i32"],
    ["mean of i32", i32(1, 2).mean(), "f32"],
    ["argmax", tensor([1, 2]).argmax(), "i32"],
    ["where of numbers", sg.where(tensor([true]), 1, tensor([2])), "f32"],
    ["arange of integers", sg.arange(3), "i32"],
    ["arange of fractions", sg.arange(0, 1, 0.5), "f32"],
  ];
  test.each(cases)("%s", (_name, t, dtype) => expect(t.dtype).toBe(dtype));
});

describe("arithmetic", () => {
  test("round takes half to even", () =>
    expect(list(tensor([0.5, 1.5, 2.5, -0.5, -1.5, 2.4]).round())).toEqual([0, 2, 2, -0, -2, 2]));
  test("mod has the divisor's sign", () => expect(list(i32(-3, 3, -4).mod(i32(2, -2, 3)))).toEqual([1, -1, 2]));
  test("pow of negative bases", () => {
    expect(list(tensor([-2, -2, 0, -8]).pow(tensor([3, 2, 0, 1 / 3])))).toEqual([-8, 4, 1, NaN]);
  });
  test("casts truncate", () => expect(list(tensor([1.9, -1.9]).int())).toEqual([1, -1]));
  test("infinities are constants too", () =>
    expect(list(tensor([1, 2]).maskedFill(tensor([true, false]), -Infinity))).toEqual([-Infinity, 2]));
  test("the error function is exact to f64", () => {
    // Values of Abramowitz & Stegun, table 7.1.
    for (const [x, y] of [
      [0.5, 0.5204998778],
      [1, 0.8427007929],
      [1.5, 0.9661051465],
      [2, 0.995322265],
    ])
      expect(erf(x)).toBeCloseTo(y, 10);
    expect([erf(0), erf(-7), erf(7)]).toEqual([0, -1, 1]);
  });
});

describe("movement", () => {
  const x = sg.arange(24).reshape([2, 3, 4]);
  test("slice counts from the end and steps", () => {
    expect(list(x.slice([[-1], [null, null, 2], [1, -1]]))).toEqual([13, 14, 21, 22]);
  });
  test("split and cat are inverse", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 9 }), (sizes) => {
        const total = sizes.reduce((a, b) => a + b, 0);
        const whole = sg.arange(total * 2).reshape([2, total]);
        expect(list(sg.cat(whole.split(sizes, 1), 1))).toEqual(list(whole));
      }),
      { seed: 1 },
    );
  });
  test("cat joins booleans", () => expect(list(sg.cat([tensor([true]), tensor([false, true])]))).toEqual([1, 0, 1]));
  test("roll wraps around", () => expect(list(sg.arange(5).roll(2, 0))).toEqual([3, 4, 0, 1, 2]));
  test("unfold makes windows", () => expect(list(sg.arange(6).unfold(0, 3, 2))).toEqual([0, 1, 2, 2, 3, 4]));
  test("eye, tril and triu", () => {
    expect(list(sg.eye(2))).toEqual([1, 0, 0, 1]);
    expect(list(sg.ones(2, 2).tril())).toEqual([1, 0, 1, 1]);
    expect(list(sg.ones([2, 2]).triu(1))).toEqual([0, 1, 0, 0]);
  });
  test("any chain of views equals its copies", () => {
    const op = fc.tuple(fc.nat(5), fc.nat(2), fc.integer({ min: 1, max: 3 }));
    fc.assert(
      fc.property(fc.array(op, { maxLength: 7 }), (ops) => {
        let lazy: sg.Tensor = x;
        let copied: sg.Tensor = x;
        for (const [kind, d, n] of ops) {
          const dim = d % lazy.ndim;
          const step = (t: sg.Tensor): sg.Tensor =>
            [
              () => t.transpose(0, dim),
              () => t.flip(dim),
              () => t.narrow(dim, 0, Math.min(n, t.shape[dim])),
              () => t.reshape([t.shape[0], -1]),
              () =>
                t.pad(
                  t.shape.map((_, i) => (i === dim ? [n - 1, 1] : [0, 0])),
                  9,
                ),
              () => t.unsqueeze(dim).expand([...t.shape.slice(0, dim), n, ...t.shape.slice(dim)]),
            ][kind]();
          lazy = step(lazy);
          copied = step(leaf(valuesOf(copied), copied.shape, false));
        }
        expect(list(lazy)).toEqual(list(copied));
      }),
      { numRuns: 200, seed: 2 },
    );
  });
});

describe("selection", () => {
  test("topk orders equals by position", () => {
    const { values, indices } = tensor([[3, 1, 3, 2]]).topk(3);
    expect([list(values), list(indices)]).toEqual([
      [3, 3, 2],
      [0, 2, 3],
    ]);
  });
  test("max without dim, and along one", () => {
    const x = tensor([
      [1, 5],
      [7, 2],
    ]);
    expect(list(x.max())).toEqual([7]);
    expect(list(x.max(0).indices)).toEqual([1, 0]);
    expect(list(x.min(1, true).values)).toEqual([1, 2]);
  });
  test("writeAt replaces rows of every sample at its own place", () => {
    const cache = sg.zeros(2, 1, 3, 1);
    const value = tensor([1, 2, 3, 4]).reshape([2, 1, 2, 1]);
    expect(list(sg.writeAt(cache, value, i32(1, 0)))).toEqual([0, 1, 2, 3, 4, 0]);
    expect(list(sg.writeAt(cache, value, tensor(1, { dtype: "i32" })))).toEqual([0, 1, 2, 0, 3, 4]);
  });
  test("pack aligns its parts", () => {
    expect(packOffsets([3, 64, 65])).toEqual({ offsets: [0, 64, 128], total: 256 });
    const packed = list(pack([tensor([1, 2, 3]), tensor([[4], [5]])]));
    expect([packed.length, packed.slice(0, 4), packed.slice(64, 67)]).toEqual([128, [1, 2, 3, 0], [4, 5, 0]]);
  });
});

describe("attention", () => {
  test("a query that sees no key gives zeros", () => {
    const x = leaf(uniform(8), [1, 1, 2, 4], false);
    const y = list(
      sg.scaledDotProductAttention(x, x, x, {
        mask: tensor([
          [false, false],
          [true, true],
        ]),
      }),
    );
    expect(y.slice(0, 4)).toEqual([0, 0, 0, 0]);
    expect(y.slice(4).every((v) => v !== 0 && Number.isFinite(v))).toBe(true);
  });

  test("lengths hide what a shorter sequence does not have", () => {
    const [q, k, v] = [1, 2, 3].map((seed) => leaf(uniform(2 * 3 * 4, -1, 1, seed), [2, 1, 3, 4], false));
    const both = list(sg.scaledDotProductAttention(q, k, v, { lengths: i32(2, 3) }));
    const first = [q, k, v].map((t) => t.narrow(0, 0, 1));
    const short = list(sg.scaledDotProductAttention(first[0], first[1].narrow(2, 0, 2), first[2].narrow(2, 0, 2)));
    short.forEach((x, i) => expect(both[i]).toBeCloseTo(x, 12));
  });

  test("with lengths, bottom-right lets the last query see the last valid key", () => {
    const [q, k, v] = [1, 2, 3].map((seed, i) => leaf(uniform(i ? 24 : 8, -1, 1, seed), [1, 1, i ? 6 : 2, 4], false));
    const options = { isCausal: true, align: "bottom-right" as const };
    const y = list(sg.scaledDotProductAttention(q, k, v, { ...options, lengths: i32(4) }));
    const cut = list(sg.scaledDotProductAttention(q, k.narrow(2, 0, 4), v.narrow(2, 0, 4), options));
    cut.forEach((x, i) => expect(y[i]).toBeCloseTo(x, 12));
  });
});

test("adamw follows its formula", () => {
  const [p, g, m, v] = [0.5, -0.3, 0.1, 0.2];
  const [lr, b1, b2, eps, decay, t, scale] = [0.01, 0.9, 0.99, 1e-6, 0.1, 3, 0.5];
  const hyper = leaf([lr, b1, b2, eps, decay, 1 - b1 ** t, 1 - b2 ** t, scale], [8], false);
  const [p1, m1, v1] = adamw(
    leaf([p], [1], false),
    leaf([g], [1], false),
    leaf([m], [1], false),
    leaf([v], [1], false),
    hyper,
  );
  const first = b1 * m + (1 - b1) * g * scale;
  const second = b2 * v + (1 - b2) * (g * scale) ** 2;
  const step = (lr * (first / (1 - b1 ** t))) / (Math.sqrt(second / (1 - b2 ** t)) + eps);
  expect(list(m1)[0]).toBeCloseTo(first, 14);
  expect(list(v1)[0]).toBeCloseTo(second, 14);
  expect(list(p1)[0]).toBeCloseTo(p * (1 - lr * decay) - step, 14);
});

describe("random numbers", () => {
  test("repeat with the seed, differ between calls", () => {
    const draw = (seed: number): number[][] => {
      sg.manualSeed(seed);
      return [list(sg.rand(8)), list(sg.rand([8])), list(sg.randn(2, 4))];
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    const [a, b] = draw(1);
    expect(a).not.toEqual(b);
  });

  test("are uniform and independent of their neighbours", () => {
    sg.manualSeed(5);
    const n = 40_000;
    const x = list(sg.rand(n));
    const mean = (v: number[]): number => v.reduce((a, b) => a + b, 0) / v.length;
    expect(x.every((v) => v >= 0 && v < 1)).toBe(true);
    // Five standard deviations each.
    expect(Math.abs(mean(x) - 0.5)).toBeLessThan((5 * Math.sqrt(1 / 12)) / Math.sqrt(n));
    const lagged = x.slice(1).map((v, i) => (v - 0.5) * (x[i] - 0.5) * 12);
    expect(Math.abs(mean(lagged))).toBeLessThan(5 / Math.sqrt(n));
    const bins = new Array<number>(20).fill(0);
    for (const v of x) bins[Math.floor(v * 20)]++;
    const chi2 = bins.reduce((sum, c) => sum + (c - n / 20) ** 2 / (n / 20), 0);
    expect(chi2).toBeLessThan(43.8); // 99.9 % of a chi-square of 19 degrees
  });

  test("randn has mean 0 and variance 1", () => {
    sg.manualSeed(6);
    const n = 40_000;
    const x = list(sg.randn(n));
    const mean = x.reduce((a, b) => a + b, 0) / n;
    const variance = x.reduce((a, b) => a + b * b, 0) / n;
    expect(Math.abs(mean)).toBeLessThan(5 / Math.sqrt(n));
    expect(Math.abs(variance - 1)).toBeLessThan((5 * Math.SQRT2) / Math.sqrt(n));
  });

  test("dropout keeps the mean and is off outside training", () => {
    sg.manualSeed(7);
    const x = sg.ones(10_000);
    const y = list(sg.dropout(x, 0.25));
    expect(new Set(y)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
    expect(Math.abs(y.filter((v) => v === 0).length / 10_000 - 0.25)).toBeLessThan(0.025);
    expect(sg.dropout(x, 0.25, { training: false })).toBe(x);
  });
});

describe("sample", () => {
  const probabilities = [0.1, 0.4, 0.05, 0.3, 0.15];
  const logits = tensor([probabilities.map(Math.log)]);
  /** Shares of each id over evenly spread uniform numbers. */
  function shares(...params: number[]): number[] {
    const n = 1000;
    const u = Float32Array.from({ length: n }, (_, i) => (i + 0.5) / n);
    const ids = list(sg.sample(logits.expand([n, 5]), tensor([params]), tensor(u)));
    return probabilities.map((_, id) => ids.filter((x) => x === id).length / n);
  }
  const close = (got: number[], want: number[]): void => got.forEach((g, i) => expect(g).toBeCloseTo(want[i], 2));

  test("temperature 1 is the distribution itself", () => close(shares(1, 0, 1, 0), probabilities));
  test("temperature 0 is the best", () => close(shares(0, 0, 1, 0), [0, 1, 0, 0, 0]));
  test("temperature 1/2 squares", () => {
    const squares = probabilities.map((p) => p * p);
    close(
      shares(0.5, 0, 1, 0),
      squares.map((p) => p / squares.reduce((a, b) => a + b)),
    );
  });
  test("topK keeps k", () => close(shares(1, 2, 1, 0), [0, 4 / 7, 0, 3 / 7, 0]));
  test("topP keeps the fewest that reach it", () =>
    close(shares(1, 0, 0.75, 0), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]));
  test("topP counts what topK left", () => close(shares(1, 3, 0.5, 0), [0, 4 / 7, 0, 3 / 7, 0]));
  test("minP is relative to the best", () => close(shares(1, 0, 1, 0.3), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]));
  test("the first uniform number draws the smallest id", () => {
    expect(list(sg.sample(logits, tensor([[1, 0, 1, 0]]), tensor([0])))).toEqual([0]);
  });
});
