import { expect, test } from "vitest";
import * as sg from "../../src/index.ts";

const { tensor } = sg;
const zeros = (...shape: number[]): sg.Tensor => sg.zeros(shape);
const ids = (...values: number[]): sg.Tensor => tensor(values, { dtype: "i32" });
const x = zeros(2, 3);

/** Bad calls, and what each error must say: the op, what it got and what it expected. */
const cases: [call: () => unknown, message: string][] = [
  [
    () => zeros(8, 256, 768).matmul(zeros(512, 768)),
    "matmul: inner sizes differ: [8,256,768] x [512,768] (768 vs 512)",
  ],
  [() => zeros(2, 3, 4).matmul(zeros(3, 4, 5)), "matmul: shapes do not broadcast: [2] and [3]"],
  [() => x.matmul(tensor(1)), "matmul: operands need at least one dim: [2,3] x []"],
  [() => ids(1, 2).matmul(ids(1, 2)), "matmul: float operands expected, got i32 and i32"],
  [() => sg.linear(x, zeros(4, 2)), "linear: input [2,3] does not fit weight [4,2] ([out, in])"],
  [() => x.add(zeros(2, 4)), "add: shapes do not broadcast: [2,3] and [2,4] (3 vs 4 in dim -1)"],
  [() => x.mul(undefined as never), "mul: operand 1 must be a tensor or a number, got undefined"],
  [() => x.reshape([4, -1]), "reshape: [2,3] (6 elements) does not fit [4,-1]"],
  [() => x.reshape([-1, -1]), "reshape: [2,3] (6 elements) does not fit [-1,-1]"],
  [() => x.permute([0, 0]), "permute: [0,0] is not an order of the dims of [2,3]"],
  [() => x.transpose(0, 2), "transpose: dim 2 is out of range for a tensor of 2 dims"],
  [() => x.expand([3, 3]), "expand: shapes do not broadcast: [2,3] and [3,3]"],
  [() => x.expand([3]), "expand: [2,3] does not broadcast to [3]"],
  [() => x.slice([[0, 2, 0]]), "slice: [0,2,0] of dim 0 of [2,3]: expected whole numbers, and a step above 0"],
  [() => x.slice([[0.5]]), "slice: [0.5] of dim 0 of [2,3]: expected whole numbers"],
  [() => x.narrow(1, 2, 2), "narrow: 2 elements from 2 do not lie in dim 1 of [2,3]"],
  [() => x.select(0, 2), "select: index 2 is out of range for dim 0 of [2,3]"],
  [() => x.pad([[1, 1]]), "pad: 1 pairs for a tensor of shape [2,3]"],
  [() => x.unfold(1, 4, 1), "unfold: windows of 4 (step 1, dilation 1) do not fit dim 1 of [2,3]"],
  [() => x.split([1, 1], 1), "split: sizes [1,1] add up to 2, dim 1 of [2,3] has 3"],
  [() => sg.cat([]), "cat: no tensors given"],
  [() => sg.cat([x, zeros(2, 4)], 0), "cat: sizes differ outside dim 0: [2,3] and [2,4]"],
  [() => sg.stack([]), "stack: no tensors given"],
  [() => x.sum([0, 0]), "sum: dims [0,0] repeat"],
  [() => x.softmax(2), "softmax: dim 2 is out of range for a tensor of 2 dims"],
  [() => x.topk(4), "topk: k = 4 of [2,3]: expected 0 to 3"],
  [() => x.gather(0, ids(1)), "gather: index [1] does not fit [2,3] along dim 0"],
  [() => x.gather(1, zeros(2, 1)), "gather: indices must be i32 or u32, got f32"],
  [() => x.indexSelect(0, ids(0, 2)), "indexSelect: index 2 is out of range for size 2"],
  [() => x.indexAdd(0, ids(0), zeros(2, 3)), "indexAdd: index [1] and source [2,3] do not fit [2,3] along dim 0"],
  [
    () => x.scatterAdd(0, tensor([[5]], { dtype: "i32" }), zeros(1, 1)),
    "scatterAdd: index 5 is out of range for size 2",
  ],
  [() => sg.embedding(ids(7), x), "embedding: index 7 is out of range for size 2"],
  [() => sg.embedding(ids(-1), x), "embedding: index -1 is out of range for size 2"],
  [
    () => sg.layerNorm(x, zeros(2)),
    "layerNorm: input [2,3] with weight [2]: expected the sizes of the last dims, those of the last one [3]",
  ],
  [() => sg.layerNorm(x, null, null, NaN), "layerNorm: eps must be a finite number >= 0, got NaN"],
  [() => sg.rmsNorm(x, zeros(4)), "rmsNorm: weight must be [3], got [4]"],
  [() => sg.groupNorm(zeros(1, 3, 2), 2), "groupNorm: 2 groups do not divide the channels of [1,3,2]"],
  [() => sg.crossEntropy(x, ids(1)), "crossEntropy: logits [2,3] ([N, C, ...]) do not fit target [1] (expected [2])"],
  [() => sg.crossEntropy(x, ids(1, 3)), "crossEntropy: target 3 is out of range for 3 classes"],
  [() => sg.crossEntropy(x, zeros(2)), "crossEntropy: targets must be i32 class indices, got f32"],
  [() => sg.crossEntropy(x, ids(1, 2), { labelSmoothing: 2 }), "crossEntropy: labelSmoothing must be in [0, 1], got 2"],
  [() => sg.mseLoss(x, zeros(3)), "mseLoss: shapes differ: [2,3] and [3]"],
  [
    () => sg.scaledDotProductAttention(zeros(1, 3, 2, 4), zeros(1, 2, 2, 4), zeros(1, 2, 2, 4)),
    "the key heads do not divide the query heads (q [1,3,2,4], k [1,2,2,4], v [1,2,2,4])",
  ],
  [
    () => sg.scaledDotProductAttention(zeros(1, 1, 2, 4), zeros(1, 1, 2, 8), zeros(1, 1, 2, 8)),
    "batch sizes or head dims differ",
  ],
  [() => sg.rope(zeros(1, 1, 2, 3), ids(0, 1)), "rope: x must be [B, H, T, D] with an even D, got [1,1,2,3]"],
  [() => sg.rope(zeros(1, 1, 2, 4), ids(0)), "rope: positions must be [2] or [1,2], got [1]"],
  [() => sg.conv2d(zeros(1, 3, 8, 8), zeros(4, 2, 3, 3)), "conv2d: input [1,3,8,8] does not fit weight [4,2,3,3]"],
  [() => sg.conv2d(x, zeros(4, 3, 1, 1)), "conv2d: input must be [N, C, H, W] or [C, H, W], got [2,3]"],
  [
    () => sg.interpolate(zeros(1, 1, 2, 2), { size: [0, 2], mode: "bilinear" }),
    "interpolate: size must be positive integers, got [0,2]",
  ],
  [() => sg.interpolate(zeros(1, 1, 2, 2), { size: 4, mode: "cubic" as never }), "interpolate: unknown mode cubic"],
  [() => sg.writeAt(zeros(1, 1, 4, 2), zeros(1, 1, 2, 2), ids(3)), "writeAt: 2 rows from 3 do not lie in a cache of 4"],
  [() => sg.dropout(x, 1), "dropout: p must be in [0, 1), got 1"],
  [() => sg.manualSeed(0.5), "manualSeed: an integer expected, got 0.5"],
  [() => tensor([[1, 2], [3]]), "tensor: nested arrays are ragged: expected [2,2] throughout"],
  [() => tensor([1, 2, 3], { shape: [2, 2] }), "tensor: 3 values do not fill shape [2,2] (4)"],
  [() => tensor([1], { shape: [-1] }), "tensor: sizes must be whole numbers, got [-1]"],
  [() => tensor([0.5], { dtype: "i32" }), "tensor: 0.5 is not a value of dtype i32"],
  [() => tensor([-1], { dtype: "u32" }), "tensor: -1 is not a value of dtype u32"],
  [() => sg.zeros(2, 0.5), "zeros: sizes must be whole numbers, got [2,0.5]"],
  [() => sg.arange(3, 1), "arange: no values from 3 to 1 by 1"],
];

test.each(cases.map(([call, message]) => ({ call, message })))("$message", ({ call, message }) => {
  expect(call).toThrow(message);
});

test("item names the shape it got", async () => {
  await expect(x.item()).rejects.toThrow("item: [2,3] has 6 elements, not one");
});
