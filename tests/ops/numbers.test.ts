import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { flush } from "../../src/tensor/engine.ts";

const { tensor, where } = sg;
type Case = [name: string, make: () => sg.Tensor, dtype: string, values: number[]];

const bools = () => tensor([true, false]);
const ints = () => tensor([3, -4], { dtype: "i32" });
const words = () => tensor([3, 4_000_000_000], { dtype: "u32" });
const halves = () => tensor([1.5, -2], { dtype: "f16" });
const floats = () => tensor([1.5, -2]);

/** Values and dtypes where numbers meet tensors, as torch has them with i32 for its int64. */
const cases: Case[] = [
  ["where of two whole numbers", () => where(bools(), 1, 2), "i32", [1, 2]],
  ["where of 3 and 4", () => where(bools(), 3, 4), "i32", [3, 4]],
  ["where of 0 and -7", () => where(bools(), 0, -7), "i32", [0, -7]],
  ["where of a fraction", () => where(bools(), 0.5, 2), "f32", [0.5, 2]],
  ["where of an infinity", () => where(bools(), 1, -Infinity), "f32", [1, -Infinity]],
  ["where of a number beyond i32", () => where(bools(), 3e9, 0), "f32", [3e9, 0]],
  ["where of bool and 2", () => where(tensor([false, true]), bools(), 2), "i32", [2, 0]],
  ["where of 2 and bool", () => where(bools(), 2, bools()), "i32", [2, 0]],
  ["where of bool and 0.5", () => where(bools(), 0.5, bools()), "f32", [0.5, 0]],
  ["where of two bools", () => where(bools(), bools(), bools()), "bool", [1, 0]],
  ["where of i32 and 2", () => where(bools(), ints(), 2), "i32", [3, 2]],
  ["where of i32 and -Infinity", () => where(bools(), ints(), -Infinity), "f32", [3, -Infinity]],
  ["where of u32 and 7", () => where(tensor([false, true]), words(), 7), "u32", [7, 4_000_000_000]],
  ["where of f16 and 0.25", () => where(bools(), halves(), 0.25), "f16", [1.5, 0.25]],
  ["where with a broadcast condition", () => where(tensor([[true], [false]]), 3, 4), "i32", [3, 4]],
  ["bool + 1", () => bools().add(1), "i32", [2, 1]],
  ["bool * 0.5", () => bools().mul(0.5), "f32", [0.5, 0]],
  ["bool - 3", () => bools().sub(3), "i32", [-2, -3]],
  ["bool / 2", () => bools().div(2), "f32", [0.5, 0]],
  ["bool % 2", () => bools().mod(2), "i32", [1, 0]],
  ["bool ** 1", () => bools().pow(1), "i32", [1, 0]],
  ["bool ** 2", () => bools().pow(2), "i32", [1, 0]],
  ["maximum of bool and 2", () => bools().maximum(2), "i32", [2, 2]],
  ["minimum of bool and 0.5", () => bools().minimum(0.5), "f32", [0.5, 0]],
  ["bool = 2", () => bools().eq(2), "bool", [0, 0]],
  ["bool = 1", () => bools().eq(1), "bool", [1, 0]],
  ["bool > 0.5", () => bools().gt(0.5), "bool", [1, 0]],
  ["bool < Infinity", () => bools().lt(Infinity), "bool", [1, 1]],
  ["bool ≠ 3e9", () => bools().ne(3e9), "bool", [1, 1]],
  ["i32 < 0.5", () => ints().lt(0.5), "bool", [0, 1]],
  ["i32 = 3.5", () => ints().eq(3.5), "bool", [0, 0]],
  ["i32 > -Infinity", () => ints().gt(-Infinity), "bool", [1, 1]],
  ["i32 + 0.5", () => ints().add(0.5), "f32", [3.5, -3.5]],
  ["i32 + 2", () => ints().add(2), "i32", [5, -2]],
  ["i32 % 2", () => ints().mod(2), "i32", [1, 0]],
  ["maximum of i32 and 0.5", () => ints().maximum(0.5), "f32", [3, 0.5]],
  ["u32 > 3e9", () => words().gt(3_000_000_000), "bool", [0, 1]],
  ["u32 + 1", () => words().add(1), "u32", [4, 4_000_000_001]],
  ["f32 < 1e39", () => floats().lt(1e39), "bool", [1, 1]],
  ["f32 * -1e39", () => floats().mul(-1e39), "f32", [-Infinity, Infinity]],
  ["f32 below 2^-14 to f16", () => tensor([1e-5, 6e-8]).half(), "f16", [168 / 2 ** 24, 1 / 2 ** 24]],
  [
    "f16 below 2^-14 to f32",
    () => tensor([1e-5, -3e-7], { dtype: "f16" }).float(),
    "f32",
    [168 / 2 ** 24, -5 / 2 ** 24],
  ],
  ["mean of f16 whose sum is infinite", () => tensor([[6e4, 6e4, 6e4]], { dtype: "f16" }).mean(1), "f16", [6e4]],
  ["variance of f16 whose squares are infinite", () => tensor([1000, 1300], { dtype: "f16" }).var(), "f16", [44_992]],
  ["sum of f16 whose parts are infinite", () => tensor([6e4, 6e4, -6e4], { dtype: "f16" }).sum(0, true), "f16", [6e4]],
  ["f16 * 3", () => halves().mul(3), "f16", [4.5, -6]],
  ["maskedFill of bool with 1", () => bools().maskedFill(tensor([false, true]), 1), "bool", [1, 1]],
  ["maskedFill of bool with 0", () => bools().maskedFill(bools(), 0), "bool", [0, 0]],
  ["maskedFill of bool with 2", () => bools().maskedFill(bools(), 2), "i32", [2, 0]],
  ["maskedFill of bool with 1.5", () => bools().maskedFill(bools(), 1.5), "f32", [1.5, 0]],
  ["maskedFill of i32 with 1.5", () => ints().maskedFill(bools(), 1.5), "f32", [1.5, -4]],
  ["maskedFill of i32 with -Infinity", () => ints().maskedFill(bools(), -Infinity), "f32", [-Infinity, -4]],
  ["maskedFill of f16 with -Infinity", () => halves().maskedFill(bools(), -Infinity), "f16", [-Infinity, -2]],
  ["clamp of i32 by fractions", () => ints().clamp({ min: -0.5, max: 2.5 }), "f32", [2.5, -0.5]],
  ["clamp of i32 by one fraction", () => ints().clamp({ min: 3.5 }), "f32", [3.5, 3.5]],
  ["clamp of i32 by whole numbers", () => ints().clamp({ min: -1, max: 2 }), "i32", [2, -1]],
  ["clamp of i32 beyond its range", () => ints().clamp({ min: -3e9, max: 3e9 }), "i32", [3, -4]],
  ["clamp of u32 below its range", () => words().clamp({ min: -1, max: 5 }), "u32", [3, 5]],
  [
    "clamp of u32 within the upper half",
    () => words().clamp({ min: 3_500_000_000 }),
    "u32",
    [3_500_000_000, 4_000_000_000],
  ],
  ["clamp of bool", () => bools().clamp({ min: 2 }), "i32", [2, 2]],
  ["clamp of i32 by no limit", () => ints().clamp({ min: -Infinity, max: Infinity }), "i32", [3, -4]],
  [
    "clamp of f32 by no limit",
    () => tensor([-Infinity, Infinity]).clamp({ min: -Infinity, max: Infinity }),
    "f32",
    [-Infinity, Infinity],
  ],
  [
    "clamp of f32 by 0 and Infinity",
    () => tensor([-1, Infinity]).clamp({ min: 0, max: Infinity }),
    "f32",
    [0, Infinity],
  ],
  ["clamp of f32 from Infinity", () => floats().clamp({ min: Infinity }), "f32", [Infinity, Infinity]],
  ["clamp of f32 by NaN alone", () => floats().clamp({ max: NaN }), "f32", [1.5, -2]],
  ["clamp of f32 by NaN and a number", () => floats().clamp({ min: 0, max: NaN }), "f32", [NaN, NaN]],
  ["pad of bool with 2", () => bools().pad([[1, 0]], 2), "bool", [1, 1, 0]],
  ["pad of i32 with -9", () => ints().pad([[0, 1]], -9), "i32", [3, -4, -9]],
  [
    "tril of bool",
    () =>
      tensor([
        [true, true],
        [true, true],
      ]).tril(),
    "bool",
    [1, 0, 1, 1],
  ],
  ["arange beyond i32", () => sg.arange(3e9, 3e9 + 512, 256), "f32", [3e9, 3e9 + 256]],
  ["arange to a fraction", () => sg.arange(0, 1.5), "f32", [0, 1]],
];

