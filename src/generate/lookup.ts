/**
 * Prompt lookup: speculative decoding without a second model (arXiv 2304.04487). The proposal is the text that followed an earlier
 * occurrence of the last tokens; one pass checks all of it. Each token is drawn from its own logits with its own random
 * number, so the tokens equal those of single steps.
 */

import { drawSeed } from "../graph/generator.ts";
import { noGrad, tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { draw, type NewToken, readTokens, uniformAt } from "./draw.ts";
import { LogitsProcessor } from "./logits.ts";
import type { CausalLM } from "./model.ts";
import { type CheckedOptions, type Prompt, samplingSettings } from "./options.ts";
import { nextLogits, prefill } from "./pass.ts";

/** Yields the tokens of one sample, one by one. A pass has one token or a whole proposal, so there are two plans. */
export async function* lookupTokens(
  model: CausalLM,
  prompt: Prompt,
  options: CheckedOptions,
): AsyncGenerator<readonly NewToken[]> {
  const { maxNewTokens, seed = drawSeed(), logprobs, signal } = options;
  const { promptLookupNumTokens: maxProposal = 0, maxMatchingNgramSize = 2 } = options;
  const settings = samplingSettings(options);
  const processor = new LogitsProcessor(model, prompt.history, options);
  const known = [...prompt.history[0]];
  let count = 0;
  /** Draws the tokens from index `count` on. */
  const drawFrom = (logits: Tensor): Tensor => {
    const uniform = Array.from({ length: logits.shape[0] }, (_, i) => uniformAt(seed, count + i, 0));
    return draw({ scores: processor.apply(logits), logits, settings, uniform, logprobs }).packed;
  };
  const begun = noGrad(() => {
    const { cache, logits } = prefill(model, prompt, maxNewTokens + maxProposal, options);
    return { cache, first: drawFrom(logits) };
  });
  const { cache } = begun;
  let tokens = await readTokens(begun.first, logprobs);
  while (true) {
    for (const token of tokens) {
      known.push(token.id);
      yield [token];
      if (++count === maxNewTokens) return;
    }
    signal?.throwIfAborted();
    const proposal = propose(known, maxProposal, maxMatchingNgramSize);
    const input = new Int32Array(proposal.length ? maxProposal + 1 : 1); // a shorter proposal is padded
    input.set([known[known.length - 1], ...proposal]);
    const past = cache.lengths[0];
    // Reading stays outside of noGrad: inside, browsers would record no gradients elsewhere until the values are there.
    const packed = noGrad(() => drawFrom(nextLogits(model, tensor(input, { shape: [1, input.length] }), cache)));
    const drawn = await readTokens(packed, logprobs);
    let accepted = 0;
    while (accepted < proposal.length && proposal[accepted] === drawn[accepted].id) accepted++;
    tokens = drawn.slice(0, accepted + 1);
    cache.lengths = [past + tokens.length]; // rejected tokens are overwritten
  }
}

/** The tokens after an earlier occurrence of the last tokens: of the longest match, its first occurrence. */
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
