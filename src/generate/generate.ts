/**
 * Generation: one prefill, then one token per step. Token, caches and sampling stay on the device, and every step has the same
 * plan. The host reads ids one step late, while the next step runs.
 */

import { drawSeed } from "../graph/generator.ts";
import { noGrad, tensor } from "../ops/functional.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Tokenizer } from "../text/index.ts";
import { bucket } from "./batch.ts";
import { beamSearch } from "./beam.ts";
import type { KVCache } from "./cache.ts";
import { draw, type NewToken, readTokens, uniformAt } from "./draw.ts";
import { LogitsProcessor } from "./logits.ts";
import { lookupTokens } from "./lookup.ts";
import type { CausalLM } from "./model.ts";
import { checkOptions, endTokens, type GenerateOptions, type Prompt, samplingSettings } from "./options.ts";
import { nextLogits, prefill } from "./pass.ts";

/** One step: the next id of every sample, and the logits [B, V] of the model. */
export interface Step {
  readonly ids: Promise<Int32Array>;
  readonly tokens: Promise<readonly NewToken[]>;
  readonly logits: Tensor;
}

/**
 * A prompt of token ids alone; samples may differ in length.
 * ```ts
 * const [ids] = await generate(model, textPrompt(model, [tokenizer.encode("Once")]), { maxNewTokens: 20 });
 * ```
 * @throws if the batch or one of its rows is empty
 */
export function textPrompt(model: CausalLM, ids: readonly (readonly number[])[]): Prompt {
  if (ids.length === 0 || ids.some((row) => row.length === 0))
    throw new Error("generate: the batch or one of its prompts is empty");
  const lengths = ids.map((row) => row.length);
  const length = bucket(Math.max(...lengths));
  const flat = Int32Array.from(ids.flatMap((row) => [...row, ...new Array<number>(length - row.length).fill(0)]));
  return { embeds: model.model.embed(tensor(flat, { shape: [ids.length, length] })), lengths, history: ids };
}

/**
 * A prompt from embeddings of a batch, padded after the tokens.
 * @param mask [B, T], row-major: 1 for tokens, 0 for padding
 * @param history ids of the batch, [B, T'], row-major; negative ones do not count as seen
 */
export function paddedPrompt(
  { inputsEmbeds: embeds, modality }: { inputsEmbeds: Tensor; modality?: Tensor },
  mask: ArrayLike<number>,
  history: ArrayLike<number>,
): Prompt {
  const b = embeds.shape[0];
  const rows = <T>(list: ArrayLike<T>): T[][] =>
    Array.from({ length: b }, (_, s) => Array.from(list).slice((s * list.length) / b, ((s + 1) * list.length) / b));
  return {
    embeds,
    modality,
    lengths: rows(mask).map((row) => row.reduce((n, m) => n + m, 0)),
    history: rows(history).map((row) => row.filter((id) => id >= 0)),
  };
}

/**
 * Yields steps as they are launched; the caller decides when to await their ids. With `keepLogits` their logits can be read.
 * Ignores beams, prompt lookup and stop strings, which are not for single steps.
 */
export function* steps(
  model: CausalLM,
  prompt: Prompt,
  options: GenerateOptions = {},
  keepLogits = false,
): Generator<Step> {
  const checked = checkOptions(model, prompt, options);
  yield* stepsWith(new LogitsProcessor(model, prompt.history, checked), model, prompt, keepLogits);
}

function* stepsWith(processor: LogitsProcessor, model: CausalLM, prompt: Prompt, keepLogits = false): Generator<Step> {
  const { options } = processor;
  const { maxNewTokens, seed = drawSeed(), logprobs } = options;
  const settings = samplingSettings(options);
  const b = prompt.lengths.length;
  const token = tensor(new Int32Array(b));
  let cache: KVCache;
  for (let i = 0; i < maxNewTokens; i++) {
    yield noGrad(() => {
      let logits: Tensor; // [B, V]
      if (i === 0) ({ cache, logits } = prefill(model, prompt, maxNewTokens, options));
      else logits = nextLogits(model, token.reshape([b, 1]), cache);
      const uniform = Array.from({ length: b }, (_, s) => uniformAt(seed, i, s));
      const { ids: next, packed } = draw({ scores: processor.apply(logits), logits, settings, uniform, logprobs });
      processor.add(next);
      assign(token, next);
      if (keepLogits) logits.keep();
      const tokens = readTokens(packed, logprobs); // launches the step
      const ids = tokens.then((drawn) => Int32Array.from(drawn, ({ id }) => id));
      ids.then((drawn) => processor.push(drawn)).catch(() => undefined); // reported where it is awaited
      return { ids, tokens, logits };
    });
  }
}

/**
 * Yields the new token of every sample at each step, up to its end token and without it; undefined for samples that have ended.
 * With prompt lookup too, tokens come one by one.
 */
