import { describe, expect, test } from "vitest";
import { LlamaForCausalLM } from "../../models/index.ts";
import { generate, textPrompt } from "../../src/generate/index.ts";
import { full, init, sample, tensor } from "../../src/index.ts";

describe.each(["webgpu", "reference"] as const)("NaN logits on %s", (backend) => {
  test.each([0, 0.7])("give no token at temperature %f; other rows draw as usual", async (temperature) => {
    await init({ backend, tune: false });
    const logits = tensor([
      [1, NaN, 9],
      [-50, 50, -50],
      [NaN, NaN, NaN],
    ]);
    const ids = sample(logits, tensor([[temperature, 2, 0.9, 0]]), tensor([0.1, 0.5, 0.9]));
    expect([...(await ids.data())]).toEqual([-1, 1, -1]);
  });

  test("are an error of generate, and the next op works", async () => {
    await init({ backend, tune: false });
    const model = new LlamaForCausalLM({
      model_type: "llama",
      vocab_size: 20,
      hidden_size: 16,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
    });
    for (const p of model.parameters()) p.node = full(p.shape, NaN).node;
    for (const numBeams of [1, 2]) {
      const ids = generate(model, textPrompt(model, [[5]]), { maxNewTokens: 3, eosTokenId: [], numBeams });
      await expect(ids).rejects.toThrow(/generate: the logits of sample 0 have NaN/);
      expect([...(await tensor([1]).add(1).data())]).toEqual([2]);
    }
  });
});
