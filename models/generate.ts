/**
 * Generation: one prefill, then one token a step. The token, the caches and the sampling stay on the device and
 * every step has the same plan; the host reads ids one step late, while the next step runs.
 */
import { assign } from "../src/engine.ts";
import { mix } from "../src/ops/math.ts";
import { drawSeed } from "../src/random.ts";
import { arange, noGrad, sample, type Tensor, tensor, where } from "../src/tensor.ts";
import { bucket, ids2d } from "./batch.ts";
import type { CacheType, KVCache } from "./cache.ts";
import type { LlamaForCausalLM } from "./llama.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Prompts of B samples, each from position 0 on, padded behind. */
export interface Prompt {
  readonly embeds: Tensor; // f32 [B, T, D]
  /** See `DecoderInput.modality`; new tokens are text. */
  readonly modality?: Tensor;
  readonly lengths: readonly number[];
  /** Token ids that the repetition penalty counts as seen. */
  readonly history: readonly (readonly number[])[];
}

export interface SamplingOptions {
  /** At most this many new tokens. Default 256. */
  maxTokens?: number;
  /** 0 (default) takes the likeliest token. */
  temperature?: number;
  /** Keep the k likeliest tokens; 0 = all. */
  topK?: number;
  /** Keep the likeliest tokens that together have this probability; 1 = all. */
  topP?: number;
  /** Keep tokens at least this likely, relative to the likeliest; 0 = all. */
  minP?: number;
  /** Divides positive logits of tokens seen before, multiplies negative ones (arXiv 1909.05858). 1 = off. */
  repetitionPenalty?: number;
  /** The same seed gives the same tokens. Default: the next of `manualSeed`. */
  seed?: number;
  /** How the keys and values of earlier tokens are kept. Default "f32". */
  cacheType?: CacheType;
}

export interface GenerateOptions extends SamplingOptions {
  /** Ids that end a sample. Default: eos_token_id of the config. */
  eos?: number | readonly number[];
  /** Text ends before the first of these. */
  stop?: readonly string[];
  signal?: AbortSignal;
}

/** One step: the next id of every sample, and the logits [B, V] they were drawn from. */
export interface Step {
  readonly ids: Promise<Int32Array>;
  readonly logits: Tensor;
}

/** A prompt of token ids alone. */
export function textPrompt(model: LlamaForCausalLM, ids: readonly (readonly number[])[]): Prompt {
  if (ids.length === 0 || ids.some((row) => row.length === 0))
    throw new Error("generate: the batch or one of its prompts is empty");
  const lengths = ids.map((row) => row.length);
  const length = bucket(Math.max(...lengths));
  const flat = Int32Array.from(ids.flatMap((row) => [...row, ...new Array<number>(length - row.length).fill(0)]));
  return { embeds: model.model.embed(ids2d(ids.length, flat)), lengths, history: ids };
}

/** Launches steps one by one; the caller decides when to await their ids. `keepLogits` makes them readable. */
export function* steps(
  model: LlamaForCausalLM,
  prompt: Prompt,
  options: SamplingOptions = {},
  keepLogits = false,
): Generator<Step> {
  const { maxTokens = 256, seed = drawSeed() } = options;
  const settings = checkOptions(model, prompt, options);
  const [b, t, d] = prompt.embeds.shape;
  const cache: KVCache = model.cache(
    b,
    bucket(Math.max(t, ...prompt.lengths.map((n) => n + maxTokens))),
    options.cacheType,
  );
  const token = tensor(new Int32Array(b));
  const penalty =
    options.repetitionPenalty === undefined || options.repetitionPenalty === 1
      ? undefined
      : new Penalty(model.config.vocab_size, prompt.history, options.repetitionPenalty);
  for (let i = 0; i < maxTokens; i++) {
    yield noGrad(() => {
      const embeds = i === 0 ? prompt.embeds : model.model.embed(token.reshape([b, 1]));
      const modality = i === 0 ? prompt.modality : undefined;
      const hidden = model.model.forward({ inputsEmbeds: embeds, modality, cache }).pop()!; // [B, T, D]
      const last =
        i === 0
          ? hidden.reshape([b * t, d]).indexSelect(0, tensor(Int32Array.from(prompt.lengths, (n, s) => s * t + n - 1)))
          : hidden.reshape([b, d]);
      if (i === 0) cache.lengths = [...prompt.lengths];
      const logits = model.logits(last); // [B, V]
      const uniform = tensor(Float32Array.from({ length: b }, (_, s) => (mix(mix(mix(seed) + i) + s) >>> 8) / 2 ** 24));
      const next = sample(penalty?.apply(logits) ?? logits, settings, uniform);
      penalty?.add(next);
      assign(token, next);
      if (keepLogits) logits.keep();
      const ids = next.data() as Promise<Int32Array>; // launches the step
      ids.catch(() => undefined); // reported where it is awaited
      return { ids, logits };
    });
  }
}

/** New ids of every sample, up to and without its end token. */
export async function generate(
  model: LlamaForCausalLM,
  prompt: Prompt,
  options: GenerateOptions = {},
): Promise<number[][]> {
  const rows: number[][] = prompt.lengths.map(() => []);
  const ended = rows.map(() => false);
  const ends = endTokens(model, options);
  for await (const ids of oneStepLate(steps(model, prompt, options), options.signal)) {
    ids.forEach((id, s) => {
      ended[s] ||= ends.has(id);
      if (!ended[s]) rows[s].push(id);
    });
    if (ended.every(Boolean)) break;
  }
  return rows;
}

