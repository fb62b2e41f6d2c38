/**
 * Prompt lookup (speculative decoding without a second model, arXiv 2304.04487): what followed the last tokens where
 * they came before is proposed, and one pass checks all of it. Each token is drawn from its own logits by its own random
 * number, so the tokens are those of single steps.
 */

import { drawSeed } from "../graph/generator.ts";
import { noGrad, tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { draw, type NewToken, readTokens, uniformAt } from "./draw.ts";
import { LogitsProcessor } from "./logits.ts";
import type { CausalLM } from "./model.ts";
import { type CheckedOptions, type Prompt, samplingSettings } from "./options.ts";
import { nextLogits, prefill } from "./pass.ts";

/** The tokens of one sample, one at a time. Passes have one token, or all of a proposal: two plans. */
export async function* lookupTokens(
  model: CausalLM,
  prompt: Prompt,
  options: CheckedOptions,
): AsyncGenerator<readonly NewToken[]> {
  const { maxNewTokens, seed = drawSeed(), logprobs, signal } = options;
  const { promptLookupNumTokens: most = 0, maxMatchingNgramSize = 2 } = options;
  const settings = samplingSettings(options);
  const processor = new LogitsProcessor(model, prompt.history, options);
  const known = [...prompt.history[0]];
  let made = 0;
  /** Reads the tokens at `made` and the places behind it. */
  const read = (logits: Tensor): Promise<NewToken[]> => {
    const uniform = Array.from({ length: logits.shape[0] }, (_, i) => uniformAt(seed, made + i, 0));
    return readTokens(draw({ scores: processor.apply(logits), logits, settings, uniform, logprobs }).packed, logprobs);
  };
  const begun = noGrad(() => {
    const { cache, logits } = prefill(model, prompt, maxNewTokens + most, options);
    return { cache, first: read(logits) };
  });
  const { cache } = begun;
  let tokens = await begun.first;
  while (true) {
    for (const token of tokens) {
      known.push(token.id);
      yield [token];
      if (++made === maxNewTokens) return;
    }
    signal?.throwIfAborted();
    const proposal = propose(known, most, maxMatchingNgramSize);
    const fed = new Int32Array(proposal.length ? most + 1 : 1); // a shorter proposal is padded
    fed.set([known[known.length - 1], ...proposal]);
    const past = cache.lengths[0];
    const drawn = await noGrad(() => read(nextLogits(model, tensor(fed, { shape: [1, fed.length] }), cache)));
    let right = 0;
    while (right < proposal.length && proposal[right] === drawn[right].id) right++;
    tokens = drawn.slice(0, right + 1);
    cache.lengths = [past + tokens.length]; // what was wrong is overwritten
  }
}

/** What followed the last tokens where they came before: the longest match, its first place. */
function propose(ids: readonly number[], most: number, longest: number): number[] {
  for (let n = Math.min(longest, ids.length - 1); n > 0; n--) {
    const last = ids.length - n;
    for (let i = 0; i < last; i++) {
      let j = 0;
      while (j < n && ids[i + j] === ids[last + j]) j++;
      if (j === n) return ids.slice(i + n, i + n + most);
    }
  }
  return [];
}
