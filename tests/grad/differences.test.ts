import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as sg from "../../src/functional.ts";
import type { Shape } from "../../src/graph/shape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { gradientError, randomLeaf, secondOrderError } from "../helpers/f64.ts";

type Range = readonly [number, number];
type Unary = readonly [name: string, f: (x: Tensor) => Tensor, range?: Range];
const positive: Range = [0.2, 2];

const elementwise: readonly Unary[] = [
  ["neg", (x) => x.neg()],
  ["abs", (x) => x.abs()],
  ["exp", (x) => x.exp()],
  ["log", (x) => x.log(), positive],
  ["sqrt", (x) => x.sqrt(), positive],
  ["rsqrt", (x) => x.rsqrt(), positive],
  ["reciprocal", (x) => x.reciprocal(), positive],
  ["square", (x) => x.square()],
  ["sin", (x) => x.sin()],
  ["cos", (x) => x.cos()],
  ["tanh", (x) => x.tanh(), [-2, 2]],
  ["sigmoid", (x) => x.sigmoid(), [-4, 4]],
  ["erf", (x) => x.erf(), [-2, 2]],
  ["relu", (x) => x.relu()],
  ["gelu", (x) => x.gelu(), [-4, 4]],
  ["gelu tanh", (x) => x.gelu({ approximate: "tanh" }), [-4, 4]],
  ["silu", (x) => x.silu(), [-4, 4]],
  ["quickGelu", (x) => x.quickGelu(), [-4, 4]],
  ["softplus", (x) => x.softplus(), [-4, 4]],
  ["clamp", (x) => x.clamp({ min: -0.4, max: 0.6 })],
  ["pow 2.5", (x) => x.pow(2.5), positive],
  ["pow 4 of any sign", (x) => x.pow(4)],
  ["pow -2 of negative", (x) => x.pow(-2), [-2, -0.5]],
  ["2 ** x", (x) => sg.full(x.shape, 2).pow(x)],
  ["mod", (x) => x.mod(0.7).mul(x), [0.8, 1.3]],
];
const views: readonly Unary[] = [
  ["reshape", (x) => x.reshape([-1, 2])],
  ["permute", (x) => x.permute([2, 0, 1])],
  ["expand", (x) => x.unsqueeze(1).expand([5, ...x.shape.slice(0, 1), 3, ...x.shape.slice(1)])],
  ["slice with step", (x) => x.slice([[], [1, null, 2], [null, -1]])],
  ["flip", (x) => x.flip([0, 2])],
  ["roll", (x) => x.roll(-1, 1)],
  [
    "pad and crop",
    (x) =>
      x.pad(
        [
          [1, 0],
          [-1, 2],
          [0, 1],
        ],
        3,
      ),
  ],
  ["unfold apart", (x) => x.unfold(2, 2, 3)],
  ["unfold overlapping, dilated", (x) => x.unfold(1, 2, 1, 2)],
  ["cat of six", (x) => sg.cat([x, x.mul(2), x, x.square(), x, x], 1)],
  ["stack", (x) => sg.stack([x, x.exp()], -1)],
  ["repeatInterleave", (x) => x.repeatInterleave(3, 1)],
  ["tril", (x) => x.tril(1)],
];
const reductions: readonly Unary[] = [
  ["sum", (x) => x.sum([0, 2])],
  ["mean", (x) => x.mean(1, true)],
  ["var", (x) => x.var({ dim: [1, 2] })],
  ["amax", (x) => x.amax([1, 2])],
  ["amin", (x) => x.amin(0)],
  ["max", (x) => x.max(1).values],
  ["prod", (x) => x.prod(2), positive],
  ["logsumexp", (x) => x.logsumexp([0, 1])],
  ["cumsum", (x) => x.cumsum(1)],
  ["softmax", (x) => x.softmax(1)],
  ["logSoftmax", (x) => x.logSoftmax(-1)],
  ["topk", (x) => x.topk(2).values],
  ["gather", (x) => x.gather(2, sg.tensor([0, 3, 3, 1, 0, 2], { shape: [2, 1, 3], dtype: "i32" }))],
  ["indexSelect", (x) => x.indexSelect(1, sg.tensor([2, 0, 2], { dtype: "i32" }))],
];

