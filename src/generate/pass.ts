/** The forward passes of generation: over a prompt, and over the tokens after it. */

import { tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { bucket } from "./batch.ts";
import type { KVCache } from "./cache.ts";
import type { CausalLM } from "./model.ts";
import type { GenerateOptions, Prompt } from "./options.ts";

/** Runs the prompt. Returns its cache, with room for `more` tokens, and the logits [B, V] after each sample. */
export function prefill(
  model: CausalLM,
  prompt: Prompt,
  more: number,
  { cacheType }: GenerateOptions,
): { cache: KVCache; logits: Tensor } {
  const [b, t, d] = prompt.embeds.shape;
  const cache = prompt.cache ?? model.cache(b, bucket(Math.max(t, ...prompt.lengths.map((n) => n + more))), cacheType);
  const past = [...cache.lengths];
  const { embeds: inputsEmbeds, modality } = prompt;
  const hidden = model.model.forward({ inputsEmbeds, modality, cache }).pop()!; // [B, T, D]
  cache.lengths = past.map((n, s) => n + prompt.lengths[s]);
  const last = tensor(Int32Array.from(prompt.lengths, (n, s) => s * t + n - 1));
  return { cache, logits: model.logits(hidden.reshape([b * t, d]).indexSelect(0, last)) };
}

/** Logits [B * T, V] of tokens i32 [B, T] that follow those in the cache. */
export function nextLogits(model: CausalLM, tokens: Tensor, cache: KVCache): Tensor {
  const hidden = model.model.forward({ inputsEmbeds: model.model.embed(tokens), cache }).pop()!; // [B, T, D]
  return model.logits(hidden.reshape([tokens.numel, hidden.shape[2]]));
}
