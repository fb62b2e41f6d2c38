import { beforeAll, describe, expect, test } from "vitest";
import {
  LayerNorm,
  MultiheadAttention,
  Transformer,
  TransformerDecoder,
  TransformerDecoderLayer,
  TransformerEncoder,
  TransformerEncoderLayer,
} from "../../src/nn/index.ts";
import { manualSeed, ones, rand, randn, zeros } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

beforeAll(async () => {
  await init({ backend: "reference" });
  manualSeed(7);
});

const distance = (a: Tensor, b: Tensor) => a.sub(b).abs().max().item();

describe("MultiheadAttention", () => {
  test("isCausal is the mask above the diagonal", async () => {
    const attention = new MultiheadAttention(8, 2, { batchFirst: true });
    const x = randn(2, 4, 8);
    const attnMask = ones(4, 4).triu(1).to("bool");
    const [a, wa] = attention.forward(x, x, x, { isCausal: true });
    const [b, wb] = attention.forward(x, x, x, { attnMask });
    expect(await distance(a, b)).toBeLessThan(1e-6);
    expect(await distance(wa, wb)).toBeLessThan(1e-6);
    expect(await wa.sum(-1).sub(1).abs().max().item()).toBeLessThan(1e-6);
  });

  test("key === value, or three inputs, give what one input gives", async () => {
    const attention = new MultiheadAttention(8, 2);
    const x = randn(4, 2, 8);
    const [one] = attention.forward(x);
    expect(await distance(one, attention.forward(x, x.clone())[0])).toBeLessThan(1e-6);
    expect(await distance(one, attention.forward(x, x.clone(), x.clone())[0])).toBeLessThan(1e-6);
  });

  test("float and bool masks combine", async () => {
    const attention = new MultiheadAttention(8, 2, { batchFirst: true });
    const x = randn(1, 3, 8);
    const keyPaddingMask = ones(1, 3).triu(2).to("bool"); // the last key is padding
    const attnMask = randn(3, 3);
    const [, weights] = attention.forward(x, x, x, { keyPaddingMask, attnMask, averageAttnWeights: false });
    expect(weights.shape).toEqual([1, 2, 3, 3]);
    expect(await weights.select(3, 2).abs().max().item()).toBe(0);
    const [, plain] = attention.forward(x, x, x, { keyPaddingMask, averageAttnWeights: false });
    expect(await distance(weights, plain)).toBeGreaterThan(0.01);
  });

  test("halves stay halves, also through whole layers", async () => {
    const layer = new TransformerEncoderLayer(8, 2, { dimFeedforward: 16, dropout: 0 });
    const x = randn(3, 2, 8);
    const want = layer.forward(x);
    await want.data();
    const got = layer.to("f16").forward(x.half());
    expect(got.dtype).toBe("f16");
    expect(await distance(got.float(), want)).toBeLessThan(0.02);
  });

  test("no samples give no outputs", () => {
    const attention = new MultiheadAttention(8, 2, { batchFirst: true });
    expect(attention.forward(zeros(0, 3, 8))[0].shape).toEqual([0, 3, 8]);
  });

  test("dropout acts on the weights, in training alone", async () => {
    const attention = new MultiheadAttention(8, 2, { dropout: 0.5 });
    const x = randn(6, 1, 8);
    const [, weights] = attention.forward(x, x, x, { averageAttnWeights: false });
    expect(await weights.eq(0).to("i32").sum().item()).toBeGreaterThan(10);
    const [out, none] = attention.eval().forward(x, x, x, { needWeights: false });
    expect(none).toBeUndefined();
    expect(await distance(out, attention.forward(x)[0])).toBe(0);
  });

  test("bad arguments are errors at the call", () => {
    const attention = new MultiheadAttention(8, 2, { batchFirst: true });
    const x = rand(2, 3, 8);
    expect(() => new MultiheadAttention(8, 3)).toThrow("MultiheadAttention: numHeads must divide embedDim 8, got 3");
    expect(() => new MultiheadAttention(8, 2, { biasKv: true } as never)).toThrow("unknown option biasKv");
    expect(() => attention.forward(x, rand(2, 4, 8), rand(2, 3, 8))).toThrow(
      "query [2,3,8], key [2,4,8] and value [2,3,8] do not fit: expected [N, L, 8], [N, S, 8] and [N, S, 8]",
    );
    expect(() => attention.forward(x, x, x, { attnMask: rand(3, 4) })).toThrow(
      "attnMask [3,4] does not fit: expected [3,3] or [4,3,3]",
    );
    expect(() => attention.forward(x, x, x, { keyPaddingMask: rand(3, 2) })).toThrow(
      "keyPaddingMask [3,2] does not fit: expected [2,3]",
    );
    expect(() => attention.forward(x, x, x, { attnMask: zeros([3, 3], { dtype: "i32" }) })).toThrow(
      "masks must be bool (true hides a key) or float, got i32",
    );
    expect(() => attention.forward(x, x, x, { mask: rand(3, 3) } as never)).toThrow("unknown option mask");
  });
});

