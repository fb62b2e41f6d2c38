/** A conversation that keeps the keys and values of earlier messages and images, and computes only new ones. */

import {
  bucket,
  type ChatMessage,
  type ChatPrompt,
  chatPrompt,
  type GenerateOptions,
  generateText,
  type KVCache,
  type Processor,
  type Prompt,
  textPrompt,
} from "../../src/generate/index.ts";
import type { Image } from "../../src/image/index.ts";
import { noGrad } from "../../src/index.ts";
import { IMAGE_TOKEN_INDEX, type Tokenizer, template } from "../../src/text/index.ts";
import { LlamaForCausalLM } from "../llama.ts";
import type { VisionLanguageModel } from "../vlm.ts";

export interface SessionParts {
  /** For a model that reads images. Default: that of its folder. */
  readonly processor?: Processor;
  /** For a language model alone. */
  readonly tokenizer?: Tokenizer;
  /** Name of a conversation template. Default: the tokenizer's chat template, else that of the model. */
  readonly template?: string;
}

export class ChatSession {
  /** The messages so far. */
  readonly messages: ChatMessage[] = [];
  /** Number of positions of the last prompt that came from the cache. */
  reused = 0;
  readonly #language: LlamaForCausalLM;
  readonly #tokenizer: Tokenizer;
  readonly #processor?: Processor;
  #cache?: KVCache;
  /** Contents of the cache: token ids, and -1 - n for image n. */
  #keys: number[] = [];
  /** Number of positions of the first i keys; undefined between images that were computed together. */
  #places: (number | undefined)[] = [0];
  readonly #images: Image[] = [];

  constructor(
    readonly model: LlamaForCausalLM | VisionLanguageModel,
    readonly parts: SessionParts = {},
  ) {
    const alone = model instanceof LlamaForCausalLM;
    this.#language = alone ? model : model.language_model;
    this.#processor = alone ? undefined : (parts.processor ?? model.processor);
    const tokenizer = alone ? parts.tokenizer : this.#processor?.tokenizer;
    if (!tokenizer) throw new Error(`ChatSession: give the ${alone ? "tokenizer" : "processor"} of the model`);
    this.#tokenizer = tokenizer;
    if (parts.template !== undefined) template(parts.template); // throws on an unknown name
  }

  /**
   * Answers a message. Yields pieces of text as they are generated. If the caller stops reading, the text so far is part of the
   * conversation; a message that fails before its answer begins is not.
   */
  send(content: ChatMessage["content"], options: GenerateOptions = {}): AsyncGenerator<string> {
    return this.answer([...this.messages, { role: "user", content }], options);
  }

  /**
   * Answers a whole conversation, which replaces this one. Their common beginning is not computed again. If the last message is by
   * the assistant, it is the beginning of the answer, and the rest of it is yielded.
   */
  async *answer(messages: readonly ChatMessage[], options: GenerateOptions = {}): AsyncGenerator<string> {
    const asked = chatPrompt(this.#tokenizer, messages, this.parts.template, this.#processor?.options);
    const keys = this.#keysOf(asked);
    const { count, past } = this.#shared(keys);
    const rest = keys.slice(count);
    const prompt = noGrad(() => this.#prompt(rest));
    const filled = past + prompt.lengths[0];
    const cache = this.#room(past, prompt, options);
    this.reused = past;
    const places = placesOf(rest, past, filled);
    let said = "";
    const made: number[] = [];
    const history = [keys.filter((key) => key >= 0)];
    const whole = { stopStrings: asked.stopStrings, ...options };
    const pieces = generateText(this.#language, this.#tokenizer, { ...prompt, history, cache }, whole, ({ id }) =>
      made.push(id),
    );
    let failed = false;
    try {
      for await (const piece of pieces) {
        said += piece;
        yield piece;
      }
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      if (made.length || !failed) {
        const last = messages[messages.length - 1];
        const begun = last.role === "assistant" ? [last.content].flat().join("") : "";
        const asked = last.role === "assistant" ? messages.slice(0, -1) : messages;
        this.messages.splice(0, Infinity, ...asked, { role: "assistant", content: begun + said });
        // The last token was drawn, but is possibly not in the cache.
        const kept = made.slice(0, -1);
        this.#keys = [...keys, ...kept];
        this.#places = [...this.#places.slice(0, count), past, ...places, ...kept.map((_, i) => filled + i + 1)];
      } else this.#forget(count);
    }
  }

  #forget(count: number): void {
    this.#keys.length = Math.min(this.#keys.length, count);
    this.#places.length = this.#keys.length + 1;
  }

  /** Token ids of a conversation; images are -1 - n. */
  #keysOf({ ids, images }: ChatPrompt): number[] {
    if (images.length && !this.#processor) throw new Error("chat: this model reads no images");
    let next = 0;
    return ids.map((id) => {
      if (id !== IMAGE_TOKEN_INDEX) return id;
      const image = images[next++];
      if (!this.#images.includes(image)) this.#images.push(image);
      return -1 - this.#images.indexOf(image);
    });
  }

  /** Number of keys that are in the cache, and of their positions. At least one key is left to compute. */
  #shared(keys: readonly number[]): { count: number; past: number } {
    let count = 0;
    while (count < Math.min(keys.length - 1, this.#keys.length) && keys[count] === this.#keys[count]) count++;
    while (this.#places[count] === undefined) count--;
    return { count, past: this.#places[count]! };
  }

  #prompt(keys: readonly number[]): Prompt {
    if (this.model instanceof LlamaForCausalLM) return textPrompt(this.model, [keys]);
    const images = keys.filter((key) => key < 0).map((key) => this.#images[-1 - key]);
    const ids = keys.map((key) => (key < 0 ? IMAGE_TOKEN_INDEX : key));
    return this.model.prompt(this.#processor!.input({ ids, images }, this.model.imageToken));
  }

  /** The cache, cut to `past` positions, with room for prompt and answer. */
  #room(past: number, prompt: Prompt, { maxNewTokens = 256, promptLookupNumTokens = 0, cacheType }: GenerateOptions) {
    const padded = past + prompt.embeds.shape[1];
    const need = bucket(Math.max(padded, past + prompt.lengths[0] + maxNewTokens + promptLookupNumTokens));
    const cache = this.#cache;
    if (!cache) this.#cache = this.#language.cache(1, need, cacheType);
    else if (cache.capacity < need)
      this.#cache = noGrad(() => cache.copy([0], bucket(Math.max(need, 2 * cache.capacity))));
    this.#cache!.lengths = [past];
    return this.#cache!;
  }
}

/** Number of positions up to each key, from `start` to `end`; unknown between images that are computed together. */
function placesOf(keys: readonly number[], start: number, end: number): (number | undefined)[] {
  const first = keys.findIndex((key) => key < 0);
  const last = keys.findLastIndex((key) => key < 0);
  return keys.map((_, i) => {
    if (first < 0 || i < first) return start + i + 1;
    return i >= last ? end - (keys.length - 1 - i) : undefined;
  });
}
