import "../tensor/methods/index.ts";

import { drawSeed } from "../graph/generator.ts";
import { sameShape, show } from "../graph/shape.ts";
import { stack, tensor } from "../ops/functional.ts";
import { Tensor } from "../tensor/tensor.ts";
import { randomOf, shuffled } from "./random.ts";
import { Workers } from "./workers.ts";

/** A list of samples, read by position. Arrays are data sets too. */
export abstract class Dataset<T> {
  /** Number of samples. */
  abstract readonly length: number;
  /** Sample `i`, counted from 0. It may be read at any time, in any order. */
  abstract get(i: number): T | Promise<T>;
  /** A whole batch, for data sets that read one faster than its samples. `DataLoader` uses it without workers and `collate`. */
  batch?(positions: readonly number[]): Collated<T> | Promise<Collated<T>>;
}

/** Rows of tensors of one length: sample i is the list of their i-th rows. */
export class TensorDataset extends Dataset<Tensor[]> {
  readonly #tensors: readonly Tensor[];

  /** @throws if the tensors differ in the size of their first dim. */
  constructor(...tensors: Tensor[]) {
    super();
    const sizes = tensors.map((t) => t.shape[0]);
    if (tensors.length === 0 || sizes.some((n) => n === undefined || n !== sizes[0]))
      throw new Error(
        `TensorDataset: tensors with one size of dim 0 expected, got ${tensors.map((t) => `[${t.shape}]`).join(", ")}`,
      );
    this.#tensors = tensors;
  }

  get length(): number {
    return this.#tensors[0].shape[0];
  }

  get(i: number): Tensor[] {
    return this.#tensors.map((t) => t.select(0, i));
  }

  /** Positions are data, so that all batches of one size share a plan. */
  override batch(positions: readonly number[]): Tensor[] {
    const at = tensor(Int32Array.from(positions));
    return this.#tensors.map((t) => t.indexSelect(0, at));
  }
}

/** Gives the positions of one epoch. */
export type Sampler = Iterable<number> | ((epoch: number) => Iterable<number>);

/**
 * All positions in random order, each epoch in another; with `replacement` drawn independently.
 * @example new DataLoader(data, { sampler: new RandomSampler(data.length, { replacement: true, samples: 1000 }) })
 */
export class RandomSampler {
  readonly #options: { replacement: boolean; samples: number; seed: number };
  #epoch = 0;

  constructor(
    readonly length: number,
    {
      replacement = false,
      samples = length,
      seed = drawSeed(),
    }: { replacement?: boolean; samples?: number; seed?: number } = {},
  ) {
    checkCount("RandomSampler", "length", length, 0);
    checkCount("RandomSampler", "samples", samples, 0);
    if (!replacement && samples > length)
      throw new RangeError(`RandomSampler: ${samples} samples of ${length} need replacement`);
    this.#options = { replacement, samples, seed };
  }

  /** The positions of an epoch; without a number, of the next one. */
  *[Symbol.iterator](): Generator<number> {
    yield* this.epoch(this.#epoch++);
  }

  epoch(epoch: number): readonly number[] {
    const { replacement, samples, seed } = this.#options;
    const random = randomOf(seed, epoch);
    if (replacement) return Array.from({ length: samples }, () => Math.floor(random() * this.length));
    return shuffled(range(this.length), random).slice(0, samples);
  }
}

/** Positions drawn in proportion to `weights`. */
export class WeightedRandomSampler {
  readonly #cumulative: number[];
  readonly #seed: number;
  #epoch = 0;

  constructor(
    weights: readonly number[],
    readonly samples: number,
    { seed = drawSeed() }: { seed?: number } = {},
  ) {
    if (weights.length === 0 || !weights.every((w) => Number.isFinite(w) && w >= 0) || !weights.some((w) => w > 0))
      throw new RangeError("WeightedRandomSampler: weights must be finite, at least 0, and not all 0");
    checkCount("WeightedRandomSampler", "samples", samples, 0);
    let sum = 0;
    this.#cumulative = weights.map((w) => (sum += w));
    this.#seed = seed;
  }

