/** Options of generation. Names are those of Hugging Face's `generate`, in camelCase. */

import { tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Tokenizer } from "../text/index.ts";
import type { CacheType, KVCache } from "./cache.ts";
import type { CausalLM } from "./model.ts";

/** Prompts of B samples, each from position 0 on, padded after the tokens. */
export interface Prompt {
  readonly embeds: Tensor; // f32 [B, T, D]
  /** bool [B, T]: see `DecoderInput.modality`. New tokens are text. */
  readonly modality?: Tensor;
  readonly lengths: readonly number[];
  /** Token ids that penalties, n-grams and prompt lookup count as seen. */
  readonly history: readonly (readonly number[])[];
  /** Keys and values of the tokens before the prompt. Those of the prompt and of new tokens are added. */
  readonly cache?: KVCache;
}

export interface GenerateOptions {
  /** Most new tokens. Default 256, or as many as the model has positions for. */
  maxNewTokens?: number;
  /** Fewest new tokens before an end token. Default 0. */
  minNewTokens?: number;
  /** Ids that end a sample. Default: eos_token_id of generation_config.json, else of config.json, else the tokenizer's. */
  eosTokenId?: number | readonly number[];
  /** Text ends before the first of these. Ids of `generate` end with the token that completes one. */
  stopStrings?: readonly string[];
  /** Needed for `stopStrings` and `choices`; may define the end token. `generateText` passes its own. */
  tokenizer?: Tokenizer;

  /** Logits are divided by it. 0 (default) takes the likeliest token. */
  temperature?: number;
  /** Keep the k likeliest tokens; 0 = all. */
  topK?: number;
  /** Keep the likeliest tokens that together have this probability; 1 = all. */
  topP?: number;
  /** Keep tokens at least this likely, relative to the likeliest; 0 = all. */
  minP?: number;
  /**
   * Equal seeds give equal tokens. With a list, one per sample, a sample gets the tokens that it gets without the others.
   * Default: the next seed of `manualSeed`.
   */
  seed?: number | readonly number[];

  /** Divides positive logits of tokens seen before, multiplies negative ones (arXiv 1909.05858). 1 = off. */
  repetitionPenalty?: number;
  /** Subtracted from the logits of tokens that were generated before. 0 = off. */
  presencePenalty?: number;
  /** Subtracted from the logits of generated tokens, once per occurrence. 0 = off. */
  frequencyPenalty?: number;
  /** No sequence of this many tokens occurs twice, the prompt included. 0 = off. */
  noRepeatNgramSize?: number;
  /** Added to logits, by token id. */
  logitBias?: Readonly<Record<number, number>>;
  /** The answer is one of these strings, or lists of token ids. */
  choices?: readonly (string | readonly number[])[];

  /** Return the log-probability of each token, and those of this many likeliest ones. Default: none. */
  logprobs?: number;

  /** Beams of a beam search; 1 = none. */
  numBeams?: number;
  /** Beams are ranked by the sum of log-probabilities divided by length ^ lengthPenalty. Default 1. */
  lengthPenalty?: number;
  /**
   * When a search with `numBeams` finished beams ends: at once (true), when the best running beam cannot beat them at its current
   * length (false, the default), or at any length ("never").
   */
  earlyStopping?: boolean | "never";

  /** Tokens per proposal of prompt lookup, checked in one pass: equal tokens in fewer passes. 0 = off. */
  promptLookupNumTokens?: number;
  /** Longest match of the last tokens that is looked for. Default 2. */
  maxMatchingNgramSize?: number;

  /** Format of the key/value cache. Default "f32". */
  cacheType?: CacheType;
  signal?: AbortSignal;
}

/** Options that `checkOptions` has checked. */
export type CheckedOptions = GenerateOptions & { readonly maxNewTokens: number };

export function endTokens(model: CausalLM, options: GenerateOptions): ReadonlySet<number> {
  const eos = options.eosTokenId ?? model.eosTokenId ?? model.config.eos_token_id ?? options.tokenizer?.eosTokenId;
  return new Set(eos === undefined ? [] : typeof eos === "number" ? [eos] : eos);
}

type Rule = readonly [key: keyof GenerateOptions, ok: (value: number) => boolean, what: string];

