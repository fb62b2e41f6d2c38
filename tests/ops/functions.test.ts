/** Errors and special values of elementwise functions, activations, reductions and losses. */
import { expect, test } from "vitest";
import * as sg from "../../src/index.ts";

const x = sg.zeros([2, 3]);

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
