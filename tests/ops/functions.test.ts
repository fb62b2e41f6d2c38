/** Errors and special values of elementwise functions, activations, reductions and losses. */
import { expect, test } from "vitest";
import * as sg from "../../src/index.ts";

const x = sg.zeros([2, 3]);
const ids = (...values: number[]): sg.Tensor => sg.tensor(values, { dtype: "i32" });

/** Bad calls, and what each error must say. */
const cases: [call: () => unknown, message: string][] = [
  [() => x.bitwiseAnd(1), "bitwise_and: bits of f32 operands: expected i32, u32 or bool"],
  [() => x.bitwiseNot(), "bitwise_not: bits of f32 operands: expected i32, u32 or bool"],
  [() => x.int().bitwiseXor(0.5), "bitwise_xor: bits of f32 operands"],
  [() => x.logit(0.7), "logit: eps must be in [0, 0.5], got 0.7"],
  [() => x.div(2, { roundingMode: "ceil" as never }), 'div: roundingMode must be null, "trunc" or "floor", got ceil'],
  [() => x.div(2, { rounding: "floor" } as never), "div: unknown option rounding; options: roundingMode"],
  [() => x.addcmul(x, x, { alpha: 2 } as never), "addcmul: unknown option alpha; options: value"],
  [() => x.isclose(x, { rtol: -1 }), "isclose: rtol -1 and atol 1e-8: expected numbers from 0 on"],
  [() => x.atan2(sg.zeros([4])), "atan2: shapes do not broadcast: [2,3] and [4]"],
  [() => sg.celu(x, 0), "celu: alpha must not be 0"],
  [() => sg.elu(x, NaN), "elu: alpha must be a finite number, got NaN"],
  [() => sg.hardtanh(x, 1, -1), "hardtanh: minVal 1 is above maxVal -1"],
  [() => sg.softshrink(x, -1), "softshrink: lambd must be a number from 0 on, got -1"],
  [() => sg.softplus(x, { alpha: 1 } as never), "softplus: unknown option alpha; options: beta, threshold"],
  [() => sg.glu(x), "glu: dim -1 of [2,3] must have an even size"],
  [() => sg.prelu(x, sg.zeros([2])), "prelu: weight [2] for [2,3]: expected [1] or [3]"],
  [() => sg.dropout2d(sg.zeros([3]), 0.5), "dropout2d: expected [N, C, ...] or [C, ...] with 2 dims after C, got [3]"],
  [() => sg.alphaDropout(x, 1), "alphaDropout: p must be in [0, 1), got 1"],
  [() => x.std({ unbiased: true } as never), "std: unknown option unbiased; options: dim, keepdim, correction"],
  [() => x.norm({ p: NaN }), 'norm: p must be a number or "fro", got NaN'],
  [() => x.norm({ dim: 2 }), "sum: dim 2 is out of range"],
  [() => sg.normalize(x, { eps: -1 }), "normalize: eps must be a number from 0 on, got -1"],
  [() => sg.cdist(x, sg.zeros([2, 4])), "cdist: a [..., P, D] and b [..., R, D] expected, got [2,3] and [2,4]"],
  [() => sg.l1Loss(x, sg.zeros([3])), "l1Loss: shapes differ: [2,3] and [3]: expected equal shapes"],
  [
    () => sg.huberLoss(x, x, { reduction: "avg" as never }),
    'huberLoss: reduction must be "mean", "sum" or "none", got avg',
  ],
  [() => sg.huberLoss(x, x, { delta: 0 }), "huberLoss: delta must be above 0, got 0"],
  [() => sg.mseLoss(x, x, { size: 1 } as never), "mseLoss: unknown option size; options: reduction"],
  [() => sg.nllLoss(x, ids(1)), "nllLoss: x [2,3] does not fit target [1] (expected [2])"],
  [() => sg.nllLoss(x, ids(1, 3)), "nllLoss: target 3 is out of range for 3 classes"],
  [
    () => sg.nllLoss(x, ids(1, 2), { weight: sg.zeros([2]) }),
    "nllLoss: weight must be [3], one factor a class, got [2]",
  ],
  [
    () => sg.crossEntropy(x, ids(1, 2), { labelSmooting: 0.1 } as never),
    "crossEntropy: unknown option labelSmooting; options: weight, ignoreIndex, labelSmoothing, reduction",
  ],
  [() => sg.multiMarginLoss(x, ids(0, 1), { p: 3 as never }), "multiMarginLoss: p must be 1 or 2, got 3"],
  [() => sg.gaussianNLLLoss(x, x, sg.ones([3])), "gaussianNLLLoss: variances [3] do not fit [2,3]"],
  [
    () => sg.ctcLoss(sg.zeros([4, 1, 3]), ids(1, 2).unsqueeze(0), [5], [2]),
    "ctcLoss: inputLengths 5 is out of range: expected 0 to 4",
  ],
  [
    () => sg.ctcLoss(sg.zeros([4, 1, 3]), sg.tensor([[1, 0]], { dtype: "i32" }), [4], [2]),
    "ctcLoss: label 0: expected a class from 0 to 2 other than the blank 0",
  ],
  [() => sg.ctcLoss(sg.zeros([4, 3]), ids(1, 2), [4], [2], { blank: 3 }), "ctcLoss: blank 3 is not a class of [4,3]"],
];

