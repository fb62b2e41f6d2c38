/** Batches of a data set: ids, labels, and images as pixels or as features of the frozen tower. */

import { bucket } from "../../src/generate/index.ts";
import { type Image, type Size, tileGrid } from "../../src/image/index.ts";
import { noGrad } from "../../src/index.ts";
import { type FileSource, subfolder } from "../../src/io/index.ts";
import { collate, type TrainingInput } from "./collate.ts";
import {
  checkFiles,
  type EncoderOptions,
  encodeSample,
  openFile,
  readSamples,
  readSizes,
  type Sample,
} from "./data.ts";
import { type Decode, FeatureCache, ImageLoader, stackPixels } from "./images.ts";
import type { OpenedModel } from "./model.ts";
import type { Recipe } from "./recipe.ts";
import { epochSteps, type MicroBatch, type SampleSize, type Step } from "./sampler.ts";

/** Samples of one or several files, all of them checked. */
export class DataSet {
  private constructor(
    readonly samples: readonly Sample[],
    readonly sizes: readonly SampleSize[],
    /** Number of samples that exceed the longest sequence. */
    readonly cut: number,
    readonly encoder: EncoderOptions,
    /** Height and width of each image file, for models that cut images into tiles. */
    readonly imageSizes: ReadonlyMap<string, Size> | undefined,
    private readonly recipe: Recipe,
  ) {}

  static async open(
    paths: readonly string[],
    opened: OpenedModel,
    recipe: Recipe,
    folder: FileSource,
    decode: Decode,
  ): Promise<DataSet> {
    const samples: Sample[] = [];
    for (const path of paths) {
      const { source, name } = await openFile(path);
      for (const sample of await readSamples(source, name)) samples.push(sample);
    }
    await checkFiles(samples, folder);
    const { processor, legacy, imageToken, tokensOf, tiles } = opened;
    const imageSizes = tiles && (await readSizes(samples, folder, decode));
    const encoder: EncoderOptions = {
      tokenizer: processor.tokenizer,
      version: recipe.version,
      legacy,
      imStartEnd: processor.options.imStartEnd,
      imageToken,
      tokensOf: (name) => tokensOf(imageSizes?.get(name)),
      maxLength: recipe.model_max_length,
    };
    // All samples are tokenised before the first step, so that a bad one does not end a run after hours.
    let cut = 0;
    const sizes = samples.map((sample): SampleSize => {
      const encoded = encodeSample(sample, encoder);
      if (encoded.cut) cut++;
      return { length: encoded.length, hasImage: sample.images.length > 0 };
    });
    return new DataSet(samples, sizes, cut, encoder, imageSizes, recipe);
  }

  /** The steps of an epoch. */
  steps(epoch: number): Step[] {
    const { train_batch_size: batch, micro_batch_size: micro, seed, packing, model_max_length } = this.recipe;
    const grouped = this.recipe.group_by_modality_length;
    return epochSteps(this.sizes, epoch, {
      batch,
      micro,
      seed,
      grouped,
      packTo: packing ? model_max_length : undefined,
    });
  }
}

export interface TrainingBatch {
  readonly input: TrainingInput;
  /** Number of positions that are not padding. */
  readonly tokens: number;
  /** Whether it is the last of its step. */
  readonly last: boolean;
}

/** Makes batches of a data set: ids, and images as pixels or as features of the frozen tower. */
export class Batches {
  readonly cache?: FeatureCache;
  readonly #images: ImageLoader;
  readonly #plainImages: ImageLoader;

  constructor(
    readonly opened: OpenedModel,
    readonly recipe: Recipe,
    folder: FileSource,
    output: FileSource,
    decode: Decode,
  ) {
    const { model, processor, pixelShape, featureShape, tiles } = opened;
    const { augment_crop: crop, augment_flip: flip, augment_jitter: jitter, seed } = recipe;
    const images = {
      folder,
      decode,
      preprocess: (image: Image) => processor.pixels(image).map(({ data }) => data),
      size: pixelShape[1],
      seed,
    };
    this.#plainImages = new ImageLoader(images);
    this.#images =
      crop || flip || jitter > 0 ? new ImageLoader({ ...images, augment: { crop, flip, jitter } }) : this.#plainImages;
    if (recipe.feature_cache === "off") return;
    this.cache = new FeatureCache({
      compute: (pixels) => model.visionFeatures(pixels),
      pixelShape,
      featureShape,
      chunk: recipe.micro_batch_size,
      budget: recipe.feature_cache_bytes,
      disk: recipe.feature_cache === "disk" ? subfolder(output, "features") : undefined,
      about: {
        folder: recipe.image_folder,
        processing: processor.images,
        aspect: processor.options.aspect,
        tiles,
      },
    });
  }

