import { expect, test } from "vitest";
import { LlamaForCausalLM } from "../../models/llama.ts";
import { steps, textPrompt } from "../../src/generate/generate.ts";
import { init, manualSeed, memoryStats } from "../../src/index.ts";

test("1,000 tokens leave live bytes, buffers, plans and pipelines as they were", async () => {
  await init({ backend: "webgpu" });
  manualSeed(1);
  const model = new LlamaForCausalLM({
    vocab_size: 128,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 2,
  });
  const options = { maxNewTokens: 1000, temperature: 1, repetitionPenalty: 1.1, seed: 5 };
  let settled: ReturnType<typeof memoryStats> | undefined;
  let previous: Promise<Int32Array> | undefined;
  let count = 0;
  for (const step of steps(model, textPrompt(model, [[1, 2, 3], [4]]), options)) {
    await previous;
    previous = step.ids;
    if (++count === 10) settled = memoryStats();
  }
  expect((await previous)!.length).toBe(2);
  expect(count).toBe(1000);
  expect(memoryStats()).toEqual(settled);
  expect(settled!.plans).toBeLessThanOrEqual(3);
});
