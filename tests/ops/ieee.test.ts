/** NaN, infinities, constants, unsigned numbers and exactness: the neighbours of the cases in cases.test.ts. */
import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { uniform } from "../support/f64.ts";

const { tensor, where } = sg;
type Case = [name: string, make: () => sg.Tensor, values: number[]];

const x = () => tensor([Infinity, NaN, 3, -2, 0]);
const y = () => tensor([1, 2, Infinity, NaN, 5]);
const words = (...v: number[]) => tensor(Uint32Array.from(v));
const whole = (...v: number[]) => tensor(v, { dtype: "i32" });
const halves = (...v: number[]) => tensor(v, { dtype: "f16" });
/** The same handle twice. */
const twice = (f: (a: sg.Tensor, b: sg.Tensor) => sg.Tensor, a = x(), b = y()): sg.Tensor => f(a, b);

const nan = [NaN, NaN, 0, 0, 0];
const cases: Case[] = [
  // What a driver would fold as if numbers were real.
  ["|x| - |x| of two calls", () => twice((a) => a.abs().sub(a.abs())), nan],
  ["floor(x) - floor(x)", () => twice((a) => a.floor().sub(a.floor())), nan],
  ["x - clone(x)", () => twice((a) => a.sub(a.clone())), nan],
  ["x - reshaped x", () => twice((a) => a.sub(a.reshape([5, 1]).reshape([5]))), nan],
  ["x + -x", () => twice((a) => a.add(a.neg())), nan],
  ["x + x * -1", () => twice((a) => a.add(a.mul(-1))), nan],
  ["2x - (x + x)", () => twice((a) => a.mul(2).sub(a.add(a))), nan],
  ["x y - y x", () => twice((a, b) => a.mul(b).sub(b.mul(a))), [NaN, NaN, NaN, NaN, 0]],
  ["(x + y) - y", () => twice((a, b) => a.add(b).sub(b)), [Infinity, NaN, NaN, NaN, 0]],
  ["max(x, y) - max(x, y)", () => twice((a, b) => a.maximum(b).sub(a.maximum(b))), [NaN, NaN, NaN, NaN, 0]],
  ["sum(x) - sum(x)", () => twice((a) => a.sum().sub(a.sum())), [NaN]],
  ["x / x", () => twice((a) => a.div(a)), [NaN, NaN, 1, 1, NaN]],
  ["x * float(mask)", () => x().mul(tensor([0, 0, 1, 0, 1]).gt(0).float()), [NaN, NaN, 3, -0, 0]],
  ["x * mask", () => x().mul(tensor([0, 1, 0, 1, 1]).gt(0)), [NaN, NaN, 0, -2, 0]],
  ["x * 0 + 1", () => x().mul(0).add(1), [NaN, NaN, 1, 1, 1]],
  ["exp(log(x))", () => tensor([-1, 2]).log().exp().isnan(), [1, 0]],
  ["sqrt(x)²", () => tensor([-4, 4]).sqrt().square(), [NaN, 4]],
  ["not x < 1", () => x().lt(1).logicalNot(), [1, 1, 1, 0, 0]],
  ["x where x < y else y", () => twice((a, b) => where(a.lt(b), a, b)), [1, 2, 3, NaN, 0]],
  ["0 where x <= 0 else x", () => twice((a) => where(a.le(0), 0, a)), [Infinity, NaN, 3, 0, 0]],
  ["x <= x", () => twice((a) => a.le(a)), [1, 0, 1, 1, 1]],
  ["f16 x - x", () => twice((a) => a.sub(a), halves(Infinity, 1)), [NaN, 0]],
  [
    "a matmul times 0",
    () =>
      tensor([[Infinity, 1]])
        .matmul(tensor([[1], [1]]))
        .mul(0),
    [NaN],
  ],
  // NaN
  ["relu of NaN and -0", () => tensor([NaN, -Infinity, -0, Infinity]).relu(), [NaN, 0, 0, Infinity]],
  ["sign", () => tensor([NaN, -Infinity, Infinity]).sign(), [0, -1, 1]],
  ["maximum with NaN", () => tensor([1, -Infinity]).maximum(NaN), [NaN, NaN]],
  ["f16 maximum", () => halves(NaN, 1, 2).maximum(halves(1, NaN, 3)), [NaN, NaN, 3]],
  ["clamp by tensors", () => tensor([1, 5, NaN]).clamp({ min: tensor([2, NaN, 0]), max: 4 }), [2, NaN, NaN]],
  ["cast of NaN to i32", () => tensor([NaN, 3.7, -3.7]).to("i32"), [0, 3, -3]],
  ["cast of NaN to bool", () => tensor([NaN, 0, -0, 1e-30]).to("bool"), [1, 0, 0, 1]],
  [
    "max over columns",
    () =>
      tensor([
        [1, NaN, 3, 4],
        [5, 6, 7, NaN],
      ]).amax(0),
    [5, NaN, 7, NaN],
  ],
  ["argmin of -Infinity and NaN", () => tensor([-Infinity, NaN, -Infinity, NaN]).argmin(), [1]],
  ["argmax of -Infinity", () => tensor([-Infinity, -Infinity]).argmax(), [0]],
  [
    "logsumexp of -Infinity",
    () =>
      tensor([
        [-Infinity, -Infinity],
        [Infinity, 1],
      ]).logsumexp(1),
    [-Infinity, Infinity],
  ],
  ["nanToNum", () => x().nanToNum({ nan: 7 }), [3.4028234663852886e38, 7, 3, -2, 0]],
  // constants
  [
    "1e39 in pad, full and where",
    () => sg.cat([tensor([1]).pad([[1, 0]], 1e39), sg.full([1], -1e39)]),
    [Infinity, 1, -Infinity],
  ],
  ["i32 + -2^31", () => whole(1, -1).add(-(2 ** 31)), [-2147483647, 2147483647]],
  ["i32 against 3e9", () => sg.cat([whole(1).ge(3e9), whole(1).le(3e9), whole(1).ne(-3e9)]), [0, 1, 1]],
  [
    "0 / 0 and friends",
    () => sg.cat([sg.zeros(1).div(0), sg.ones(1).div(-0), sg.zeros(1).pow(0), sg.zeros(1).pow(-3)]),
    [NaN, -Infinity, 1, Infinity],
  ],
  ["integers mod 0", () => whole(5, -5).mod(0), [0, 0]],
  ["NaN to the power of 0", () => tensor([NaN, Infinity]).pow(0), [1, 1]],
  // unsigned
  ["u32 products and squares", () => sg.cat([words(70000).square(), words(5).mul(-1)]), [605032704, 4294967291]],
  ["u32 sums", () => sg.cat([words(4294967295, 2).sum(0, true), words(4294967295).add(4294967295)]), [1, 4294967294]],
  ["u32 running product", () => words(70000, 70000).cumprod(0), [70000, 605032704]],
  ["u32 with i32", () => sg.cat([words(3e9, 5).gt(whole(5, -1)), words(4294967295).eq(whole(-1))]), [1, 1, 0]],
  ["u32 of columns", () => tensor(words(1, 2, 3, 3e9).node.host as Uint32Array, { shape: [2, 2] }).amin(0), [1, 2]],
  ["i32 to u32", () => whole(-1, 5).to("u32"), [4294967295, 5]],
  // exactness
  ["i32 powers", () => whole(-2, 7, 46341).pow(whole(31, 3, 2)), [-2147483648, 343, -2147479015]],
  ["(-0)^3 and (-Infinity)^0.5", () => tensor([-0, -Infinity]).pow(tensor([3, 0.5])), [-0, Infinity]],
  ["i32 mod by negatives", () => whole(7, -7, -(2 ** 31)).mod(whole(-3, 3, -1)), [-2, 2, 0]],
  ["tanh beyond 10", () => tensor([10, -50, 1e30]).tanh(), [1, -1, 1]],
  ["erf beyond 4", () => tensor([4.5, -9, Infinity]).erf(), [1, -1, 1]],
  ["f16 and 1e5", () => halves(1, 60000).add(1e5).isinf(), [1, 1]],
  ["f16 / 1e-6", () => halves(6e-8).div(1e-7), [0.59619140625]],
];

