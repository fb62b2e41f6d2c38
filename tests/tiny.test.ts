/** A bit of everything in seconds: run it before a commit (`npx vitest run tests/tiny.test.ts`). */
import { beforeAll, expect, test } from "vitest";
import { LlamaForCausalLM } from "../models/llama.ts";
import { generate, textPrompt } from "../src/generate/generate.ts";
import { memoryFiles, saveSafetensors, TensorFiles } from "../src/io/index.ts";
import { AdamW, Linear } from "../src/nn/index.ts";
import { crossEntropy, grad, manualSeed, rand, tensor } from "../src/ops/functional.ts";
import { openBackend } from "./support/backend.ts";

beforeAll(async () => {
  await openBackend();
  manualSeed(7);
});

test("an op", async () => {
  const x = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  expect(await x.matmul(x.t()).add(1).tolist()).toEqual([
    [15, 33],
    [33, 78],
  ]);
});

test("a gradient", async () => {
  const x = tensor([0.5, -2], { requiresGrad: true });
  const [dx] = grad(x.mul(x).mul(x).sum(), [x]);
  expect(await dx.tolist()).toEqual([0.75, 12]);
});

test("training", async () => {
  const layer = new Linear(6, 3);
  const optimizer = new AdamW(layer.parameters(), { lr: 0.1 });
  const x = rand(64, 6);
  const losses: number[] = [];
  for (let step = 0; step < 20; step++) {
    const loss = crossEntropy(layer.forward(x), x.narrow(1, 0, 3).argmax(1));
    loss.backward();
    await optimizer.step();
    losses.push(await loss.item());
  }
  expect(losses[19]).toBeLessThan(0.7 * losses[0]);
});

test("generation", async () => {
  const model = new LlamaForCausalLM({
    vocab_size: 24,
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
  });
  const [ids] = await generate(model, textPrompt(model, [[3, 4, 5]]), { maxNewTokens: 5, eosTokenId: [] });
  const { logits } = model.forward({ inputIds: tensor([[3, 4, 5, ...ids]], { dtype: "i32" }) });
  const likeliest = await logits.narrow(1, 2, 5).argmax(-1).data();
  expect(ids).toEqual([...likeliest]); // the cached decode equals one full forward pass
});

test("a checkpoint", async () => {
  const files = memoryFiles();
  const value = rand(3, 5);
  const want = await value.data();
  await saveSafetensors(files, "x.safetensors", { x: { shape: [3, 5], dtype: "f32", read: async () => want } });
  expect((await (await TensorFiles.open(files, "x.safetensors")).read("x")).data).toEqual(want);
});