  *[Symbol.iterator](): Generator<number> {
    const random = randomOf(this.#seed, this.#epoch++);
    const total = this.#cumulative[this.#cumulative.length - 1];
    for (let i = 0; i < this.samples; i++) {
      const at = random() * total;
      let [low, high] = [0, this.#cumulative.length - 1];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.#cumulative[middle] > at) high = middle;
        else low = middle + 1;
      }
      yield low;
    }
  }
}

/**
 * A batch of samples: numbers and tensors are stacked, typed arrays become rows, lists and objects are collated field by
 * field, anything else stays a list.
 */
export type Collated<T> = T extends number | boolean | Tensor | ArrayBufferView
  ? Tensor
  : T extends readonly (infer E)[]
    ? Collated<E>[]
    : T extends string
      ? string[]
      : T extends object
        ? { [K in keyof T]: Collated<T[K]> }
        : T[];

export interface DataLoaderOptions<T, B> {
  /** Samples per batch. Default 1. */
  batchSize?: number;
  /** Another random order in each epoch. Default false: in order. */
  shuffle?: boolean;
  /** Positions of an epoch, instead of `shuffle`. */
  sampler?: Sampler;
  /** Leaves out a last batch that is not full. Default false. */
  dropLast?: boolean;
  /** Makes a batch of samples. Default: `collate`. */
  collate?: (samples: T[]) => B | Promise<B>;
  /** Of the random order. Default: drawn from the generator that `manualSeed` restarts. */
  seed?: number;
  /** Batches that are read ahead. Default 2 with workers, else 0. */
  prefetch?: number;
  /** Processes (web workers in browsers) that read samples. Default 0: this one reads them. Needs `module`. */
  workers?: number;
  /**
   * The module that workers read samples from: its default export is the data set, or a function that makes it. Samples cross
   * to this process as structured clones: numbers, strings, typed arrays, lists and objects of them, no tensors.
   */
  module?: URL | string;
}

/** Where an iteration stands, as plain data for checkpoints. */
export interface LoaderState {
  readonly seed: number;
  readonly epoch: number;
  /** Batches of the epoch that have been given out. */
  readonly batch: number;
}

/** Anything with a length and samples: an array, or a `Dataset`. */
export type DatasetLike<T> = readonly T[] | { readonly length: number; get(i: number): T | Promise<T> };

/**
 * Batches of a data set. Each `for await` is one epoch. The order depends on seed and epoch alone, so that a loader restored
 * from `state()` continues with the same batches.
 * @example
 * const loader = new DataLoader(new TensorDataset(x, y), { batchSize: 32, shuffle: true });
 * for await (const [x, y] of loader) await step(x, y);
 */
export class DataLoader<T, B = Collated<T>> implements AsyncIterable<B> {
  readonly #dataset: DatasetLike<T>;
  readonly #options: DataLoaderOptions<T, B>;
  readonly #batchSize: number;
  #state: { seed: number; epoch: number; batch: number };
  #workers?: Workers<T>;

  constructor(dataset: DatasetLike<T>, options: DataLoaderOptions<T, B> = {}) {
    for (const name of Object.keys(options))
      if (!known.includes(name))
        throw new TypeError(`DataLoader: unknown option ${name}; options: ${known.join(", ")}`);
    const { batchSize = 1, workers = 0, prefetch = workers > 0 ? 2 : 0, seed = drawSeed(), shuffle, sampler } = options;
    checkCount("DataLoader", "batchSize", batchSize, 1);
    checkCount("DataLoader", "workers", workers, 0);
    checkCount("DataLoader", "prefetch", prefetch, 0);
    checkCount("DataLoader", "the length of the data set", dataset.length, 0);
    if (shuffle && sampler) throw new Error("DataLoader: shuffle and sampler exclude each other");
    if (workers > 0 && !options.module)
      throw new Error("DataLoader: workers need the option module, the file whose default export is the data set");
    this.#dataset = dataset;
    this.#options = { ...options, prefetch, workers };
    this.#batchSize = batchSize;
    this.#state = { seed, epoch: 0, batch: 0 };
  }