const alone = [...elementwise, ...views, ...reductions].map(([name, f, range = [-1, 1]]) => ({ name, f, range }));

describe.each(alone)("$name", ({ f, range: [low, high] }) => {
  const x = randomLeaf([2, 3, 4], low, high);
  test("gradient", () => expect(gradientError(f, [x])).toBeLessThan(1e-8));
  test("second derivative", () => expect(secondOrderError(f, [x])).toBeLessThan(1e-7));
});

const several: readonly [string, (...x: Tensor[]) => Tensor, readonly Shape[]][] = [
  [
    "add, broadcast",
    (a, b) => a.add(b).mul(a),
    [
      [3, 1, 2],
      [4, 1],
    ],
  ],
  ["mul, broadcast", (a, b) => a.mul(b), [[3, 2], [2]]],
  [
    "div",
    (a, b) => a.div(b.square().add(0.5)),
    [
      [3, 2],
      [3, 1],
    ],
  ],
  ["pow", (a, b) => a.square().add(0.1).pow(b), [[5], [5]]],
  ["maximum", (a, b) => a.maximum(b), [[7], [7]]],
  ["minimum", (a, b) => a.minimum(b), [[7], []]],
  ["where", (a, b) => sg.where(a.gt(b), a.square(), b.exp()), [[4, 3], [3]]],
  [
    "matmul",
    (a, b) => a.matmul(b),
    [
      [3, 4],
      [4, 2],
    ],
  ],
  [
    "matmul, batched and broadcast",
    (a, b) => a.matmul(b),
    [
      [2, 1, 3, 4],
      [3, 4, 2],
    ],
  ],
  ["matmul with vectors", (a, b) => a.matmul(b), [[4], [2, 4, 3]]],
  ["linear", (x, w, b) => sg.linear(x, w, b), [[2, 3, 4], [5, 4], [5]]],
  ["layerNorm", (x, w, b) => sg.layerNorm(x, w, b), [[2, 3, 4], [4], [4]]],
  ["rmsNorm", (x, w) => sg.rmsNorm(x, w), [[2, 3, 4], [4]]],
  ["groupNorm", (x, w, b) => sg.groupNorm(x, 2, w, b), [[2, 4, 3], [4], [4]]],
  [
    "crossEntropy",
    (x) => sg.crossEntropy(x, sg.tensor([1, -100, 0, 4], { dtype: "i32" }), { labelSmoothing: 0.1 }),
    [[4, 5]],
  ],
  [
    "crossEntropy of maps",
    (x) =>
      sg.crossEntropy(
        x,
        sg.tensor(
          [
            [1, 0],
            [2, 2],
          ],
          { dtype: "i32" },
        ),
      ),
    [[2, 3, 2]],
  ],
  [
    "mseLoss",
    (x, y) => sg.mseLoss(x, y),
    [
      [3, 2],
      [3, 2],
    ],
  ],
  [
    "attention",
    (q, k, v) => sg.scaledDotProductAttention(q, k, v),
    [
      [1, 4, 3, 4],
      [1, 2, 5, 4],
      [1, 2, 5, 4],
    ],
  ],
  ["attention of a tensor to itself", (x) => sg.scaledDotProductAttention(x, x, x, { isCausal: true }), [[2, 1, 4, 2]]],
  [
    "attention, learned bias",
    (q, k, b) => sg.scaledDotProductAttention(q, k, k, { bias: b }),
    [
      [1, 2, 3, 2],
      [1, 2, 3, 2],
      [1, 3, 3],
    ],
  ],
  [
    "attention, lengths, bottom-right",
    (q, k, v) =>
      sg.scaledDotProductAttention(q, k, v, {
        isCausal: true,
        align: "bottom-right",
        lengths: sg.tensor([3, 5], { dtype: "i32" }),
      }),
    [
      [2, 1, 2, 2],
      [2, 1, 5, 2],
      [2, 1, 5, 2],
    ],
  ],
  [
    "rope",
    (x) =>
      sg.rope(
        x,
        sg.tensor(
          [
            [0, 3],
            [7, 1],
          ],
          { dtype: "i32" },
        ),
      ),
    [[2, 1, 2, 4]],
  ],
  [
    "applyRope",
    (x, c, s) => sg.applyRope(x, c, s),
    [
      [1, 2, 3, 4],
      [1, 3, 4],
      [1, 3, 4],
    ],
  ],
  ["conv2d", (x, w, b) => sg.conv2d(x, w, b, { stride: 2, padding: 1, groups: 2 }), [[1, 4, 5, 4], [2, 2, 3, 3], [2]]],
  ["maxPool2d", (x) => sg.maxPool2d(x, 2, { padding: 1 }), [[1, 2, 4, 4]]],
  ["interpolate", (x) => sg.interpolate(x, { size: [3, 7], mode: "bicubic", antialias: true }), [[1, 1, 5, 4]]],
  [
    "indexAdd",
    (x, y) => x.indexAdd(0, sg.tensor([2, 0, 2], { dtype: "i32" }), y),
    [
      [4, 2],
      [3, 2],
    ],
  ],
  [
    "scatterAdd",
    (x, y) => x.scatterAdd(1, sg.tensor([[1, 1, 0]], { dtype: "i32" }), y),
    [
      [2, 2],
      [1, 3],
    ],
  ],
  [
    "writeAt",
    (x, y) => sg.writeAt(x, y, sg.tensor([1, 0], { dtype: "i32" })),
    [
      [2, 1, 4, 2],
      [2, 1, 2, 2],
    ],
  ],
  ["pack", (a, b) => sg.pack([a, b.square()]), [[2, 3], [70]]],
];

