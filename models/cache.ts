import { assign } from "../src/engine.ts";
import { arange, scaledDotProductAttention, type Tensor, tensor, writeAt, zeros } from "../src/tensor.ts";

export interface CacheSizes {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/**
 * Keys and values of the tokens seen so far, updated in place on the device. The capacity is fixed; how much of
 * it is filled is data, so every decoding step has the same plan. Samples of a batch may differ in length.
 */
export class KVCache {
  readonly #keys: Tensor[]; // each [B, Hkv, C, D]
  readonly #values: Tensor[];
  /** Tokens of each sample now in the cache. */
  lengths: number[];
  #starts?: Tensor; // i32 [B], of the forward pass under way

  constructor(
    { layers, kvHeads, headDim }: CacheSizes,
    readonly batch: number,
    readonly capacity: number,
  ) {
    const make = () => zeros(batch, kvHeads, capacity, headDim);
    this.#keys = Array.from({ length: layers }, make);
    this.#values = Array.from({ length: layers }, make);
    this.lengths = new Array<number>(batch).fill(0);
  }

  /** Starts a forward pass over `count` new tokens a sample; returns their positions, i32 [B, T]. */
  begin(batch: number, count: number): Tensor {
    if (batch !== this.batch) throw new Error(`KVCache: made for ${this.batch} samples, got ${batch}`);
    const longest = Math.max(...this.lengths);
    if (longest + count > this.capacity) {
      throw new RangeError(`KVCache: ${longest} tokens and ${count} new ones exceed the capacity of ${this.capacity}`);
    }
    this.#starts = tensor(Int32Array.from(this.lengths));
    const positions = this.lengths.flatMap((n) => Array.from({ length: count }, (_, i) => n + i));
    return tensor(Int32Array.from(positions), { shape: [batch, count] });
  }

  /** Ends a forward pass: `count` tokens of every sample (or of each, as given) are now part of the past. */
  end(count: number | readonly number[]): void {
    this.lengths = this.lengths.map((n, i) => n + (typeof count === "number" ? count : count[i]));
  }

  /**
   * Adds k, v [B, Hkv, T, D] of layer `layer` and attends q [B, H, T, D] over everything up to each query, or over
   * the last `window` tokens of it.
   */
  attend(layer: number, { q, k, v, window = Infinity }: { q: Tensor; k: Tensor; v: Tensor; window?: number }): Tensor {
    const starts = this.#starts!;
    const t = q.shape[2];
    const [keys, values] = [this.#keys[layer], this.#values[layer]];
    assign(keys, writeAt(keys, k, starts));
    assign(values, writeAt(values, v, starts));
    const queries = arange(t).reshape([t, 1]);
    if (this.lengths.every((n) => n === 0)) {
      // Nothing older: the new keys are all there are.
      const mask = window < t ? withinWindow(queries, t, window) : undefined;
      return scaledDotProductAttention(q, k, v, { isCausal: true, mask });
    }
    const places = starts.reshape([this.batch, 1, 1, 1]).add(queries); // [B, 1, T, 1]
    const mask = window < this.capacity ? withinWindow(places, this.capacity, window) : undefined;
    const lengths = starts.add(t);
    return scaledDotProductAttention(q, keys, values, { lengths, mask, isCausal: true, align: "bottom-right" });
  }
}

/** Which of `count` keys lie less than `window` before the queries at `places` (i32 [..., T, 1]): bool [..., T, count]. */
export const withinWindow = (places: Tensor, count: number, window: number): Tensor =>
  arange(count).gt(places.sub(window));