export async function* generateTokens(
  model: CausalLM,
  prompt: Prompt,
  options: GenerateOptions = {},
): AsyncGenerator<(NewToken | undefined)[]> {
  const checked = checkOptions(model, prompt, options);
  if ((options.numBeams ?? 1) > 1)
    throw new Error("generateTokens: beam search has no tokens before its end; use generate with numBeams");
  const processor = new LogitsProcessor(model, prompt.history, checked);
  const ends = endTokens(model, options);
  const rows = prompt.lengths.map(() => ({ ids: [] as number[], ended: false, stops: stopsOf(options) }));
  const drawn = options.promptLookupNumTokens
    ? lookupTokens(model, prompt, checked)
    : readSteps(stepsWith(processor, model, prompt), processor.needsTokens, options.signal);
  for await (const tokens of drawn) {
    const visible = tokens.map((token, s) => {
      const row = rows[s];
      row.ended ||= ends.has(token.id);
      if (row.ended) return undefined;
      row.ids.push(token.id);
      row.ended = row.stops(token.id) || (processor.choices?.isLast(row.ids) ?? false);
      return token;
    });
    if (visible.some(Boolean)) yield visible;
    if (rows.every((row) => row.ended)) return;
  }
}

/** The new ids of every sample, up to its end token and without it. With `numBeams`, those of the best beam. */
export async function generate(model: CausalLM, prompt: Prompt, options: GenerateOptions = {}): Promise<number[][]> {
  if ((options.numBeams ?? 1) > 1) return (await beamSearch(model, prompt, options)).map(([best]) => best.ids);
  const rows: number[][] = prompt.lengths.map(() => []);
  for await (const tokens of generateTokens(model, prompt, options))
    tokens.forEach((token, s) => token && rows[s].push(token.id));
  return rows;
}

/**
 * Yields the text of one sample in pieces, as it is generated. No part of a stop string is yielded.
 * @param onToken is called with each token, before its text is yielded
 * @throws if the prompt has several samples
 */
export async function* generateText(
  model: CausalLM,
  tokenizer: Tokenizer,
  prompt: Prompt,
  options: GenerateOptions = {},
  onToken?: (token: NewToken) => void,
): AsyncGenerator<string> {
  if (prompt.lengths.length !== 1)
    throw new Error(`generateText: one prompt expected, got ${prompt.lengths.length}; use generate for batches`);
  const { stopStrings = [] } = options;
  if ((options.numBeams ?? 1) > 1) {
    const [ids] = await generate(model, prompt, { ...options, tokenizer });
    ids.forEach((id) => onToken?.({ id }));
    const { ready, rest, stopped } = holdBack(tokenizer.decode(ids), stopStrings);
    return yield stopped ? ready : ready + rest;
  }
  const text = tokenizer.stream();
  let held = ""; // possibly the beginning of a stop string
  for await (const [token] of generateTokens(model, prompt, { ...options, tokenizer })) {
    onToken?.(token!);
    held += text.push(token!.id);
    const { ready, rest, stopped } = holdBack(held, stopStrings);
    if (ready) yield ready;
    if (stopped) return;
    held = rest;
  }
  const { ready, rest, stopped } = holdBack(held + text.end(), stopStrings);
  if (ready + (stopped ? "" : rest)) yield ready + (stopped ? "" : rest);
}

/** Cuts text at the first stop string, or before a possible beginning of one. */
function holdBack(text: string, stop: readonly string[]): { ready: string; rest: string; stopped: boolean } {
  const found = stop.map((s) => text.indexOf(s)).filter((i) => i >= 0);
  if (found.length) return { ready: text.slice(0, Math.min(...found)), rest: "", stopped: true };
  let keep = 0;
  for (const s of stop) {
    for (let n = Math.min(s.length - 1, text.length); n > keep; n--) if (text.endsWith(s.slice(0, n))) keep = n;
  }
  return { ready: text.slice(0, text.length - keep), rest: text.slice(text.length - keep), stopped: false };
}

/** A function that takes token after token and returns whether the text has a stop string. */
function stopsOf({ stopStrings = [], tokenizer }: GenerateOptions): (id: number) => boolean {
  if (stopStrings.length === 0) return () => false;
  const stream = tokenizer!.stream();
  let held = "";
  return (id) => {
    const { rest, stopped } = holdBack(held + stream.push(id), stopStrings);
    held = rest;
    return stopped;
  };
}

/** Awaits the tokens of each step after the next one is launched; with `wait`, before. */
async function* readSteps(
  launched: Iterable<Step>,
  wait: boolean,
  signal?: AbortSignal,
): AsyncGenerator<readonly NewToken[]> {
  let previous: Step | undefined;
  for (const step of launched) {
    signal?.throwIfAborted();
    if (wait) {
      await step.ids;
      yield await step.tokens;
      continue;
    }
    if (previous) yield await previous.tokens;
    previous = step;
  }
  if (previous) yield await previous.tokens;
}
