/** Drawing tokens: the sampling kernel, its random numbers, and log-probabilities that are read together with the ids. */
import { mix } from "../graph/generator.ts";
import { cat, sample, tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** One new token of a sample. */
export interface NewToken {
  readonly id: number;
  /** With the option `logprobs`: natural logarithm of its probability, before penalties, bias and filters. */
  readonly logprob?: number;
  /** The `logprobs` likeliest tokens, descending. */
  readonly top?: readonly { readonly id: number; readonly logprob: number }[];
}

/** The uniform number in [0, 1) for token `index` of sample `s`. */
export function uniformAt(seed: number | readonly number[], index: number, s: number): number {
  const [own, row] = typeof seed === "number" ? [seed, s] : [seed[s], 0];
  return (mix(mix(mix(own) + index) + row) >>> 8) / 2 ** 24;
}

export interface Drawing {
  /** Processed logits that tokens are drawn from, [R, V]. */
  readonly scores: Tensor;
  /** Logits of the model, [R, V], for log-probabilities. */
  readonly logits: Tensor;
  readonly settings: Tensor; // [1, 4], see `sample`
  readonly uniform: readonly number[]; // [R]
  readonly logprobs?: number;
}

/** Draws ids, i32 [R], on the device. `packed` is the tensor that `readTokens` reads. */
export function draw({ scores, logits, settings, uniform, logprobs }: Drawing): { ids: Tensor; packed: Tensor } {
  const ids = sample(scores, settings, tensor(Float32Array.from(uniform)));
  if (logprobs === undefined) return { ids, packed: ids };
  const logs = logits.logSoftmax(-1); // [R, V]
  const column = ids.unsqueeze(1); // [R, 1]
  const parts = [column.float(), logs.gather(1, column)]; // ids are exact in f32 up to 2^24
  if (logprobs > 0) {
    const { values, indices } = logs.topk(logprobs); // [R, k]
    parts.push(indices.float(), values);
  }
  return { ids, packed: cat(parts, 1) }; // [R, 2 + 2k]
}

/** The message of an error about logits that give no token. */
export const nanLogits = (row: number): string =>
  `generate: the logits of sample ${row} have NaN, so no token can be drawn: check the weights, and f16 for overflow`;

/** Reads the tokens of `draw`, one per row. This starts the pending work. */
export async function readTokens(packed: Tensor, logprobs?: number): Promise<NewToken[]> {
  const data = await packed.data();
  const width = logprobs === undefined ? 1 : 2 + 2 * logprobs;
  for (let at = 0; at < data.length; at += width) if (data[at] < 0) throw new Error(nanLogits(at / width));
  if (logprobs === undefined) return Array.from(data, (id) => ({ id }));
  return Array.from({ length: data.length / width }, (_, row) => {
    const [id, logprob, ...rest] = data.subarray(row * width, (row + 1) * width);
    const top = Array.from({ length: logprobs }, (_, k) => ({ id: rest[k], logprob: rest[logprobs + k] }));
    return logprobs ? { id, logprob, top } : { id, logprob };
  });
}
