/**
 * What typical graphs compile to: a line a kernel, "prologue→kernel→epilogue", its output and grid. A change here is a
 * change of every user's plan; `npx vitest run tests/compile/snapshots.test.ts -u` updates the snapshots.
 */
import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { AdamW, decayMatrices, Linear, quantize, quantizedLinear } from "../../src/nn/index.ts";
import { planAs } from "../support/plans.ts";

const float = (...shape: number[]): sg.Tensor =>
  sg.tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), { shape }).requiresGrad_();
const ids = (...shape: number[]): sg.Tensor => sg.tensor(new Int32Array(shape.reduce((a, b) => a * b, 1)), { shape });

const [B, T, H, D] = [2, 64, 4, 32]; // batch, tokens, heads, dims a head
const W = H * D;

/** [B, T, W] to [B, H, T, D], and back. */
const split = (x: sg.Tensor): sg.Tensor => x.reshape([x.shape[0], x.shape[1], -1, D]).transpose(1, 2);
const join = (x: sg.Tensor): sg.Tensor => x.transpose(1, 2).reshape([x.shape[0], x.shape[2], -1]);

const attention = (x: sg.Tensor, [q, k, v, o]: sg.Tensor[]): sg.Tensor => {
  const [a, b, c] = [q, k, v].map((w) => split(sg.linear(x, w)));
  return sg.linear(join(sg.scaledDotProductAttention(a, b, c, { isCausal: true })), o);
};
const square = () => [1, 2, 3, 4].map(() => float(W, W));