/** Text of one sample in pieces, as it comes. Nothing of a stop string is ever given out. */
export async function* generateText(
  model: LlamaForCausalLM,
  tokenizer: Tokenizer,
  prompt: Prompt,
  options: GenerateOptions = {},
): AsyncGenerator<string> {
  if (prompt.lengths.length !== 1)
    throw new Error(`generateText: one prompt expected, got ${prompt.lengths.length}; use generate for batches`);
  const { stop = [], signal } = options;
  const ends = endTokens(model, options);
  const text = tokenizer.stream();
  let held = ""; // may be the beginning of a stop string
  for await (const [id] of oneStepLate(steps(model, prompt, options), signal)) {
    if (ends.has(id)) break;
    held += text.push(id);
    const { ready, rest, stopped } = holdBack(held, stop);
    if (ready) yield ready;
    if (stopped) return;
    held = rest;
  }
  const { ready, rest, stopped } = holdBack(held + text.end(), stop);
  if (ready + (stopped ? "" : rest)) yield ready + (stopped ? "" : rest);
}

/** Cuts text at the first stop string, or before what may become one. */
function holdBack(text: string, stop: readonly string[]): { ready: string; rest: string; stopped: boolean } {
  const found = stop.map((s) => text.indexOf(s)).filter((i) => i >= 0);
  if (found.length) return { ready: text.slice(0, Math.min(...found)), rest: "", stopped: true };
  let keep = 0;
  for (const s of stop) {
    for (let n = Math.min(s.length - 1, text.length); n > keep; n--) if (text.endsWith(s.slice(0, n))) keep = n;
  }
  return { ready: text.slice(0, text.length - keep), rest: text.slice(text.length - keep), stopped: false };
}

/** Awaits the ids of each step after the next one was launched. */
async function* oneStepLate(launched: Iterable<Step>, signal?: AbortSignal): AsyncGenerator<Int32Array> {
  let previous: Step | undefined;
  for (const step of launched) {
    signal?.throwIfAborted();
    if (previous) yield await previous.ids;
    previous = step;
  }
  if (previous) yield await previous.ids;
}

/** Tokens seen so far, on the device. */
class Penalty {
  readonly #seen: Tensor; // f32 [B, V], 1 where seen
  readonly #factor: Tensor; // 0-d

  constructor(
    readonly vocabulary: number,
    history: readonly (readonly number[])[],
    factor: number,
  ) {
    const seen = new Float32Array(history.length * vocabulary);
    history.forEach((ids, s) => ids.forEach((id) => (seen[s * vocabulary + id] = 1)));
    this.#seen = tensor(seen, { shape: [history.length, vocabulary] });
    this.#factor = tensor(Float32Array.of(factor), { shape: [] });
  }

  apply(logits: Tensor): Tensor {
    const lowered = where(logits.gt(0), logits.div(this.#factor), logits.mul(this.#factor));
    return where(this.#seen.gt(0), lowered, logits);
  }

  add(ids: Tensor): void {
    const hit = arange(this.vocabulary).eq(ids.unsqueeze(1)).float(); // [B, V]
    assign(this.#seen, this.#seen.maximum(hit));
  }
}

function endTokens(model: LlamaForCausalLM, { eos = model.config.eos_token_id }: GenerateOptions): Set<number> {
  return new Set(eos === undefined ? [] : typeof eos === "number" ? [eos] : eos);
}

/** Checks the numbers; returns what `sample` reads, [1, 4]. */
function checkOptions(model: LlamaForCausalLM, prompt: Prompt, options: SamplingOptions): Tensor {
  const { maxTokens = 256, temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed } = options;
  const check = (ok: boolean, what: string, value: number) => {
    if (!ok) throw new RangeError(`generate: ${what}, got ${value}`);
  };
  check(Number.isInteger(maxTokens) && maxTokens > 0, "maxTokens must be a positive integer", maxTokens);
  check(temperature >= 0 && Number.isFinite(temperature), "temperature must be finite and >= 0", temperature);
  check(Number.isInteger(topK) && topK >= 0, "topK must be a whole number (0 = off)", topK);
  check(topP > 0 && topP <= 1, "topP must be in (0, 1]", topP);
  check(minP >= 0 && minP <= 1, "minP must be in [0, 1]", minP);
  check(
    repetitionPenalty > 0 && Number.isFinite(repetitionPenalty),
    "repetitionPenalty must be positive",
    repetitionPenalty,
  );
  check(seed === undefined || Number.isSafeInteger(seed), "seed must be a whole number", seed!);
  const empty = prompt.lengths.findIndex((n) => n < 1);
  if (empty >= 0) throw new RangeError(`generate: sample ${empty} has no tokens to continue`);
  const longest = Math.max(...prompt.lengths);
  const limit = model.config.max_position_embeddings ?? Infinity;
  if (longest + maxTokens > limit) {
    throw new RangeError(
      `generate: a prompt of ${longest} tokens and maxTokens ${maxTokens} exceed max_position_embeddings ${limit}`,
    );
  }
  return tensor([[temperature, topK, topP, minP]]);
}