describe.each(several)("%s", (_name, f, shapes) => {
  const inputs = shapes.map((shape, i) => randomLeaf(shape, -1, 1, i + 3));
  test("gradient", () => expect(gradientError(f, inputs)).toBeLessThan(1e-8));
  test("second derivative", () => expect(secondOrderError(f, inputs)).toBeLessThan(1e-7));
});

test("prod has a gradient at zeros", () => {
  const x = randomLeaf([3, 3]);
  x.node.host!.set([0.5, 0, 2, 0, 0, 3, 1, 2, 3]);
  expect(gradientError((t) => t.prod(1), [x])).toBeLessThan(1e-8);
});

/** A random expression of tensors [2, 3]: every step combines earlier values. */
function expression(
  steps: readonly (readonly [kind: number, a: number, b: number])[],
  leaves: readonly Tensor[],
): Tensor {
  const pool = [...leaves];
  const last = (x: Tensor): Tensor => x.tanh();
  for (const [kind, i, j] of steps) {
    const [a, b] = [pool[i % pool.length], pool[j % pool.length]];
    pool.push(
      [
        () => a.add(b),
        () => a.mul(b),
        () => last(a.sub(b)).div(b.square().add(1)),
        () => a.sum(j % 2, true).mul(b),
        () => a.t().flatten().reshape([2, 3]).add(b.flip(1)),
        () => a.matmul(b.t()).matmul(a),
        () => a.softmax(i % 2).mul(b.exp().mul(0.1)),
        () => sg.layerNorm(a, null, null, 0.1).add(b),
        () =>
          sg
            .cat([a, b], 1)
            .slice([[], [null, null, 2]])
            .gelu(),
        () =>
          a
            .pad([
              [1, 0],
              [0, 0],
            ])
            .narrow(0, 0, 2)
            .add(b.sigmoid()),
      ][kind](),
    );
  }
  return pool.at(-1)!.mean();
}

test("random expressions have the gradients that differences say", () => {
  const step = fc.tuple(fc.nat(9), fc.nat(9), fc.nat(9));
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
      const leaves = [randomLeaf([2, 3], -1, 1, 5), randomLeaf([2, 3], -1, 1, 6)];
      const used = (a: Tensor, b: Tensor): Tensor =>
        expression(steps, [a, b]).add(a.sum().mul(0.1)).add(b.sum().mul(0.1));
      expect(gradientError(used, leaves)).toBeLessThan(1e-7);
    }),
    { numRuns: 150, seed: 20261122 },
  );
});
