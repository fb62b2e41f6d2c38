import { scaledDotProductAttention, tensor, writeAt, zeros } from "../ops/functional.ts";
import { int8Words, writeInt8At } from "../ops/int8.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface CacheSizes {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Default "f32". */
  readonly dtype?: CacheType;
}

/**
 * Format of keys and values: 4, 2 or 1 + 4 / D bytes per number (int8 has a scale per token and head). Attention reads each
 * format as is. The error of a number is at most 2^-11 of it (f16), or 1/254 of the largest in its row (int8).
 */
export type CacheType = "f32" | "f16" | "int8";

/**
 * Keys and values of the tokens so far, updated in place on the device. The capacity is fixed and the number of tokens is data,
 * so every decoding step has the same plan. Samples of a batch may differ in length.
 */
export class KVCache {
  readonly #keys: Tensor[]; // each [B, Hkv, C, D], or int8 rows [B, Hkv, C, D / 4 + 1]
  readonly #values: Tensor[];
  /** Number of tokens of each sample in the cache. */
  lengths: number[];
  #starts?: Tensor; // i32 [B], of the current forward pass

  constructor(
    readonly sizes: CacheSizes,
    readonly batch: number,
    readonly capacity: number,
  ) {
    const { layers, kvHeads, headDim, dtype = "f32" } = sizes;
    const int8 = dtype === "int8";
    const shape = [batch, kvHeads, capacity, int8 ? int8Words(headDim) : headDim];
    const make = () => zeros(shape, { dtype: int8 ? "u32" : dtype });
    this.#keys = Array.from({ length: layers }, make);
    this.#values = Array.from({ length: layers }, make);
    this.lengths = new Array<number>(batch).fill(0);
  }

  /** Starts a forward pass over `count` new tokens per sample. Returns their positions, i32 [B, T]. */
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

  /** Ends a forward pass: adds `count` tokens to every sample, or to each its own count. */
  end(count: number | readonly number[]): void {
    this.lengths = this.lengths.map((n, i) => n + (typeof count === "number" ? count : count[i]));
  }

  /**
   * Adds k and v, [B, Hkv, T, D], to layer `layer`. Returns attention of q, [B, H, T, D], over all tokens up to each query, or
   * over the last `window` of them.
   */
  attend(layer: number, { q, k, v, window }: { q: Tensor; k: Tensor; v: Tensor; window?: number }): Tensor {
    const starts = this.#starts!;
    const t = q.shape[2];
    const [keys, values] = [this.#keys[layer], this.#values[layer]];
    const write = keys.dtype === "u32" ? writeInt8At : writeAt;
    assign(keys, write(keys, k, starts));
    assign(values, write(values, v, starts));
    // An empty cache: attention over the new keys alone.
    if (this.lengths.every((n) => n === 0)) return scaledDotProductAttention(q, k, v, { isCausal: true, window });
    const lengths = starts.add(t);
    return scaledDotProductAttention(q, keys, values, { lengths, window, isCausal: true, align: "bottom-right" });
  }

  /** Replaces sample i by sample `rows[i]`, for beam search. */
  reorder(rows: readonly number[]): void {
    const index = tensor(Int32Array.from(rows));
    for (const kept of [...this.#keys, ...this.#values]) assign(kept, kept.indexSelect(0, index));
    this.lengths = rows.map((row) => this.lengths[row]);
  }

  /** A copy with the samples `rows`, which may repeat, and room for `capacity` tokens each. */
  copy(rows: readonly number[], capacity = this.capacity): KVCache {
    if (capacity < this.capacity)
      throw new RangeError(`KVCache: ${this.capacity} rows do not fit a copy of ${capacity}`);
    const copy = new KVCache(this.sizes, rows.length, capacity);
    const index = tensor(Int32Array.from(rows));
    const fill = (to: Tensor, from: Tensor) => assign(to, writeAt(to, from.indexSelect(0, index), start));
    const start = tensor(Int32Array.of(0));
    copy.#keys.forEach((to, i) => fill(to, this.#keys[i]));
    copy.#values.forEach((to, i) => fill(to, this.#values[i]));
    copy.lengths = rows.map((row) => this.lengths[row]);
    return copy;
  }
}