describe.each(["reference", "webgpu"] as const)("numbers among tensors on %s", (backend) => {
  beforeAll(async () => void (await init({ backend })));

  test.each(cases)("%s", async (_name, make, dtype, values) => {
    const result = make();
    expect(result.dtype).toBe(dtype);
    expect([...(await result.data())]).toEqual(values);
  });

  test("all in one flush", async () => {
    const results = cases.map(([, make]) => make());
    await flush(...results);
    for (const [i, t] of results.entries()) expect([...(await t.data())], cases[i][0]).toEqual(cases[i][3]);
  });

  test("gradients of where with numbers", async () => {
    const x = tensor([1, 2], { requiresGrad: true });
    await where(bools(), x, 5)
      .mul(where(bools(), 3, 4))
      .sum()
      .backward();
    expect([...(await x.grad!.data())]).toEqual([3, 0]);
  });
});

test.each<[call: () => unknown, message: string]>([
  [() => ints().add(3e9), "add: 3000000000 is not a value of dtype i32: cast the tensor to a wider dtype first"],
  [() => words().sub(-3e9), "sub: -3000000000 is not a value of dtype u32"],
  [() => words().maximum(-1), "maximum: -1 is not a value of dtype u32"],
  [() => ints().pow(-2), "pow: i32 has no powers below 0, got -2: cast the tensor to f32 first"],
  [() => words().clamp({ max: -1 }), "clamp: -1 is not a value of dtype u32"],
  [() => ints().clamp({ min: 3e9 }), "clamp: 3000000000 is not a value of dtype i32"],
  [() => ints().pad([[1, 0]], 0.5), "pad: 0.5 is not a value of dtype i32"],
  [() => sg.full([2], 1.5, { dtype: "i32" }), "full: 1.5 is not a value of dtype i32"],
  [() => sg.full([2], -1, { dtype: "u32" }), "full: -1 is not a value of dtype u32"],
  [() => sg.full([2], NaN, { dtype: "i32" }), "full: NaN is not a value of dtype i32"],
  [() => sg.arange(0, 1, 0.25, { dtype: "i32" }), "arange: 0.25 is not a value of dtype i32"],
])("out of range: %s", (call, message) => {
  expect(call).toThrow(message);
});