test.each(cases.map(([call, message]) => ({ call, message })))("$message", ({ call, message }) => {
  expect(call).toThrow(message);
});

test("integer division and its remainder keep large integers", async () => {
  const a = sg.tensor([2_147_483_647, -2_147_483_647, 16_777_217], { dtype: "i32" });
  expect(await a.floorDivide(2).tolist()).toEqual([1_073_741_823, -1_073_741_824, 8_388_608]);
  expect(await a.fmod(10).tolist()).toEqual([7, -7, 7]);
  const b = sg.tensor([4_294_967_295], { dtype: "u32" });
  expect(await b.floorDivide(3).tolist()).toEqual([1_431_655_765]);
  expect(await b.bitwiseAnd(-2).tolist()).toEqual([4_294_967_294]);
  expect(await b.bitwiseRightShift(31).tolist()).toEqual([1]);
});

test("equal and allclose are promises of booleans", async () => {
  expect(await x.equal(sg.zeros([3, 2]))).toBe(false);
  expect(await x.equal(sg.zeros([2, 3]))).toBe(true);
  expect(await x.allclose(1e-9)).toBe(true);
  expect(await sg.zeros([0]).equal(sg.zeros([0]))).toBe(true);
});

test("dropout of channels drops whole planes; alphaDropout keeps mean and variance", async () => {
  sg.manualSeed(3);
  const planes = await sg
    .dropout2d(sg.ones([4, 8, 3, 3]), 0.25)
    .sum([2, 3])
    .tolist();
  const sums = (planes as number[][]).flat();
  expect(sums.every((s) => s === 0 || Math.abs(s - 12) < 1e-5)).toBe(true);
  expect(new Set(sums.map((s) => Math.round(s)))).toEqual(new Set([0, 12]));
  expect(await sg.dropout1d(sg.ones([2, 3]), 0.5, { training: false }).tolist()).toEqual([
    [1, 1, 1],
    [1, 1, 1],
  ]);
  const kept = sg.alphaDropout(sg.randn([100_000]), 0.3);
  expect(Math.abs(await kept.mean().item())).toBeLessThan(0.02);
  expect(Math.abs((await kept.var().item()) - 1)).toBeLessThan(0.03);
});

test("gumbelSoftmax gives rows of a distribution, or one-hot rows with its gradient", async () => {
  sg.manualSeed(1);
  const logits = sg.zeros([64, 5]).requiresGrad_();
  const soft = await sg.gumbelSoftmax(logits).sum(-1).data();
  soft.forEach((s) => expect(s).toBeCloseTo(1, 5));
  const hard = sg.gumbelSoftmax(logits, { hard: true, tau: 0.5 });
  hard
    .mul(sg.tensor([1, 2, 3, 4, 5]))
    .sum()
    .backward();
  const rows = (await hard.tolist()) as number[][];
  for (const row of rows) expect(row.map((v) => Math.round(v)).sort()).toEqual([0, 0, 0, 0, 1]);
  expect(await logits.grad!.abs().sum().item()).toBeGreaterThan(0);
});