describe.each(["reference", "webgpu"] as const)("IEEE numbers on %s", (backend) => {
  beforeAll(async () => void (await init({ backend })));

  test.each(cases)("%s", async (_name, make, values) => {
    const got = [...(await make().data())];
    expect(got.map((v) => v + 0)).toEqual(values.map((v) => v + 0));
    for (const [i, v] of values.entries()) if (Object.is(v, -0)) expect(got[i]).toBe(-0);
  });

  test("a NaN anywhere in a long reduction", async () => {
    for (const at of [0, 1, 63, 4999, 39_999]) {
      const values = Float32Array.from(uniform(40_000, -1, 1, at));
      values[at] = NaN;
      const t = tensor(values);
      expect([(await t.max().data())[0], (await t.min().data())[0], (await t.argmax().data())[0]]).toEqual([
        NaN,
        NaN,
        at,
      ]);
      const rows = tensor(values, { shape: [200, 200] });
      for (const dim of [0, 1]) {
        const largest = await rows.amax(dim).data();
        const best = dim === 0 ? at % 200 : Math.floor(at / 200);
        expect([...largest].flatMap((v, i) => (Number.isNaN(v) ? [i] : []))).toEqual([best]);
      }
    }
  });

  test("mod is exact", async () => {
    const n = 4096;
    const magnitudes = uniform(n, -30, 30, 1).map((e, i) => (i % 3 ? 1 : -1) * 10 ** e);
    const a = Float32Array.from(magnitudes);
    const b = Float32Array.from(
      uniform(n, -30, 30, 2),
      (e, i) => (i % 2 ? 1 : -1) * (i % 5 ? 7.5 * (1 + (i % 9)) : 10 ** e),
    );
    const got = await tensor(a).mod(tensor(b)).data();
    const exact = Array.from(a, (v, i) => {
      const rest = v % b[i];
      return Math.fround(rest !== 0 && rest < 0 !== b[i] < 0 ? rest + b[i] : rest);
    });
    expect([...got].filter((v, i) => v !== exact[i])).toEqual([]);
  });

  test("whole powers below 2^24 are exact", async () => {
    const pairs = Array.from({ length: 300 * 24 }, (_, i) => [i % 300, Math.floor(i / 300)]).filter(
      ([a, b]) => a ** b <= 2 ** 24,
    );
    const got = await tensor(pairs.map(([a]) => a))
      .pow(tensor(pairs.map(([, b]) => b)))
      .data();
    expect(pairs.filter(([a, b], i) => got[i] !== a ** b)).toEqual([]);
  });

  test("gradients at NaN and in ties", async () => {
    const grad = async (values: number[], f: (t: sg.Tensor) => sg.Tensor): Promise<number[]> => {
      const t = tensor(values, { requiresGrad: true });
      f(t).sum().backward();
      return [...(await t.grad!.data())];
    };
    expect(await grad([NaN, 1, -1, 0], (t) => t.relu())).toEqual([1, 1, 0, 0]);
    expect(await grad([NaN, 1, NaN], (t) => t.amax(0))).toEqual([0.5, 0, 0.5]);
    expect(await grad([-Infinity, -Infinity], (t) => t.amin(0))).toEqual([0.5, 0.5]);
    expect(await grad([2, 0, 3], (t) => t.prod())).toEqual([0, 6, 0]);
    expect(await grad([0.4, -2.5], (t) => t.round())).toEqual([0, 0]);
  });
});

test.each<[call: () => unknown, message: string]>([
  [() => x().clamp(3 as never), "clamp: expected limits { min, max }"],
  [() => x().clamp({ low: 3 } as never), "clamp: unknown option low"],
  [() => x().nanToNum({ inf: 3 } as never), "nanToNum: unknown option inf"],
  [() => tensor([2 ** 31], { dtype: "i32" }), "tensor: 2147483648 is not a value of dtype i32"],
  [() => tensor([2 ** 32], { dtype: "u32" }), "tensor: 4294967296 is not a value of dtype u32"],
  [() => tensor([NaN], { dtype: "i32" }), "tensor: NaN is not a value of dtype i32"],
])("refused: %s", (call, message) => {
  expect(call).toThrow(message);
});