  /** Yields the micro-batches of the steps from `first` up to `steps`. */
  async *training(data: DataSet, first: number, steps: number): AsyncGenerator<TrainingBatch> {
    const perEpoch = data.steps(0).length;
    for (let at = first; at < steps; ) {
      const epoch = Math.floor(at / perEpoch);
      for (const step of data.steps(epoch).slice(at % perEpoch)) {
        for (const [i, micro] of step.entries())
          yield { ...(await this.make(data, micro, epoch)), last: i === step.length - 1 };
        if (++at === steps) return;
      }
    }
  }

  /** One batch. Without an epoch its images are not augmented. */
  async make(data: DataSet, rows: MicroBatch, epoch?: number): Promise<Omit<TrainingBatch, "last">> {
    const { maxLength } = data.encoder;
    const encoded = rows.map((row) => row.map((id) => encodeSample(data.samples[id], data.encoder)));
    const input = collate(encoded, maxLength);
    const tokens = encoded.flat().reduce((n, { length }) => n + length, 0);
    const wanted = rows.flat().flatMap((id) => data.samples[id].images.map((name, index) => ({ id, name, index })));
    if (wanted.length === 0) return { input, tokens };
    const loader = epoch === undefined ? this.#plainImages : this.#images;
    const load = once(async (i: number) =>
      loader.pixels(data.samples[wanted[i].id], wanted[i].index, wanted[i].id, epoch ?? 0),
    );
    const imageSizes = data.imageSizes && wanted.map(({ name }) => data.imageSizes!.get(name)!);
    if (!this.cache) {
      const pixels = (await Promise.all(wanted.map((_, i) => load(i)))).flat();
      return { input: { ...input, imageSizes, pixelValues: stackPixels(pixels, this.opened.pixelShape) }, tokens };
    }
    const parts = wanted.flatMap(({ name }, i) =>
      this.#parts(name, imageSizes?.[i]).map((key, tile) => ({ key, i, tile })),
    );
    const visionFeatures = await this.cache.get(
      parts.map(({ key }) => key),
      async (k) => (await load(parts[k].i))[parts[k].tile],
    );
    return { input: { ...input, imageSizes, visionFeatures }, tokens };
  }

  /** Keys of an image, or of its tiles, in the cache. */
  #parts(name: string, size?: Size): string[] {
    const { tiles } = this.opened;
    if (!tiles) return [name];
    const [rows, columns] = tileGrid(size!, tiles.pinpoints, tiles.tile);
    return Array.from({ length: 1 + rows * columns }, (_, tile) => `${name}#${tile}`);
  }

  /** The batch of the first epoch with most positions; with `pictured`, of those with images, if there are any. */
  async largest(data: DataSet, pictured: boolean): Promise<TrainingInput> {
    const lengthOf = (row: readonly number[]): number => row.reduce((n, id) => n + data.sizes[id].length, 0);
    const area = (rows: MicroBatch): number => rows.length * bucket(Math.max(...rows.map(lengthOf)));
    const all = data.steps(0).flat();
    const some = pictured ? all.filter((rows) => rows.flat().some((id) => data.sizes[id].hasImage)) : all;
    const batch = (some.length ? some : all).reduce((a, b) => (area(b) > area(a) ? b : a));
    return (await this.make(data, batch)).input;
  }

  /** Mean loss over all labels of a data set. */
  async meanLoss(data: DataSet): Promise<number> {
    let [sum, count] = [0, 0];
    for (const rows of data.steps(0).flat()) {
      const { input } = await this.make(data, rows);
      const labels = ((await input.labels.data()) as Int32Array).reduce((n, label) => n + (label >= 0 ? 1 : 0), 0);
      sum += labels * (await noGrad(() => this.opened.model.loss(input)).item());
      count += labels;
    }
    return sum / count;
  }
}

/** Memoises a function of small numbers. */
function once<T>(f: (i: number) => Promise<T>): (i: number) => Promise<T> {
  const known = new Map<number, Promise<T>>();
  return (i) => {
    if (!known.has(i)) known.set(i, f(i));
    return known.get(i)!;
  };
}
