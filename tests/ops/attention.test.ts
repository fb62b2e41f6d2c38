import { describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import type { AttentionOptions } from "../../src/ops/attention.ts";
import { int8Words, readInt8, writeInt8At } from "../../src/ops/int8.ts";
import { init } from "../../src/runtime/engine.ts";
import { explain } from "../../src/tensor/engine.ts";
import { onBoth } from "../support/backend.ts";
import { expectClose } from "../support/compare.ts";
import { uniform } from "../support/f64.ts";
import { random } from "../support/tensors.ts";

const leaf = (seed: number, shape: readonly number[], dtype: "f32" | "f16" = "f32"): sg.Tensor =>
  random(shape, seed).to(dtype).detach().requiresGrad_();

/** Attention of q [2, 4, 13, 18] over 2 key heads of 21, its values and the gradients of q, k and v. */
function attended(options: () => AttentionOptions, dtype: "f32" | "f16" = "f32"): () => sg.Tensor[] {
  return () => {
    const [q, k, v] = [leaf(1, [2, 4, 13, 18], dtype), leaf(2, [2, 2, 21, 18], dtype), leaf(3, [2, 2, 21, 18], dtype)];
    const y = sg.scaledDotProductAttention(q, k, v, options());
    return [y, ...sg.grad(y.to("f32").square().sum(), [q, k, v])].map((t) => t.to("f32"));
  };
}

const mask = () => sg.tensor(uniform(2 * 13 * 21, -1, 1, 5), { shape: [2, 1, 13, 21] }).gt(-0.5);
const bias = () => sg.tensor(uniform(4 * 21, -1, 1, 6), { shape: [4, 1, 21] });

describe("the kernels agree with the definition", () => {
  const cases: Record<string, () => AttentionOptions> = {
    "a mask for each sample and a bias for each head": () => ({ mask: mask(), bias: bias() }),
    "mask, bias, lengths and window": () => ({
      mask: mask(),
      bias: bias(),
      lengths: sg.tensor([21, 9], { dtype: "i32" }),
      isCausal: true,
      align: "bottom-right",
      window: 6,
    }),
    "a window from the first corner": () => ({ isCausal: true, window: 3 }),
    "a bias of halves": () => ({ bias: bias().to("f16") }),
  };
  for (const [name, options] of Object.entries(cases))
    test(name, async () => expectClose(await onBoth(attended(options)), 2e-5));

  test("halves", async () => expectClose(await onBoth(attended(() => ({ isCausal: true }), "f16")), 2e-3));

  test("a learned bias with a mask", async () => {
    const both = await onBoth(() => {
      const b = leaf(6, [4, 1, 21]);
      const [q, k] = [leaf(1, [2, 4, 13, 18]), leaf(2, [2, 4, 21, 18])];
      const y = sg.scaledDotProductAttention(q, k, k, { mask: mask(), bias: b });
      return [y, ...sg.grad(y.square().sum(), [q, k, b])];
    });
    expect(Math.max(...both.want[3].map(Math.abs))).toBeGreaterThan(0.01);
    expectClose(both, 2e-5);
  });
});

test("a window is what a mask of the nearest keys is", async () => {
  await init({ backend: "reference" });
  const near = sg.arange(13).reshape([13, 1]).sub(sg.arange(21)).lt(4);
  const [window, masked] = [
    attended(() => ({ isCausal: true, window: 4 }))(),
    attended(() => ({ isCausal: true, mask: near }))(),
  ];
  for (const [i, x] of window.entries()) expect(Array.from(await x.data())).toEqual(Array.from(await masked[i].data()));
  expect(() => attended(() => ({ window: 4 }))()).toThrow("needs isCausal, got 4");
  expect(() => attended(() => ({ isCausal: true, window: 0 }))()).toThrow("positive integer");
});

describe("results lie as q does", () => {
  /** The plan of an attention layer with its projections and all gradients, with rotary positions if `rotary`. */
  async function plan(rotary: boolean): Promise<string> {
    await init({ backend: "webgpu" });
    const [b, t, heads, d] = [2, 16, 4, 8];
    const x = leaf(1, [b * t, heads * d]);
    const w = [2, 3, 4, 5].map((seed) => leaf(seed, [heads * d, heads * d]));
    const split = (y: sg.Tensor) => y.reshape([b, t, heads, d]).transpose(1, 2);
    const rope = (y: sg.Tensor) => (rotary ? sg.rope(y, sg.arange(t)) : y);
    const [q, k, v] = w.slice(0, 3).map((m) => split(x.matmul(m)));
    const y = sg.scaledDotProductAttention(rope(q), rope(k), v, { isCausal: true });
    const out = y
      .transpose(1, 2)
      .reshape([b * t, heads * d])
      .matmul(w[3]);
    return explain(out, ...sg.grad(out, [x, ...w], { gradOutput: leaf(9, [b * t, heads * d]) }));
  }
  test.each([false, true])("no copy between attention and its projections, rope %s", async (rotary) => {
    const text = await plan(rotary);
    expect(text).toContain("attention_dkv");
    expect(text).not.toContain("copy");
  });
});

test("int8 rows hold each number within half a step of its row's largest", async () => {
  const [B, H, S, D, T] = [2, 3, 7, 18, 4];
  const both = await onBoth(() => {
    const cache = sg.zeros([B, H, S, int8Words(D)], { dtype: "u32" });
    const value = sg.tensor(uniform(B * H * T * D, -3, 3, 4), { shape: [B, T, H, D] }).transpose(1, 2);
    const written = writeInt8At(cache, value, sg.tensor([3, 0], { dtype: "i32" }));
    const error = readInt8(written, D)
      .sub(
        value
          .narrow(0, 0, 1)
          .pad([
            [0, 0],
            [0, 0],
            [3, 0],
            [0, 0],
          ])
          .expand([B, H, S, D]),
      )
      .narrow(0, 0, 1);
    return [readInt8(written, D), error.abs().amax().reshape([1])];
  });
  expectClose(both, 0.5 / 100); // ties may round either way
  expect(both.got[1][0]).toBeLessThan(3 / 254 + 1e-6);
  expect(both.got[1][0]).toBeGreaterThan(1e-3);
  await init({ backend: "reference" });
  const cache = sg.zeros([1, 1, 2, int8Words(8)], { dtype: "u32" });
  const at = sg.tensor([1], { dtype: "i32" });
  expect(() => writeInt8At(cache, sg.zeros(1, 1, 1, 9), at)).toThrow("does not fit u32 cache [1,1,2,3]");
  expect(() => writeInt8At(cache, sg.zeros(1, 1, 2, 8), at)).toThrow("2 rows from 1 do not lie in a cache of 2");
});

test("decoding over 8,000 keys: grouped heads, samples of different lengths, every kind of cache", async () => {
  const [B, H, heads, S, D] = [2, 4, 2, 8000, 8];
  const build = (kind: "f32" | "f16" | "int8") => () => {
    const q = sg.tensor(uniform(B * H * D, -2, 2, 1), { shape: [B, H, 1, D] });
    const [k, v] = [2, 3].map((seed) => {
      const x = sg.tensor(uniform(B * heads * S * D, -1, 1, seed), { shape: [B, heads, S, D] });
      if (kind !== "int8") return x.to(kind);
      const empty = sg.zeros([B, heads, S, int8Words(D)], { dtype: "u32" });
      return writeInt8At(empty, x, sg.tensor([0], { dtype: "i32" }));
    });
    const lengths = sg.tensor([7999, 4093], { dtype: "i32" });
    const options = { lengths, isCausal: true, align: "bottom-right" as const };
    return [
      sg.scaledDotProductAttention(q, k, v, options),
      sg.scaledDotProductAttention(q, k, v, { ...options, window: 1000 }),
    ];
  };
  const plain = await onBoth(build("f32"));
  expectClose(plain, 2e-6);
  for (const [kind, tolerance] of [
    ["f16", 1e-4],
    ["int8", 1e-3],
  ] as const) {
    const both = await onBoth(build(kind));
    expectClose(both, 2e-6 + (kind === "int8" ? 1e-5 : 0));
    expectClose({ want: plain.want, got: both.got }, tolerance);
  }
});