test("reductions of no elements, and of halves whose squares overflow", async () => {
  const none = sg.zeros([0, 3]);
  expect(await none.any().tolist()).toBe(0);
  expect(await none.all(0).tolist()).toEqual([1, 1, 1]);
  expect(await none.countNonzero(0).tolist()).toEqual([0, 0, 0]);
  expect(await none.nanmean(0).tolist()).toEqual([NaN, NaN, NaN]);
  const halves = sg.tensor([3000, 4000], { dtype: "f16" });
  expect(await halves.norm().tolist()).toBe(5000);
  expect(await sg.tensor([3, -4], { dtype: "i32" }).norm().tolist()).toBe(5);
  const equal = sg.ones([4]).requiresGrad_();
  equal.std().backward();
  expect(await equal.grad!.tolist()).toEqual([0, 0, 0, 0]);
});

/** -log of the sum over all paths that collapse to the target. */
function ctcByEnumeration(logProbs: readonly (readonly number[])[], target: readonly number[], blank: number): number {
  const C = logProbs[0].length;
  let total = 0;
  for (let code = 0; code < C ** logProbs.length; code++) {
    const path = logProbs.map((_, t) => Math.floor(code / C ** t) % C);
    const collapsed = path.filter((c, t) => c !== blank && c !== path[t - 1]);
    if (collapsed.join() === target.join()) total += Math.exp(path.reduce((sum, c, t) => sum + logProbs[t][c], 0));
  }
  return -Math.log(total);
}

test("ctcLoss sums over all alignments, also of shorter inputs, and one without a batch", async () => {
  sg.manualSeed(7);
  const logProbs = sg.randn([5, 2, 3]).logSoftmax(-1);
  const rows = (await logProbs.permute(1, 0, 2).tolist()) as number[][][];
  const targets = sg.tensor(
    [
      [1, 1],
      [2, -1],
    ],
    { dtype: "i32" },
  );
  const losses = await sg.ctcLoss(logProbs, targets, [5, 3], [2, 1], { reduction: "none" }).data();
  expect(losses[0]).toBeCloseTo(ctcByEnumeration(rows[0], [1, 1], 0), 4);
  expect(losses[1]).toBeCloseTo(ctcByEnumeration(rows[1].slice(0, 3), [2], 0), 4);
  const one = sg.ctcLoss(logProbs.select(1, 0), ids(0, 1), [5], [2], { blank: 2, reduction: "sum" });
  expect(one.shape).toEqual([]);
  expect(await one.item()).toBeCloseTo(ctcByEnumeration(rows[0], [0, 1], 2), 4);
  const impossible = sg.ctcLoss(logProbs, targets, [2, 2], [2, 1], { reduction: "none" });
  expect((await impossible.data())[0]).toBe(Infinity); // 1 1 needs a blank between
});

test("losses keep their digits where the logit saturates, and their NaN", async () => {
  const logits = sg.tensor([-40, 40, NaN, 0]);
  const labels = sg.tensor([0, 1, 1, 1]);
  const losses = await sg.binaryCrossEntropyWithLogits(logits, labels, { reduction: "none" }).data();
  expect(losses[0] / Math.exp(-40)).toBeCloseTo(1, 5);
  expect(losses[1] / Math.exp(-40)).toBeCloseTo(1, 5);
  expect(losses[2]).toBeNaN();
  expect(losses[3]).toBeCloseTo(Math.LN2, 6);
  const p = sg.tensor([0, 1e-30, NaN, 2]);
  const entropies = await sg.binaryCrossEntropy(p, labels, { reduction: "none" }).data();
  expect([...entropies].map((v) => Math.round(v) + 0)).toEqual([0, 69, NaN, NaN]);
});

test("a mean over no targets is 0, weighted or not", async () => {
  const none = ids(-100, -100);
  expect(await sg.nllLoss(x, none).item()).toBe(0);
  expect(await sg.crossEntropy(x, none).item()).toBe(0);
  expect(await sg.crossEntropy(x, none, { weight: sg.ones([3]) }).item()).toBe(0);
});
