import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { elementwiseKernels } from "../../src/compile/codegen/elementwise.ts";
import { arange, full, tensor, where } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { flush } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { uniform } from "../support/f64.ts";
import { half } from "../support/tensors.ts";

const N = 4 * 37 + 3;
const [a, b] = [uniform(N, -4, 4, 1), uniform(N, 0.25, 4, 2)].map((x) => Float32Array.from(x, half));

/** An op on tensors, and on numbers. */
type Pair = [name: string, ours: (x: Tensor, y: Tensor) => Tensor, exact: (x: number, y: number) => number];
const ops: Pair[] = [
  ["add", (x, y) => x.add(y), (x, y) => x + y],
  ["sub", (x, y) => x.sub(y), (x, y) => x - y],
  ["mul", (x, y) => x.mul(y), (x, y) => x * y],
  ["div", (x, y) => x.div(y), (x, y) => x / y],
  ["mod", (x, y) => x.mod(y), (x, y) => x - Math.floor(x / y) * y],
  ["pow", (x, y) => x.abs().pow(y), (x, y) => Math.abs(x) ** y],
  ["minimum", (x, y) => x.minimum(y), Math.min],
  ["where", (x, y) => where(x.gt(y), x, y), Math.max],
  ["clamp", (x) => x.clamp({ min: -1e30, max: 1.5 }), (x) => Math.min(x, 1.5)],
  ["sqrt", (_, y) => y.sqrt(), (_, y) => Math.sqrt(y)],
  ["rsqrt", (_, y) => y.rsqrt(), (_, y) => 1 / Math.sqrt(y)],
  ["exp", (x) => x.exp(), Math.exp],
  ["tanh", (x) => x.tanh(), Math.tanh],
  ["sigmoid", (x) => x.sigmoid(), (x) => 1 / (1 + Math.exp(-x))],
  ["silu", (x) => x.silu(), (x) => x / (1 + Math.exp(-x))],
];
const errors = (got: ArrayLike<number>, want: readonly number[]): number =>
  Math.max(...want.map((w, i) => Math.abs(got[i] - w) / (Math.abs(w) + 1e-3)));

const available = await init({ backend: "webgpu" }).then((info) => info!.f16);

describe.skipIf(!available)("arithmetic in f16", () => {
  beforeAll(() => init({ backend: "webgpu", f16: "native" }));
  afterAll(() => init());
  const load = (x: Float32Array, shape = [N]): Tensor => tensor(x, { shape, dtype: "f16" });

  test("is in the shaders, or not, as init says", async () => {
    const text = (): string => {
      const y = load(a).add(1).exp();
      return elementwiseKernels(y.node, { isBuffer: (n) => n.realized }, currentDevice()!.info)[0].code;
    };
    expect(text()).toMatch(
      /^enable f16;[\s\S]*bitcast<vec2<f16>>[\s\S]*vec4<f16>[\s\S]*exp\(vec4f\([\s\S]*bitcast<u32>/,
    );
    await init({ backend: "webgpu", f16: "storage" });
    expect(text()).not.toMatch(/enable f16|<f16>/);
    await init({ backend: "webgpu" });
    const { f16Arithmetic, kind } = currentDevice()!.info;
    expect(f16Arithmetic).toBe(kind !== "software");
    await init({ backend: "webgpu", f16: "native" });
  });

  test.each(ops)("%s is right to two roundings", async (_, ours, exact) => {
    const want = Array.from(a, (x, i) => exact(x, b[i]));
    const naive = errors(want.map(half), want);
    expect(errors(await ours(load(a), load(b)).data(), want)).toBeLessThanOrEqual(2 * Math.max(naive, 2 ** -11));
  });

  test.each([[[N]], [[3, 4 * 7]], [[5, 7]], [[1]]])(
    "a chain over %j errs at most twice as far as naive halves",
    async (shape) => {
      const n = shape.reduce((p, q) => p * q, 1);
      const exact = (x: number, y: number, r: (v: number) => number): number =>
        r(r(r(r(r(x * y) + r(0.3)) / y) - r(x * x)) * r(1 / (1 + Math.exp(-y))));
      const x = load(a.subarray(0, n), shape);
      const y = load(b.subarray(0, n), shape);
      const got = await x.mul(y).add(0.3).div(y).sub(x.square()).mul(y.sigmoid()).data();
      const index = Array.from({ length: n }, (_, i) => i);
      const want = index.map((i) => exact(a[i], b[i], (v) => v));
      const naive = index.map((i) => exact(a[i], b[i], half));
      const worst = (v: ArrayLike<number>): number => Math.max(...want.map((w, i) => Math.abs(v[i] - w)));
      expect(worst(got)).toBeLessThanOrEqual(2 * Math.max(worst(naive), 2 ** -9)); // half an ulp of terms up to 8
    },
  );

  test("reductions, norms and products of halves add up in f32", async () => {
    const ones = full([4096], 1, { dtype: "f16" }).add(load(Float32Array.of(0), [1]));
    expect(await ones.sum().item()).toBe(4096); // a half stops at 2048
    expect([
      ...(await ones
        .reshape([1, 4096])
        .matmul(ones.reshape([4096, 1]))
        .data()),
    ]).toEqual([4096]);
    expect([...(await ones.softmax(-1).narrow(0, 0, 4).data())]).toEqual(Array(4).fill(2 ** -12));
  });

  test("views, positions, guards and bits of halves", async () => {
    const x = load(a.subarray(0, 15), [3, 5]);
    const moved = x
      .t()
      .pad([
        [1, 0],
        [0, 2],
      ])
      .add(1); // [6, 5]
    await flush(moved);
    const want = Array.from({ length: 30 }, (_, k) => {
      const [i, j] = [Math.floor(k / 5) - 1, k % 5];
      return half((i >= 0 && j < 3 ? a[j * 5 + i] : 0) + 1);
    });
    expect([...(await moved.data())]).toEqual(want);
    const steps = [...(await arange(0, 300, 0.1, { dtype: "f16" } as never).data())];
    steps.forEach((s, i) => expect(Math.abs(s - i * 0.1)).toBeLessThanOrEqual(2 ** -10 * i * 0.1 + 1e-6));
    expect([
      ...(await full([2], -Infinity, { dtype: "f16" })
        .add(load(Float32Array.of(1), [1]))
        .data()),
    ]).toEqual([-Infinity, -Infinity]);
    expect([...(await load(a).to("i32").data())]).toEqual(Array.from(a, Math.trunc).map((v) => v + 0));
    expect([...(await load(a).gt(load(b)).data())]).toEqual(Array.from(a, (v, i) => Number(v > b[i])));
  });

  test("gradients", async () => {
    const x = load(a).requiresGrad_();
    x.mul(load(b)).silu().sum().backward();
    const slope = (v: number): number => {
      const s = 1 / (1 + Math.exp(-v));
      return s * (1 + v * (1 - s));
    };
    const want = Array.from(a, (v, i) => b[i] * slope(v * b[i]));
    const got = await x.grad!.data();
    want.forEach((w, i) => expect(Math.abs(got[i] - w)).toBeLessThanOrEqual(2 ** -7 * Math.abs(b[i])));
  });

  test("the option is checked", async () => {
    await expect(init({ backend: "webgpu", f16: "half" as never })).rejects.toThrow(/f16 must be/);
    await expect(init({ backend: "webgpu", f16: "native", disable: ["shader-f16"] })).rejects.toThrow(/shader-f16/);
  });
});