  /** Batches per epoch, unless a sampler gives another number of positions than the data set has samples. */
  get length(): number {
    const batches = this.#dataset.length / this.#batchSize;
    return this.#options.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  /** Where the iteration stands: the next batch is `batch` of `epoch`. */
  state(): LoaderState {
    return { ...this.#state };
  }

  /** Continues from a saved state: the next `for await` starts at its batch. */
  restore({ seed, epoch, batch }: LoaderState): void {
    checkCount("DataLoader.restore", "epoch", epoch, 0);
    checkCount("DataLoader.restore", "batch", batch, 0);
    this.#state = { seed, epoch, batch };
  }

  /** One epoch, from the state on. */
  async *[Symbol.asyncIterator](): AsyncGenerator<B> {
    const { prefetch = 0 } = this.#options;
    const epoch = this.#state.epoch;
    const positions = this.#batches(epoch);
    const ahead: Promise<B>[] = [];
    let next = this.#state.batch;
    try {
      while (next < positions.length || ahead.length > 0) {
        while (next < positions.length && ahead.length <= prefetch) {
          const batch = this.#read(positions[next++]);
          batch.catch(() => undefined); // reported where it is awaited
          ahead.push(batch);
        }
        const batch = await ahead.shift()!;
        this.#state.batch++;
        if (this.#state.batch >= positions.length) this.#state = { seed: this.#state.seed, epoch: epoch + 1, batch: 0 };
        yield batch;
      }
      if (positions.length === 0) this.#state = { seed: this.#state.seed, epoch: epoch + 1, batch: 0 };
    } finally {
      await Promise.allSettled(ahead);
    }
  }

  /** Ends the workers. They start again with the next epoch. */
  close(): void {
    this.#workers?.close();
    this.#workers = undefined;
  }

  /** The positions of each batch of an epoch. */
  #batches(epoch: number): number[][] {
    const { shuffle, sampler, dropLast } = this.#options;
    const size = this.#dataset.length;
    const order = sampler
      ? [
          ...(typeof sampler === "function"
            ? sampler(epoch)
            : "epoch" in sampler
              ? (sampler as RandomSampler).epoch(epoch)
              : sampler),
        ]
      : shuffle
        ? shuffled(range(size), randomOf(this.#state.seed, epoch))
        : range(size);
    for (const i of order)
      if (!(Number.isInteger(i) && i >= 0 && i < size))
        throw new RangeError(`DataLoader: the sampler gave position ${i} of a data set of ${size} samples`);
    const batches = Array.from({ length: Math.ceil(order.length / this.#batchSize) }, (_, b) =>
      order.slice(b * this.#batchSize, (b + 1) * this.#batchSize),
    );
    return dropLast ? batches.filter((b) => b.length === this.#batchSize) : batches;
  }

  async #read(positions: readonly number[]): Promise<B> {
    const { workers = 0, module, collate: own } = this.#options;
    const { batch } = this.#dataset as Dataset<T>;
    if (workers === 0 && !own && batch) return (await batch.call(this.#dataset, positions)) as B;
    let samples: T[];
    if (workers > 0) {
      this.#workers ??= new Workers<T>(String(module), workers);
      samples = await this.#workers.read(positions);
    } else samples = await Promise.all(positions.map((i) => sampleOf(this.#dataset, i)));
    return own ? own(samples) : (collate(samples) as B);
  }
}

const known = ["batchSize", "shuffle", "sampler", "dropLast", "collate", "seed", "prefetch", "workers", "module"];

const sampleOf = <T>(dataset: DatasetLike<T>, i: number): T | Promise<T> =>
  Array.isArray(dataset) ? (dataset as readonly T[])[i] : (dataset as Dataset<T>).get(i);

/**
 * The default of `DataLoader`: stacks numbers, booleans, typed arrays and tensors along a new first dim, collates lists and
 * objects field by field, and leaves strings and anything else as a list.
 * @throws if the samples differ in shape or fields
 */
export function collate<T>(samples: readonly T[]): Collated<T> {
  const first: unknown = samples[0];
  const as = <R>(value: R): Collated<T> => value as unknown as Collated<T>;
  if (first instanceof Tensor) return as(stacked(samples as unknown as Tensor[]));
  if (typeof first === "number") {
    const numbers = samples as unknown as number[];
    return as(tensor(numbers, { dtype: numbers.every(Number.isInteger) ? "i32" : "f32" }));
  }
  if (typeof first === "boolean") return as(tensor((samples as unknown as boolean[]).map(Number), { dtype: "bool" }));
  if (ArrayBuffer.isView(first))
    return as(stacked((samples as unknown as Float32Array[]).map((values) => tensor(values))));
  if (Array.isArray(first)) {
    const lists = samples as unknown as unknown[][];
    if (lists.some((s) => s.length !== first.length))
      throw new Error(
        `collate: samples are lists of ${lists.map((s) => s.length).join(", ")} elements: expected one length`,
      );
    return as(first.map((_, i) => collate(lists.map((s) => s[i]))));
  }
  if (first !== null && typeof first === "object" && Object.getPrototypeOf(first) === Object.prototype) {
    const objects = samples as unknown as Record<string, unknown>[];
    const fields = Object.keys(first);
    for (const sample of objects)
      if (fields.some((f) => !(f in sample)))
        throw new Error(
          `collate: a sample has the fields ${Object.keys(sample)}, another ${fields}: expected the same`,
        );
    return as(Object.fromEntries(fields.map((f) => [f, collate(objects.map((s) => s[f]))])));
  }
  return as([...samples]);
}

/** Tensors along a new first dim. Values that lie on the host are joined there: one upload, and one plan for all batches. */
function stacked(parts: readonly Tensor[]): Tensor {
  const [{ shape, dtype }] = parts;
  const host = parts.map((t) => t.hostData);
  if (parts.some((t) => !sameShape(t.shape, shape)))
    throw new Error(`collate: samples have the shapes ${parts.map((t) => show(t.shape)).join(", ")}: expected one`);
  const alike = parts.every((t) => t.dtype === dtype && !t.requiresGrad);
  if (!alike || !host.every((data) => data !== undefined)) return stack(parts);
  const size = host[0]!.length;
  const all = new (host[0]!.constructor as new (n: number) => Float32Array)(size * parts.length);
  for (const [i, data] of host.entries()) all.set(data as Float32Array, i * size);
  return tensor(all, { shape: [parts.length, ...shape], dtype });
}

/** Data sets one after another. */
export class ConcatDataset<T> extends Dataset<T> {
  readonly #parts: readonly DatasetLike<T>[];
  constructor(parts: readonly DatasetLike<T>[]) {
    super();
    this.#parts = parts;
  }
  get length(): number {
    return this.#parts.reduce((n, p) => n + p.length, 0);
  }
  get(i: number): T | Promise<T> {
    let at = i;
    for (const part of this.#parts) {
      if (at < part.length) return sampleOf(part, at);
      at -= part.length;
    }
    throw new RangeError(`ConcatDataset: no sample ${i}: there are ${this.length}`);
  }
}

/** The samples of a data set at `positions`. */
export class Subset<T> extends Dataset<T> {
  constructor(
    readonly dataset: DatasetLike<T>,
    readonly positions: readonly number[],
  ) {
    super();
  }
  get length(): number {
    return this.positions.length;
  }
  get(i: number): T | Promise<T> {
    return sampleOf(this.dataset, this.positions[i]);
  }
}

/** Splits a data set at random into parts of the given sizes, or shares that sum to 1. */
export function randomSplit<T>(
  dataset: DatasetLike<T>,
  sizes: readonly number[],
  { seed = drawSeed() }: { seed?: number } = {},
): Subset<T>[] {
  const sum = sizes.reduce((a, b) => a + b, 0);
  const shares = Math.abs(sum - 1) < 1e-9 && !sizes.every(Number.isInteger);
  const counts = shares ? sizes.map((s) => Math.floor(s * dataset.length)) : [...sizes];
  if (shares)
    for (let i = 0, left = dataset.length - counts.reduce((a, b) => a + b, 0); left > 0; left--, i++)
      counts[i % counts.length]++;
  if (counts.reduce((a, b) => a + b, 0) !== dataset.length || !counts.every((n) => Number.isInteger(n) && n >= 0))
    throw new Error(`randomSplit: sizes ${sizes} do not add up to the ${dataset.length} samples, nor to 1`);
  const order = shuffled(range(dataset.length), randomOf(seed));
  let start = 0;
  return counts.map((n) => new Subset(dataset, order.slice(start, (start += n))));
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

function checkCount(where: string, what: string, value: number, least: number): void {
  if (!(Number.isInteger(value) && value >= least))
    throw new RangeError(`${where}: ${what} must be a whole number of at least ${least}, got ${value}`);
}
