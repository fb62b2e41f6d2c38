/** Images of training samples, as pixels or as features of the frozen tower. */

import { randomOf } from "../../src/data/index.ts";
import type { Image } from "../../src/image/index.ts";
import { noGrad, type Shape, type Tensor, tensor } from "../../src/index.ts";
import { type FileSource, jsonBytes, readJson, writeFile } from "../../src/io/index.ts";
import { type AugmentOptions, augment, mayFlip } from "./augment.ts";
import type { Sample } from "./data.ts";

export type Decode = (bytes: Uint8Array) => Promise<Image>;

export interface ImageOptions {
  folder: FileSource;
  decode: Decode;
  /** Pixel values [C, H, W] of an image, or of each of its tiles. */
  preprocess: (image: Image) => Float32Array[];
  /** Side of the processed image in pixels. */
  size: number;
  augment?: AugmentOptions;
  seed: number;
}

/** Reads, decodes, augments and processes image files. */
export class ImageLoader {
  constructor(readonly options: ImageOptions) {}

  /** Pixel values of one image, or of its tiles. @throws naming the sample and the file. */
  async pixels(sample: Sample, index: number, sampleId: number, epoch: number): Promise<Float32Array[]> {
    const { folder, decode, preprocess, size, augment: change, seed } = this.options;
    const name = sample.images[index];
    try {
      const image = await decode(await folder.read(name));
      if (!change) return preprocess(image);
      const flip = change.flip && mayFlip(sample);
      return preprocess(augment(image, { ...change, flip }, size, randomOf(seed, epoch, sampleId, index)));
    } catch (error) {
      throw new Error(`${sample.where}: image ${name}: ${(error as Error).message}`);
    }
  }
}

/** Images [N, C, H, W] of equal sizes. */
export function stackPixels(images: readonly Float32Array[], [c, h, w]: Shape): Tensor {
  const data = new Float32Array(images.length * c * h * w);
  for (const [i, image] of images.entries()) data.set(image, i * c * h * w);
  return tensor(data, { shape: [images.length, c, h, w] });
}

export interface FeatureOptions {
  /** pixels [N, C, H, W] to features [N, P, D]. */
  compute: (pixels: Tensor) => Tensor;
  pixelShape: Shape;
  featureShape: Shape;
  /** Images per forward pass of the tower. The number is fixed, so that an image's features have the same bits in any run. */
  chunk: number;
  /** Most bytes in memory. The least recently used features are dropped first. */
  budget: number;
  /** Folder that keeps features as files too, for later epochs and runs. */
  disk?: FileSource;
  /** Identity of the images: their source and processing, as JSON. It is stored with the files. */
  about?: object;
}

/** Features of a frozen tower, computed once per image. Keys are file names. */
export class FeatureCache {
  /** Number of images computed by the tower, and of lookups in the cache. */
  computed = 0;
  served = 0;
  bytes = 0;
  readonly #kept = new Map<string, Float32Array>(); // in order of use
  readonly #size: number;
  #checked?: Promise<void>;

  constructor(readonly options: FeatureOptions) {
    this.#size = sizeOf(options.featureShape);
  }

  /**
   * Features [N, P, D] of `names`. `load` returns the pixels of those that are not in the cache.
   * @throws if the files on disk are of another tower or other images
   */
  async get(names: readonly string[], load: (i: number) => Promise<Float32Array>): Promise<Tensor> {
    await (this.#checked ??= this.#check());
    const { featureShape } = this.options;
    const found = new Map<string, Float32Array>();
    const missing = new Map<string, number>();
    for (const [i, name] of names.entries()) {
      if (found.has(name) || missing.has(name)) continue;
      const known = this.#recall(name) ?? (await this.#read(name));
      if (known) {
        found.set(name, known);
        this.served++;
      } else missing.set(name, i);
    }
    const list = [...missing];
    for (let at = 0; at < list.length; at += this.options.chunk) {
      const part = list.slice(at, at + this.options.chunk);
      const features = await this.#compute(await Promise.all(part.map(([, i]) => load(i))));
      this.computed += part.length;
      for (const [k, [name]] of part.entries()) {
        const own = features.slice(k * this.#size, (k + 1) * this.#size);
        found.set(name, own);
        await this.#write(name, own);
      }
    }
    for (const [name, features] of found) this.#remember(name, features);
    const data = new Float32Array(names.length * this.#size);
    for (const [i, name] of names.entries()) data.set(found.get(name)!, i * this.#size);
    return tensor(data, { shape: [names.length, ...featureShape] });
  }

  async #compute(images: Float32Array[]): Promise<Float32Array> {
    const { compute, pixelShape, chunk } = this.options;
    const blank = new Float32Array(sizeOf(pixelShape));
    const full = [...images, ...Array.from({ length: chunk - images.length }, () => blank)];
    return (await noGrad(() => compute(stackPixels(full, pixelShape))).data()) as Float32Array;
  }

  /** Files of an earlier run are used only if the tower gives the same features of a test image, and the images are the same. */
  async #check(): Promise<void> {
    const { disk, pixelShape, about = {} } = this.options;
    if (!disk) return;
    const ramp = Float32Array.from({ length: sizeOf(pixelShape) }, (_, i) => ((i * 7) % 17) / 8 - 1);
    const made = [...(await this.#compute([ramp])).subarray(0, Math.min(this.#size, 64))];
    if ((await disk.size(ABOUT)) === undefined)
      return writeFile(disk, ABOUT, [jsonBytes({ about, features: this.#size, ramp: made })]);
    const { ramp: before, ...kept } = await readJson(disk, ABOUT);
    const scale = Math.max(...made.map(Math.abs));
    const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
    const tower = kept.features === this.#size && made.every((v, i) => Math.abs(v - before[i]) <= 1e-3 * scale);
    if (tower && same(kept.about, about)) return;
    const why = tower ? `images of ${JSON.stringify(kept.about)}, not ${JSON.stringify(about)}` : "another tower";
    throw new Error(`${disk.location} has features of ${why}: remove it, or give another output_dir`);
  }

  #recall(name: string): Float32Array | undefined {
    const known = this.#kept.get(name);
    if (known) this.#kept.delete(name); // `remember` adds it again, as the most recently used
    if (known) this.bytes -= known.byteLength;
    return known;
  }

  #remember(name: string, features: Float32Array): void {
    this.#kept.set(name, features);
    this.bytes += features.byteLength;
    for (const [oldest, { byteLength }] of this.#kept) {
      if (this.bytes <= this.options.budget) break;
      this.#kept.delete(oldest);
      this.bytes -= byteLength;
    }
  }

  async #read(name: string): Promise<Float32Array | undefined> {
    const { disk } = this.options;
    const path = fileOf(name);
    if (!disk || (await disk.size(path)) !== this.#size * 4) return undefined;
    return new Float32Array((await disk.read(path)).slice().buffer);
  }

  async #write(name: string, features: Float32Array): Promise<void> {
    const bytes = new Uint8Array(features.buffer, features.byteOffset, features.byteLength);
    if (this.options.disk) await writeFile(this.options.disk, fileOf(name), [bytes]);
  }
}

const ABOUT = "about.json";

/** A unique file name for an image name, which may contain slashes. */
const fileOf = (name: string): string => `${encodeURIComponent(name)}.f32`;

const sizeOf = (shape: Shape): number => shape.reduce((n, size) => n * size, 1);
