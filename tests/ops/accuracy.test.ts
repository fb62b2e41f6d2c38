/** Errors of elementwise functions on the device, in units in the last place of f32, against f64 over their domains. */
import { beforeAll, describe, expect, test } from "vitest";
import { tensor } from "../../src/index.ts";
import { evaluate } from "../../src/reference/interpreter.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

/** 2^low … 2^high with both signs, evenly in the exponent. */
const exponents = (low: number, high: number, signs = [1, -1]): number[] =>
  Array.from({ length: 2001 }, (_, i) => 2 ** (low + ((high - low) * i) / 2000)).flatMap((v) =>
    signs.map((s) => s * v),
  );
const range = (low: number, high: number): number[] =>
  Array.from({ length: 4001 }, (_, i) => low + ((high - low) * i) / 4000);
const positive = [1];

interface Measured {
  readonly name: string;
  readonly f: (x: Tensor) => Tensor;
  readonly x: readonly number[];
  /** Largest error allowed, in units in the last place of the value. */
  readonly most: number;
}

const functions: readonly Measured[] = [
  { name: "acos", f: (x) => x.acos(), x: range(-1, 1), most: 3 },
  { name: "acosh", f: (x) => x.acosh(), x: exponents(-20, 60, positive).map((v) => 1 + v), most: 4 },
  { name: "asin", f: (x) => x.asin(), x: [...range(-1, 1), ...exponents(-100, 0)], most: 3 },
  { name: "asinh", f: (x) => x.asinh(), x: exponents(-100, 127), most: 4 },
  { name: "atan", f: (x) => x.atan(), x: exponents(-100, 127), most: 3 },
  { name: "atan2", f: (x) => x.atan2(3), x: exponents(-100, 127), most: 4 },
  { name: "atanh", f: (x) => x.atanh(), x: [...range(-0.9999, 0.9999), ...exponents(-100, -1)], most: 4 },
  { name: "cosh", f: (x) => x.cosh(), x: range(-89.4, 89.4), most: 5 },
  { name: "erfc", f: (x) => x.erfc(), x: range(-5, 9), most: 12 },
  { name: "erfinv", f: (x) => x.erfinv(), x: [...range(-0.99999, 0.99999), ...exponents(-100, -1)], most: 8 },
  { name: "exp2", f: (x) => x.exp2(), x: [...range(-126, 127.9), ...exponents(-30, 0)], most: 3 },
  { name: "expm1", f: (x) => x.expm1(), x: [...range(-20, 88.5), ...exponents(-100, 2)], most: 4 },
  { name: "hypot", f: (x) => x.hypot(1.5e10), x: exponents(-100, 127), most: 3 },
  { name: "log10", f: (x) => x.log10(), x: [...exponents(-126, 127, positive), ...range(0.5, 2)], most: 4 },
  { name: "log1p", f: (x) => x.log1p(), x: [...exponents(-100, -0.01), ...exponents(0, 127, positive)], most: 4 },
  { name: "log2", f: (x) => x.log2(), x: [...exponents(-126, 127, positive), ...range(0.5, 2)], most: 4 },
  { name: "logit", f: (x) => x.logit(), x: range(0.0001, 0.9999), most: 6 },
  { name: "sinc", f: (x) => x.sinc(), x: [...range(-6.3, 6.4), ...exponents(-100, 0)], most: 5 },
  { name: "sinh", f: (x) => x.sinh(), x: [...range(-89.4, 89.4), ...exponents(-100, 1)], most: 5 },
  { name: "tan", f: (x) => x.tan(), x: [...range(-1.5, 1.5), ...exponents(-100, 0)], most: 6 },
];

/** Distance of f32 values at |x|. */
const unit = (x: number): number => 2 ** Math.max(-149, Math.floor(Math.log2(Math.abs(x))) - 23);

describe("errors in units in the last place", () => {
  beforeAll(async () => void (await init({ backend: "webgpu" })));

  test.each(functions)("$name: at most $most", async ({ name, f, x, most }) => {
    const points = Float32Array.from(x);
    const want = f(tensor(points));
    evaluate([want.node]);
    const got = await f(tensor(points)).data();
    let worst = 0;
    let at = 0;
    points.forEach((p, i) => {
      const w = want.node.host![i];
      if (w === 0 ? got[i] === 0 : Math.fround(w) === got[i]) return;
      const error = Math.abs(got[i] - w) / unit(w);
      if (!(error <= worst)) [worst, at] = [error, p];
    });
    console.log(`${name}: ${worst.toFixed(2)} at ${at}`);
    expect(worst, `at ${at}`).toBeLessThanOrEqual(most);
  });
});

test("tan keeps the angle to 1.2e-7 up to 10⁴", async () => {
  await init({ backend: "webgpu" });
  const points = Float32Array.from(range(-1e4, 1e4));
  const got = await tensor(points).tan().data();
  let worst = 0;
  points.forEach((x, i) => {
    const error = Math.abs(got[i] - Math.tan(x)) / (1 + Math.tan(x) ** 2);
    if (!(error <= worst)) worst = error;
  });
  expect(worst).toBeLessThan(1.2e-7);
});