describe("Transformer", () => {
  test("copies of a layer have its values, and are tensors of their own", async () => {
    const layer = new TransformerEncoderLayer(8, 2, { dimFeedforward: 16, dropout: 0 });
    const encoder = new TransformerEncoder(layer, 3, { norm: new LayerNorm(8) });
    expect(encoder.layers[0]).toBe(layer);
    const [a, b] = [encoder.layers[0].linear1.weight, encoder.layers[2].linear1.weight];
    expect([a === b, await distance(a, b)]).toEqual([false, 0]);
    const made = new TransformerEncoder(() => new TransformerEncoderLayer(8, 2, { dimFeedforward: 16 }), 2);
    expect(await distance(made.layers[0].linear1.weight, made.layers[1].linear1.weight)).toBeGreaterThan(0);
    expect(made.parameters().length).toBe(24);
  });

  test("later targets do not change earlier outputs", async () => {
    const model = new Transformer({
      dModel: 8,
      nhead: 2,
      numEncoderLayers: 1,
      numDecoderLayers: 2,
      dimFeedforward: 16,
      batchFirst: true,
    }).eval();
    const [src, tgt] = [randn(1, 3, 8), randn(1, 4, 8)];
    const changed = tgt.add(ones(4, 1).triu(-3).tril(-3)); // the last row differs
    for (const masks of [{ tgtIsCausal: true }, { tgtMask: Transformer.generateSquareSubsequentMask(4) }]) {
      const [a, b] = [model.forward(src, tgt, masks), model.forward(src, changed, masks)];
      const by = (await a.sub(b).abs().amax([0, 2]).tolist()) as number[];
      expect(Math.max(...by.slice(0, 3))).toBe(0);
      expect(by[3]).toBeGreaterThan(0);
    }
    expect(model.decoder.layers.length + model.encoder.layers.length).toBe(3);
    expect(Object.keys(model.stateDict())).toContain("decoder.layers.1.multihead_attn.in_proj_weight");
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new TransformerEncoderLayer(8, 2, { feedforward: 3 } as never)).toThrow(
      "TransformerEncoderLayer: unknown option feedforward",
    );
    expect(() => new TransformerDecoderLayer(8, 2, { activation: "swoosh" })).toThrow(
      'activation: unknown name "swoosh"',
    );
    expect(() => new TransformerEncoder(() => new TransformerEncoderLayer(8, 2), 0)).toThrow(
      "numLayers must be a positive integer",
    );
    const decoder = new TransformerDecoder(() => new TransformerDecoderLayer(8, 2, { dimFeedforward: 8 }), 1);
    expect(() => decoder.forward(rand(2, 1, 8), rand(3, 1, 8), { mask: rand(2, 2) } as never)).toThrow(
      "unknown option mask",
    );
  });
});

test("LayerNorm without weight or bias, and over several dims", async () => {
  const x = randn(2, 3, 4);
  const plain = new LayerNorm([3, 4], 1e-5, { elementwiseAffine: false });
  expect(plain.parameters()).toEqual([]);
  expect(await plain.forward(x).mean([1, 2]).abs().max().item()).toBeLessThan(1e-6);
  expect(Object.keys(new LayerNorm(4, 1e-5, { bias: false }).stateDict())).toEqual(["weight"]);
  expect(() => plain.forward(rand(3, 5))).toThrow("LayerNorm: expected [..., 3,4], got [3,5]");
  expect(() => new LayerNorm([])).toThrow("LayerNorm: expected at least one dim");
});
