/**
 * Processing of logits before a token is drawn, in the order of Hugging Face: bias, repetition penalty, presence and frequency
 * penalties, then forbidden tokens. Counts stay on the device. The host computes which tokens n-grams and choices forbid; a mask
 * [B, V] is then part of every step, so that all steps have the same plan.
 */

import { arange, tensor, where, zeros } from "../ops/functional.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CausalLM } from "./model.ts";
import { type CheckedOptions, endTokens, type Prompt } from "./options.ts";

/** The score of a forbidden token. Finite, because WGSL leaves arithmetic on infinity undefined; no logit reaches it. */
export const FORBIDDEN = -1e30;

const scalar = (value: number): Tensor => tensor(Float32Array.of(value), { shape: [] });

export class LogitsProcessor {
  /** The choices as a tree, if the answer is one of a list. */
  readonly choices?: PrefixTree;
  /** Whether a step needs the tokens of the previous one on the host. */
  readonly needsTokens: boolean;
  readonly #rows: number[][]; // new tokens of each sample
  #steps = 0;
  readonly #masked: boolean;
  readonly #ends: ReadonlySet<number>;
  readonly #bias?: Tensor; // f32 [V]
  readonly #seen?: Tensor; // f32 [B, V], 1 for tokens of the prompt or generated ones
  readonly #counts?: Tensor; // f32 [B, V], how often each token was generated
  readonly #factor: Tensor; // 0-d, as are the next two
  readonly #presence: Tensor;
  readonly #frequency: Tensor;

  constructor(
    model: CausalLM,
    readonly history: Prompt["history"],
    readonly options: CheckedOptions,
  ) {
    const { vocab_size: V } = model.config;
    const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, noRepeatNgramSize = 0 } = options;
    const B = history.length;
    this.#rows = history.map(() => []);
    this.#ends = endTokens(model, options);
    if (options.choices) this.choices = choiceTree(options, this.#ends, V);
    this.needsTokens = noRepeatNgramSize > 0 || this.choices !== undefined;
    this.#masked = this.needsTokens || (options.minNewTokens ?? 0) > 0;
    if (options.logitBias) {
      const bias = new Float32Array(V);
      for (const [id, value] of Object.entries(options.logitBias)) bias[Number(id)] = Math.max(value, FORBIDDEN);
      this.#bias = tensor(bias);
    }
    if (repetitionPenalty !== 1) {
      const seen = new Float32Array(B * V);
      history.forEach((ids, s) => ids.forEach((id) => (seen[s * V + id] = 1)));
      this.#seen = tensor(seen, { shape: [B, V] });
    }
    if (presencePenalty || frequencyPenalty) this.#counts = zeros([B, V]);
    this.#factor = scalar(repetitionPenalty);
    this.#presence = scalar(presencePenalty);
    this.#frequency = scalar(frequencyPenalty);
  }

