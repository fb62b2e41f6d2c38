/** Beam search by the rules of Hugging Face: which beams continue, when one is finished, when to stop. */

import { cat, noGrad, tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { KVCache } from "./cache.ts";
import { FORBIDDEN, LogitsProcessor } from "./logits.ts";
import type { CausalLM } from "./model.ts";
import { type CheckedOptions, checkOptions, endTokens, type GenerateOptions, type Prompt } from "./options.ts";
import { nextLogits, prefill } from "./pass.ts";

export interface Beam {
  /** New token ids, without the end token. */
  readonly ids: number[];
  /** Sum of log-probabilities, the end token included, divided by length ^ lengthPenalty. */
  readonly score: number;
}

interface Running {
  readonly ids: readonly number[];
  readonly sum: number;
  /** Row in the batch of the beam that it continues. */
  readonly from: number;
}

/** The search of one sample. */
class Search {
  readonly finished: Beam[] = []; // best first
  done = false;

  constructor(
    readonly beams: number,
    readonly options: CheckedOptions,
  ) {}

  #score(sum: number, length: number): number {
    return sum / length ** (this.options.lengthPenalty ?? 1);
  }

  finish(ids: readonly number[], sum: number, length: number): void {
    this.finished.push({ ids: [...ids], score: this.#score(sum, length) });
    this.finished.sort((a, b) => b.score - a.score);
    this.finished.length = Math.min(this.finished.length, this.beams);
  }

  /** Whether the search ends. @param best sum of the likeliest candidate, of `length` tokens */
  settle(best: number, length: number): void {
    const { earlyStopping = false, lengthPenalty = 1, maxNewTokens } = this.options;
    if (this.done || this.finished.length < this.beams) return;
    const at = earlyStopping === "never" && lengthPenalty > 0 ? maxNewTokens : length;
    this.done = earlyStopping === true || this.finished[this.beams - 1].score >= this.#score(best, at);
  }
}

/** Continues every sample by beam search: `numBeams` results each, best first. */
export async function beamSearch(model: CausalLM, prompt: Prompt, options: GenerateOptions): Promise<Beam[][]> {
  const checked = checkOptions(model, prompt, options);
  const { numBeams: K = 1, maxNewTokens, signal } = checked;
  const V = model.config.vocab_size;
  const b = prompt.lengths.length;
  const ends = endTokens(model, options);
  // Enough that K of them continue, even if each beam has all its end tokens among them.
  const candidates = Math.min(K * V, K * (1 + Math.max(1, ends.size)));
  const { stopStrings = [], tokenizer } = checked;
  const stops = (ids: readonly number[]) =>
    stopStrings.length > 0 && stopStrings.some((stop) => tokenizer!.decode(ids).includes(stop));
  const repeated = Array.from({ length: b * K }, (_, i) => Math.floor(i / K));
  const processor = new LogitsProcessor(
    model,
    repeated.map((s) => prompt.history[s]),
    checked,
  );
  const searches = Array.from({ length: b }, () => new Search(K, checked));
  let running: Running[] = repeated.map((_, i) => ({ ids: [], sum: i % K ? FORBIDDEN : 0, from: i }));
  let cache: KVCache;
  for (let length = 1; length <= maxNewTokens && !searches.every(({ done }) => done); length++) {
    signal?.throwIfAborted();
    const found = await noGrad(() => {
      let logits: Tensor; // [B * K, V]
      if (length === 1) {
        const begun = prefill(model, prompt, maxNewTokens, options);
        cache = begun.cache.copy(repeated);
        logits = begun.logits.indexSelect(0, tensor(Int32Array.from(repeated)));
      } else {
        const tokens = Int32Array.from(running, ({ ids }) => ids[ids.length - 1]);
        const order = running.map(({ from }) => from);
        cache.reorder(order);
        processor.reorder(order);
        processor.push(tokens);
        processor.add(tensor(tokens));
        logits = nextLogits(model, tensor(tokens, { shape: [b * K, 1] }), cache);
      }
      const sums = tensor(
        Float32Array.from(running, ({ sum }) => sum),
        { shape: [b * K, 1] },
      );
      const scores = processor.apply(logits.logSoftmax(-1)).add(sums); // [B * K, V]
      const { values, indices } = scores.reshape([b, K * V]).topk(candidates); // [B, candidates]
      return cat([values, indices.float()], 1).data();
    });
    const before = running;
    running = searches.flatMap((search, s) => {
      const row = found.subarray(s * 2 * candidates, (s + 1) * 2 * candidates);
      const next: Running[] = [];
      for (let rank = 0; rank < candidates && next.length < K && !search.done; rank++) {
        const [sum, place] = [row[rank], row[candidates + rank]];
        if (sum < FORBIDDEN / 2) break; // sorted: only forbidden ones follow
        const from = s * K + Math.floor(place / V);
        const ids = [...before[from].ids, place % V];
        if (!ends.has(place % V)) {
          if (processor.choices?.isLast(ids) || stops(ids)) search.finish(ids, sum, length);
          else next.push({ ids, sum, from });
        } else if (rank < K) search.finish(before[from].ids, sum, length);
      }
      if (next.length === 0) search.done = true;
      search.settle(row[0], length);
      const idle: Running = { ids: [...before[s * K].ids, 0], sum: FORBIDDEN, from: s * K };
      return Array.from({ length: K }, (_, k) => next[k] ?? idle);
    });
  }
  searches.forEach((search, s) => {
    if (search.done) return;
    for (const { ids, sum } of running.slice(s * K, (s + 1) * K))
      if (sum > FORBIDDEN / 2) search.finish(ids, sum, ids.length);
  });
  return searches.map(({ finished }) => finished);
}