describe("on a software adapter", () => {
  beforeAll(() => planAs("software"));

  test("MLP, forward", async () => {
    const y = sg.linear(sg.linear(float(B * T, W), float(4 * W, W), float(4 * W)).gelu(), float(W, 4 * W), float(W));
    expect(await sg.explain(y)).toMatchInlineSnapshot(`
      "   0  transpose                                [128,512] f32  1x8x1 workgroups
         1  matmul→add·gelu                          [128,512] f32  4x16x1 workgroups
         2  matmul→add                               [128,128] f32  4x4x1 workgroups
      3 kernels, 3 pipelines, 384 KiB (at least 384 are alive at once)"
    `);
  });

  test("MLP, loss and gradients", async () => {
    const [x, y, w1, b1, w2] = [float(B * T, W), float(B * T, 8), float(4 * W, W), float(4 * W), float(8, 4 * W)];
    const loss = sg.mseLoss(sg.linear(sg.linear(x, w1, b1).gelu(), w2), y);
    expect(await sg.explain(loss, ...sg.grad(loss, [w1, b1, w2]))).toMatchInlineSnapshot(`
      "   0  transpose                                [128,512] f32  1x8x1 workgroups
         1  matmul→add                               [128,512] f32  4x16x1 workgroups
         2  gelu                                     [128,512] f32  256x1x1 workgroups
         3  matmul                                   [128,8] f32  8x1x1 workgroups
         4  sum_parts→sub                            [128,8] f32  4x1x1 workgroups
         5  sum(square)                              [1,1] f32  1x1x1 workgroups
         6  full·full·div·mul·full·mul               [128,8] f32  4x1x1 workgroups
         7  matmul                                   [8,512] f32  1x16x1 workgroups
         8  transpose                                [128,512] f32  1x1x1 workgroups
         9  matmul→gelu_slope·mul                    [128,512] f32  4x16x1 workgroups
        10  sum(copy)                                [1,512] f32  4x1x1 workgroups
        11  sum(copy) finish                         [1,512] f32  8x1x1 workgroups
        12  matmul                                   [512,128] f32  16x4x1 workgroups
      13 kernels, 12 pipelines, 798 KiB (at least 798 are alive at once)"
    `);
  });

  test("attention block, forward", async () => {
    expect(await sg.explain(attention(float(B, T, W), square()))).toMatchInlineSnapshot(`
      "   0  matmul                                   [128,128] f32  4x4x1 workgroups
         1  matmul                                   [128,128] f32  4x4x1 workgroups
         2  matmul                                   [128,128] f32  4x4x1 workgroups
         3  attention                                [2,64,4,32] f32  4x4x2 workgroups
         4  matmul                                   [128,128] f32  4x4x1 workgroups
      5 kernels, 2 pipelines, 324 KiB (at least 324 are alive at once)"
    `);
  });

  test("attention block, gradients", async () => {
    const [x, w] = [float(B, T, W), square()];
    const loss = attention(x, w).square().sum();
    expect(await sg.explain(...sg.grad(loss, [x, ...w]))).toMatchInlineSnapshot(`
      "   0  matmul                                   [128,128] f32  4x4x1 workgroups
         1  matmul                                   [128,128] f32  4x4x1 workgroups
         2  matmul                                   [128,128] f32  4x4x1 workgroups
         3  attention                                [2,64,4,32] f32  4x4x2 workgroups
         4  matmul                                   [128,128] f32  4x4x1 workgroups
         5  full·mul·full·mul                        [2,64,128] f32  64x1x1 workgroups
         6  matmul                                   [128,128] f32  4x4x1 workgroups
         7  matmul                                   [128,128] f32  4x4x1 workgroups
         8  attention_stats                          [2,64,4,32] f32  1x4x2 workgroups
         9  attention_dq                             [2,64,4,32] f32  4x4x2 workgroups
        10  attention_dkv                            [2,64,4,32] f32  4x4x2 workgroups
        11  matmul                                   [128,128] f32  4x4x1 workgroups
        12  matmul                                   [128,128] f32  4x4x1 workgroups
        13  matmul                                   [128,128] f32  4x4x1 workgroups
        14  matmul                                   [128,128] f32  4x4x1 workgroups
        15  matmul→add·add                           [2,64,128] f32  4x4x1 workgroups
        16  matmul                                   [128,128] f32  4x4x1 workgroups
      17 kernels, 9 pipelines, 776 KiB (at least 776 are alive at once)"
    `);
  });

  test("softmax chain: scale, mask, softmax, weights", async () => {
    const scores = float(B, H, T, T).mul(0.125).maskedFill(float(T, T).detach().gt(0), -1e9).softmax(-1);
    expect(await sg.explain(scores.mul(float(B, H, T, 1)))).toMatchInlineSnapshot(`
      "   0  full·gt·full·full·mul·where→softmax→mul  [2,4,64,64] f32  64x1x1 workgroups
      1 kernels, 1 pipelines, 128 KiB (at least 128 are alive at once)"
    `);
  });

  test("LLaMA block", async () => {
    const [x, n1, n2, at] = [float(B, T, W), float(W), float(W), ids(T)];
    const [q, k, v, o] = [float(W, W), float(W / 2, W), float(W / 2, W), float(W, W)];
    const [gate, up, down] = [float(3 * W, W), float(3 * W, W), float(W, 3 * W)];
    const h = sg.rmsNorm(x, n1);
    const [a, b, c] = [q, k, v].map((w) => split(sg.linear(h, w)));
    const mixed = sg.scaledDotProductAttention(sg.rope(a, at), sg.rope(b, at), c, { isCausal: true });
    const y = x.add(sg.linear(join(mixed), o));
    const z = sg.rmsNorm(y, n2);
    const out = y.add(sg.linear(sg.linear(z, gate).silu().mul(sg.linear(z, up)), down));
    expect(await sg.explain(out)).toMatchInlineSnapshot(`
      "   0  norm                                     [2,64,128] f32  16x1x1 workgroups
         1  matmul                                   [128,128] f32  4x4x1 workgroups
         2  matmul                                   [128,64] f32  4x2x1 workgroups
         3  matmul                                   [128,64] f32  4x2x1 workgroups
         4  rope                                     [2,64,4,32] f32  256x1x1 workgroups
         5  rope                                     [2,64,2,32] f32  256x1x1 workgroups
         6  attention                                [2,64,4,32] f32  8x2x2 workgroups
         7  matmul→add                               [2,64,128] f32  4x4x1 workgroups
         8  norm                                     [2,64,128] f32  16x1x1 workgroups
         9  transpose                                [128,384] f32  1x8x1 workgroups
        10  matmul                                   [128,384] f32  4x12x1 workgroups
        11  matmul→silu·mul                          [2,64,384] f32  4x12x1 workgroups
        12  matmul→add                               [2,64,128] f32  4x4x1 workgroups
      13 kernels, 8 pipelines, 580 KiB (at least 576 are alive at once)"
    `);
  });

  test("convolution, bias, relu, pooling", async () => {
    const y = sg.conv2d(float(2, 8, 16, 16), float(16, 8, 3, 3), float(16), { padding: 1 }).relu();
    expect(await sg.explain(sg.maxPool2d(y, 2))).toMatchInlineSnapshot(`
      "   0  pad                                      [2,8,18,18] f32  81x1x1 workgroups
         1  conv→add·relu                            [2,16,16,16] f32  16x1x1 workgroups
         2  max_pool                                 [2,16,8,8] i32  256x1x1 workgroups
         3  gather                                   [2,16,64] f32  8x1x1 workgroups
      4 kernels, 4 pipelines, 60 KiB (at least 60 are alive at once)"
    `);
  });

  test("layer norm of a residual sum, and the sum", async () => {
    const sum = float(B * T, W).add(float(B * T, W));
    expect(await sg.explain(sg.layerNorm(sum, float(W), float(W)), sum)).toMatchInlineSnapshot(`
      "   0  add→norm                                 [128,128] f32  16x1x1 workgroups
      1 kernels, 1 pipelines, 128 KiB (at least 128 are alive at once)"
    `);
  });

  test("embedding to loss, with the gradient of the table", async () => {
    const [table, head] = [float(500, W), float(500, W)];
    const logits = sg.linear(sg.embedding(ids(B, T), table), head).reshape([B * T, 500]);
    const loss = sg.crossEntropy(logits, ids(B * T));
    expect(await sg.explain(loss, ...sg.grad(loss, [table, head]))).toMatchInlineSnapshot(`
      "   0  gather                                   [128,128] f32  64x1x1 workgroups
         1  transpose                                [128,500] f32  1x8x1 workgroups
         2  matmul                                   [128,500] f32  4x16x1 workgroups
         3  cross_entropy                            [128] f32  16x1x1 workgroups
         4  sum(full·ne·cast)                        [1] i32  1x1x1 workgroups
         5  sum(copy)                                [1] f32  1x1x1 workgroups
         6  full·cast·full·eq·full·+2                [128] f32  1x1x1 workgroups
         7  cross_entropy_backward                   [128,500] f32  16x1x1 workgroups
         8  matmul                                   [128,128] f32  4x4x1 workgroups
         9  matmul                                   [500,128] f32  16x4x1 workgroups
        10  index_add_serial                         [500,128] f32  16x1x1 workgroups
        11  index_add_serial                         [500,128] f32  4x1x1 workgroups
      12 kernels, 11 pipelines, 1065 KiB (at least 1065 are alive at once)"
    `);
  });

  test("AdamW step with clipping", async () => {
    const layer = new Linear(W, 8);
    const optimizer = new AdamW(decayMatrices(layer.parameters(), 0.1), { lr: 1e-3, maxNorm: 1 });
    layer
      .forward(float(B * T, W))
      .square()
      .mean()
      .backward();
    expect((await optimizer.plan())!.text).toMatchInlineSnapshot(`
      "   0  matmul→add                               [128,8] f32  4x1x1 workgroups
         1  sum(square)                              [1,1] f32  1x1x1 workgroups
         2  full·full·div·mul·full·mul               [128,8] f32  4x1x1 workgroups
         3  sum(copy)                                [1,8] f32  1x1x1 workgroups
         4  matmul                                   [8,128] f32  1x4x1 workgroups
         5  sum(square)                              [1] f32  1x1x1 workgroups
         6  sum(square)                              [] f32  1x1x1 workgroups
         7  pad·full·add·div·full·+3                 [8] f32  1x1x1 workgroups
         8  adamw                                    [1024] f32  2x1x1 workgroups
         9  pad·full·add·div·full·+3                 [8] f32  1x1x1 workgroups
        10  adamw                                    [64] f32  1x1x1 workgroups"
    `);
  });

  test("one token with a cache of keys and values", async () => {
    const [x, q, k, v] = [float(B, 1, W), float(W, W), float(W, W), float(W, W)];
    const [keys, values, at] = [float(B, H, 128, D), float(B, H, 128, D), sg.tensor([5, 9], { dtype: "i32" })];
    const [a, b, c] = [q, k, v].map((w) => split(sg.linear(x, w)));
    const [K, V] = [sg.writeAt(keys.detach(), b, at), sg.writeAt(values.detach(), c, at)];
    const y = join(sg.scaledDotProductAttention(a, K, V, { lengths: at.add(1) }));
    expect(await sg.explain(y, K, V)).toMatchInlineSnapshot(`
      "   0  matmul                                   [2,128] f32  1x4x1 workgroups
         1  matmul                                   [2,128] f32  1x4x1 workgroups
         2  matmul                                   [2,128] f32  1x4x1 workgroups
         3  copy                                     [2,4,128,32] f32  128x1x1 workgroups
         4  write_at                                 [2,4,128,32] f32  1x4x2 workgroups
         5  copy                                     [2,4,128,32] f32  128x1x1 workgroups
         6  write_at                                 [2,4,128,32] f32  1x4x2 workgroups
         7  full·add                                 [2] i32  1x1x1 workgroups
         8  attention                                [2,1,4,32] f32  1x4x2 workgroups
      9 kernels, 5 pipelines, 260 KiB (at least 260 are alive at once)"
    `);
  });

  test("one row times quantised weights", async () => {
    const weight = quantize(new Float32Array(4 * W * W), [4 * W, W], { format: "int4", group: 32 });
    await Promise.all(Object.values(weight.stateDict()).map((t) => t.data())); // quantised before, as a checkpoint is
    expect(await sg.explain(quantizedLinear(float(1, W), weight).gelu())).toMatchInlineSnapshot(`
      "   0  matvec_quantized→gelu                    [1,512] f32  32x1x1 workgroups
      1 kernels, 1 pipelines, 4 KiB (at least 4 are alive at once)"
    `);
  });

  test("a reduction with prologue and epilogue", async () => {
    const x = float(B * T, W);
    expect(await sg.explain(x.sub(1).square().mean(1).add(1e-5).rsqrt())).toMatchInlineSnapshot(`
      "   0  sum(full·sub·square)                     [128] f32  2x1x1 workgroups
      1 kernels, 1 pipelines, 1 KiB (at least 1 are alive at once)"
    `);
  });

  test("a broadcast chain is one kernel", async () => {
    const y = float(B, T, W)
      .mul(float(W))
      .add(float(T, 1))
      .sigmoid()
      .mul(float(B, 1, 1))
      .flip(1);
    expect(await sg.explain(y)).toMatchInlineSnapshot(`
      "   0  mul·add·sigmoid·mul                      [2,64,128] f32  64x1x1 workgroups
      1 kernels, 1 pipelines, 64 KiB (at least 64 are alive at once)"
    `);
  });
});