const whole = (least: number) => (value: number) => Number.isInteger(value) && value >= least;
const rules: readonly Rule[] = [
  ["maxNewTokens", whole(1), "must be a positive integer"],
  ["minNewTokens", whole(0), "must be a whole number"],
  ["temperature", (x) => x >= 0 && Number.isFinite(x), "must be finite and >= 0"],
  ["topK", whole(0), "must be a whole number (0 = off)"],
  ["topP", (x) => x > 0 && x <= 1, "must be in (0, 1]"],
  ["minP", (x) => x >= 0 && x <= 1, "must be in [0, 1]"],
  ["repetitionPenalty", (x) => x > 0 && Number.isFinite(x), "must be positive"],
  ["presencePenalty", Number.isFinite, "must be finite"],
  ["frequencyPenalty", Number.isFinite, "must be finite"],
  ["noRepeatNgramSize", whole(0), "must be a whole number (0 = off)"],
  ["logprobs", whole(0), "must be a whole number"],
  ["numBeams", whole(1), "must be a positive integer"],
  ["lengthPenalty", Number.isFinite, "must be finite"],
  ["promptLookupNumTokens", whole(0), "must be a whole number (0 = off)"],
  ["maxMatchingNgramSize", whole(1), "must be a positive integer"],
];

/** @throws on numbers out of range, options that exclude each other, and prompts without room for new tokens. */
export function checkOptions(model: CausalLM, prompt: Prompt, options: GenerateOptions): CheckedOptions {
  for (const [key, ok, what] of rules) {
    const value = options[key] as number | undefined;
    if (value !== undefined && !ok(value)) throw new RangeError(`generate: ${key} ${what}, got ${value}`);
  }
  const { vocab_size: V, max_position_embeddings: limit = Infinity } = model.config;
  const b = prompt.lengths.length;
  const empty = prompt.lengths.findIndex((n) => n < 1);
  if (empty >= 0) throw new RangeError(`generate: sample ${empty} has no tokens to continue`);
  const longest = Math.max(...prompt.lengths.map((n, s) => n + (prompt.cache?.lengths[s] ?? 0)));
  const { maxNewTokens = Math.max(1, Math.min(256, limit - longest)) } = options;
  if (longest + maxNewTokens > limit) {
    throw new RangeError(
      `generate: a prompt of ${longest} tokens and maxNewTokens ${maxNewTokens} exceed max_position_embeddings ${limit}`,
    );
  }
  const { minNewTokens = 0, seed, logprobs = 0 } = options;
  for (const value of [seed ?? 0].flat())
    if (!Number.isSafeInteger(value)) throw new RangeError(`generate: seed must be a whole number, got ${value}`);
  if (Array.isArray(seed) && seed.length !== b) throw new RangeError(`generate: ${seed.length} seeds for ${b} samples`);
  if (minNewTokens > maxNewTokens)
    throw new RangeError(`generate: minNewTokens ${minNewTokens} exceeds maxNewTokens ${maxNewTokens}`);
  if (logprobs > V) throw new RangeError(`generate: logprobs ${logprobs} exceeds the vocabulary of ${V}`);
  for (const id of Object.keys(options.logitBias ?? {}))
    if (!(Number(id) >= 0 && Number(id) < V))
      throw new RangeError(`generate: logitBias has token ${id}, outside the vocabulary of ${V}`);
  if (options.stopStrings?.length && !options.tokenizer)
    throw new Error("generate: stopStrings need the tokenizer, as { tokenizer }");
  exclude(options, b);
  return { ...options, maxNewTokens };
}

function exclude(options: GenerateOptions, batch: number): void {
  const firstSet = (...keys: (keyof GenerateOptions)[]) =>
    keys.find((key) => {
      const value = options[key];
      return value !== undefined && value !== 0 && !(key === "repetitionPenalty" && value === 1);
    });
  const { numBeams = 1, promptLookupNumTokens: lookup = 0 } = options;
  const refuse = (one: string, other?: string) => {
    if (other) throw new Error(`generate: ${one} cannot be combined with ${other}`);
  };
  if (numBeams > 1) refuse("numBeams", firstSet("temperature", "promptLookupNumTokens", "logprobs"));
  if (!lookup) return;
  const stateful = ["repetitionPenalty", "presencePenalty", "frequencyPenalty", "noRepeatNgramSize"] as const;
  refuse("promptLookupNumTokens", firstSet(...stateful, "choices", "minNewTokens"));
  if (batch > 1) throw new Error(`generate: promptLookupNumTokens takes one prompt, got ${batch}`);
}

/** The settings that `sample` reads, f32 [1, 4]. */
export const samplingSettings = ({ temperature = 0, topK = 0, topP = 1, minP = 0 }: GenerateOptions): Tensor =>
  tensor([[temperature, topK, topP, minP]]);
