import { LlamaForCausalLM } from "../models/index.ts";
import { generate, textPrompt } from "../src/generate/index.ts";
import { manualSeed, synchronize } from "../src/index.ts";
import { round } from "./clock.ts";
import { type Machine, measure, print, type Row } from "./harness.ts";

const TOKENS = 64;
const PROMPT = 128;
const config = {
  vocab_size: 4096,
  hidden_size: 256,
  intermediate_size: 688,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  eos_token_id: -1, // never occurs: every run generates the same number of tokens
};

/** Greedy generation by a small LLaMA with random weights: time to the first token, then tokens per second. */
export async function benchGeneration(machine: Machine, only: (name: string) => boolean): Promise<Row[]> {
  manualSeed(1);
  const model = new LlamaForCausalLM(config);
  const prompt = Array.from({ length: PROMPT }, (_, i) => (i * 37) % config.vocab_size);
  const rows: Row[] = [];
  for (const [name, batch, tokens] of [
    ["prefill_128", 1, 1],
    ["decode_64", 1, TOKENS],
    ["decode_64_batch_8", 8, TOKENS],
  ] as const) {
    if (!only(name)) continue;
    const run = async () => {
      const prompts = Array.from({ length: batch }, () => (tokens === 1 ? prompt : prompt.slice(0, 1)));
      const ids = await generate(model, textPrompt(model, prompts), { maxNewTokens: tokens });
      await synchronize();
      if (ids.some((row) => row.length !== tokens))
        throw new Error(`${name}: expected ${tokens} tokens per row, got ${ids.map((r) => r.length)}`);
    };
    const count = tokens === 1 ? PROMPT : batch * tokens;
    const row = await measure({ name, run, extra: (ms) => ({ "tokens/s": round((1000 * count) / ms) }) }, machine);
    print(row);
    rows.push(row);
  }
  return rows;
}