describe("on a GPU", () => {
  beforeAll(() => planAs("discrete"));

  test("MLP, forward", async () => {
    const y = sg.linear(sg.linear(float(B * T, W), float(4 * W, W), float(4 * W)).gelu(), float(W, 4 * W), float(W));
    expect(await sg.explain(y)).toMatchInlineSnapshot(`
      "   0  matmul_workgroup→add·gelu                [128,512] f32  16x1x1 workgroups
         1  matmul_workgroup                         [128,128] f32  8x1x1 workgroups
         2  sum_parts→add                            [128,128] f32  64x1x1 workgroups
      3 kernels, 3 pipelines, 448 KiB (at least 448 are alive at once)"
    `);
  });

  test("attention block, forward", async () => {
    expect(await sg.explain(attention(float(B, T, W), square()))).toMatchInlineSnapshot(`
      "   0  matmul_workgroup                         [128,128] f32  4x1x1 workgroups
         1  matmul_workgroup                         [128,128] f32  4x1x1 workgroups
         2  matmul_workgroup                         [128,128] f32  4x1x1 workgroups
         3  attention_tiled                          [2,64,4,32] f32  1x4x2 workgroups
         4  matmul_workgroup                         [128,128] f32  4x1x1 workgroups
      5 kernels, 2 pipelines, 324 KiB (at least 324 are alive at once)"
    `);
  });
});
