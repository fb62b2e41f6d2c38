/** Beam search by the rules of Hugging Face: which beams continue, when one is finished, when to stop. */

import { cat, noGrad, tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { KVCache } from "./cache.ts";
import { nanLogits } from "./draw.ts";
import { FORBIDDEN, LogitsProcessor } from "./logits.ts";
import type { CausalLM } from "./model.ts";
import { type CheckedOptions, checkOptions, endTokens, type GenerateOptions, type Prompt } from "./options.ts";
import { nextLogits, prefill } from "./pass.ts";

/** A result of the search. */
export interface Beam {
  /** New token ids, without the end token. */
  readonly ids: number[];
  /** Sum of log-probabilities, the end token included, divided by length ^ lengthPenalty. */
  readonly score: number;
}

/** A beam that is not finished. */
interface Running {
  readonly ids: readonly number[];
  /** Sum of log-probabilities. */
  readonly sum: number;
  /** Row in the batch of the beam that it continues. */
  readonly from: number;
}

/** The search of one sample. */
class Search {
  readonly finished: Beam[] = []; // best first
  done = false;

  /** @param first row of its first beam in the batch */
  constructor(
    readonly first: number,
    readonly beams: number,
    readonly options: CheckedOptions,
  ) {}

  #score(sum: number, length: number): number {
    return sum / length ** (this.options.lengthPenalty ?? 1);
  }

  /** Adds a result. `length` includes the end token. */
  finish(ids: readonly number[], sum: number, length: number): void {
    this.finished.push({ ids: [...ids], score: this.#score(sum, length) });
    this.finished.sort((a, b) => b.score - a.score);
    this.finished.length = Math.min(this.finished.length, this.beams);
  }

  /** Marks the search as done if no running beam can win. `best`: sum of the likeliest candidate, of `length` tokens. */
  settle(best: number, length: number): void {
    const { earlyStopping = false, lengthPenalty = 1, maxNewTokens } = this.options;
    if (this.done || this.finished.length < this.beams) return;
    const at = earlyStopping === "never" && lengthPenalty > 0 ? maxNewTokens : length;
    this.done = earlyStopping === true || this.finished[this.beams - 1].score >= this.#score(best, at);
  }

  /** The beams after a step: `before`, continued by the best candidates. Finished beams leave; idle ones take their rows. */
  advance(candidates: Candidates, before: readonly Running[], length: number, { V, ends, isFinal }: Rules): Running[] {
    const { sums, positions } = candidates;
    const next: Running[] = [];
    for (let rank = 0; rank < sums.length && next.length < this.beams && !this.done; rank++) {
      const [sum, position] = [sums[rank], positions[rank]];
      if (sum < FORBIDDEN / 2) break; // sorted: only forbidden ones follow
      const beam = before[Math.floor(position / V)];
      const id = position % V;
      const ids = [...beam.ids, id];
      if (!ends.has(id)) {
        if (isFinal(ids)) this.finish(ids, sum, length);
        else next.push({ ids, sum, from: this.first + Math.floor(position / V) });
      } else if (rank < this.beams) this.finish(beam.ids, sum, length);
    }
    if (next.length === 0) this.done = true;
    this.settle(sums[0], length);
    const idle: Running = { ids: [...before[0].ids, 0], sum: FORBIDDEN, from: this.first };
    return Array.from({ length: this.beams }, (_, k) => next[k] ?? idle);
  }
}

/** The best continuations of a sample, best first: sum of log-probabilities, and beam * V + token. */
interface Candidates {
  readonly sums: ArrayLike<number>;
  readonly positions: ArrayLike<number>;
}

/** What ends a beam. */
interface Rules {
  /** Size of the vocabulary. */
  readonly V: number;
  readonly ends: ReadonlySet<number>;
  /** Whether the ids end with a stop string or complete a choice. */
  readonly isFinal: (ids: readonly number[]) => boolean;
}

/** Continues every sample by beam search: `numBeams` results each, best first. */
export async function beamSearch(model: CausalLM, prompt: Prompt, options: GenerateOptions): Promise<Beam[][]> {
  const checked = checkOptions(model, prompt, options);
  const { numBeams: K = 1, maxNewTokens, signal } = checked;
  const V = model.config.vocab_size;
  const b = prompt.lengths.length;
  const ends = endTokens(model, options);
  // Enough that K of them continue, even if all end tokens of each beam are among them.
  const candidates = Math.min(K * V, K * (1 + Math.max(1, ends.size)));
  const { stopStrings = [], tokenizer } = checked;
  const stops = (ids: readonly number[]) => stopStrings.some((stop) => tokenizer!.decode(ids).includes(stop));
  const repeated = Array.from({ length: b * K }, (_, i) => Math.floor(i / K));
  const processor = new LogitsProcessor(
    model,
    repeated.map((s) => prompt.history[s]),
    checked,
  );
  const rules: Rules = { V, ends, isFinal: (ids) => (processor.choices?.isLast(ids) ?? false) || stops(ids) };
  const searches = Array.from({ length: b }, (_, s) => new Search(s * K, K, checked));
  let running: Running[] = repeated.map((_, i) => ({ ids: [], sum: i % K ? FORBIDDEN : 0, from: i }));
  let cache: KVCache;
  for (let length = 1; length <= maxNewTokens && !searches.every(({ done }) => done); length++) {
    signal?.throwIfAborted();
    const best = noGrad(() => {
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
      return cat([values, indices.float()], 1); // [B, 2 candidates]
    });
    const found = await best.data();
    const nan = found.findIndex(Number.isNaN); // topk has NaN first
    if (nan >= 0) throw new Error(nanLogits(Math.floor(nan / (2 * candidates))));
    const before = running;
    running = searches.flatMap((search, s) => {
      const [sums, positions] = [2 * s, 2 * s + 1].map((i) => found.subarray(i * candidates, (i + 1) * candidates));
      return search.advance({ sums, positions }, before.slice(s * K, (s + 1) * K), length, rules);
    });
  }
  searches.forEach((search, s) => {
    if (search.done) return;
    for (const { ids, sum } of running.slice(s * K, (s + 1) * K))
      if (sum > FORBIDDEN / 2) search.finish(ids, sum, ids.length);
  });
  return searches.map(({ finished }) => finished);
}