  /** Logits of the model, [B, V], to the scores that tokens are drawn from. */
  apply(logits: Tensor): Tensor {
    let x = this.#bias ? logits.add(this.#bias) : logits;
    if (this.#seen) {
      const lowered = where(x.gt(0), x.div(this.#factor), x.mul(this.#factor));
      x = where(this.#seen.gt(0), lowered, x);
    }
    if (this.#counts) {
      const once = this.#counts.gt(0).float().mul(this.#presence);
      x = x.sub(this.#counts.mul(this.#frequency)).sub(once);
    }
    return this.#masked ? x.add(tensor(this.#mask(logits.shape[1]), { shape: logits.shape })) : x;
  }

  /** Adds the drawn tokens, i32 [B], to the counts on the device. */
  add(ids: Tensor): void {
    this.#steps++;
    if (!this.#seen && !this.#counts) return;
    const hit = arange((this.#seen ?? this.#counts)!.shape[1])
      .eq(ids.unsqueeze(1))
      .float(); // [B, V]
    if (this.#seen) assign(this.#seen, this.#seen.maximum(hit));
    if (this.#counts) assign(this.#counts, this.#counts.add(hit));
  }

  /** Gives the drawn tokens to the host, for n-grams and choices. */
  push(ids: ArrayLike<number>): void {
    this.#rows.forEach((row, s) => row.push(ids[s]));
  }

  /** Replaces sample i by sample `order[i]`. */
  reorder(order: readonly number[]): void {
    const index = tensor(Int32Array.from(order));
    for (const state of [this.#seen, this.#counts]) if (state) assign(state, state.indexSelect(0, index));
    const rows = order.map((row) => [...this.#rows[row]]);
    this.#rows.splice(0, rows.length, ...rows);
  }

  /** Mask of the next step, f32 [B, V]: 0 or FORBIDDEN. */
  #mask(V: number): Float32Array {
    const { noRepeatNgramSize: n = 0, minNewTokens = 0 } = this.options;
    const mask = new Float32Array(this.#rows.length * V);
    if (this.needsTokens && this.#rows[0].length < this.#steps)
      throw new Error("generate: choices and noRepeatNgramSize need each step's ids awaited before the next step");
    this.#rows.forEach((row, s) => {
      const own = mask.subarray(s * V, (s + 1) * V);
      if (n) for (const id of repeats([...this.history[s], ...row], n)) own[id] = FORBIDDEN;
      if (this.#steps < minNewTokens) for (const id of this.#ends) own[id] = FORBIDDEN;
      const allowed = this.choices?.next(row);
      if (!allowed) return;
      own.fill(FORBIDDEN);
      for (const id of allowed) own[id] = 0;
    });
    return mask;
  }
}

/** Ids that would complete a sequence of n tokens that `ids` already contain. */
function repeats(ids: readonly number[], n: number): number[] {
  const last = ids.length - n + 1; // start of the unfinished sequence
  const found: number[] = [];
  for (let i = 0; i < last; i++) {
    let j = 0;
    while (j < n - 1 && ids[i + j] === ids[last + j]) j++;
    if (j === n - 1) found.push(ids[i + j]);
  }
  return found;
}

interface Branch {
  readonly children: Map<number, Branch>;
  complete: boolean; // a choice ends here
}

/** Token sequences as a tree. The answer is one of them. */
export class PrefixTree {
  readonly #root: Branch = { children: new Map(), complete: false };

  /** @param ends tokens that may follow a complete choice */
  constructor(
    choices: readonly (readonly number[])[],
    readonly ends: ReadonlySet<number>,
  ) {
    for (const ids of choices) {
      let at = this.#root;
      for (const id of ids) {
        if (!at.children.has(id)) at.children.set(id, { children: new Map(), complete: false });
        at = at.children.get(id)!;
      }
      at.complete = true;
    }
  }

  #at(ids: readonly number[]): Branch | undefined {
    let at: Branch | undefined = this.#root;
    for (const id of ids) at = at?.children.get(id);
    return at;
  }

  /** The tokens that may follow `ids`; undefined after a complete choice, where all may. */
  next(ids: readonly number[]): number[] | undefined {
    const at = this.#at(ids);
    if (!at || at.children.size === 0) return undefined;
    return [...at.children.keys(), ...(at.complete ? this.ends : [])];
  }

  /** Whether `ids` are a complete choice that is no prefix of another. */
  isLast(ids: readonly number[]): boolean {
    return this.#at(ids)?.children.size === 0;
  }

  /** Whether a choice is a prefix of another, so that an end token must tell them apart. */
  get ambiguous(): boolean {
    const within = (at: Branch): boolean =>
      [...at.children.values()].some((b) => (b.complete && b.children.size > 0) || within(b));
    return within(this.#root);
  }
}

function choiceTree(options: CheckedOptions, ends: ReadonlySet<number>, V: number): PrefixTree {
  const { choices = [], tokenizer, maxNewTokens } = options;
  if (choices.length === 0) throw new Error("generate: choices is empty");
  const sequences = choices.map((choice) => {
    if (typeof choice === "string" && !tokenizer)
      throw new Error("generate: choices that are strings need the tokenizer, as { tokenizer }");
    const ids = typeof choice === "string" ? tokenizer!.encode(choice, { addSpecialTokens: false }) : choice;
    const name = JSON.stringify(choice);
    if (ids.length === 0) throw new Error(`generate: choice ${name} has no tokens`);
    if (ids.length > maxNewTokens)
      throw new RangeError(`generate: choice ${name} has ${ids.length} tokens, maxNewTokens is ${maxNewTokens}`);
    const bad = ids.find((id) => !(id >= 0 && id < V));
    if (bad !== undefined)
      throw new RangeError(`generate: choice ${name} has token ${bad}, outside the vocabulary of ${V}`);
    return ids;
  });
  const tree = new PrefixTree(sequences, ends);
  if (tree.ambiguous && ends.size === 0)
    throw new Error("generate: one choice is a prefix of another; eosTokenId is needed to end the shorter");
  return tree;
}
