/** Random augmentation of training images, on bytes, before the processor. Off in most of the papers' recipes. */

import { crop as cropTo, type Image, resize, toRGB } from "../../src/image/index.ts";
import type { Sample } from "./data.ts";

export interface AugmentOptions {
  /** Range of the cropped share of the area, with aspect 3:4 to 4:3; null = no crop. */
  crop: readonly [number, number] | null;
  flip: boolean;
  /** Brightness, contrast and saturation vary by factors in [1 - jitter, 1 + jitter]. */
  jitter: number;
}

/** Words that are wrong for a mirrored image: sides, directions, and text to read. */
const SIDED = /\b(?:left|right|clockwise|text|word|letter|sign|read|written|says?)|左|右|顺时针|文字|字|写|读/i;

/** Whether an image of the sample may be mirrored. */
export function mayFlip({ turns, text }: Sample): boolean {
  return !SIDED.test(text ?? turns!.map(({ value }) => value).join("\n"));
}

/** An augmented copy of the image, by `random` alone. A crop is resized to a square of `size` pixels. */
export function augment(
  image: Image,
  { crop, flip, jitter }: AugmentOptions,
  size: number,
  random: () => number,
): Image {
  let out = toRGB(image);
  if (crop) out = randomCrop(out, crop, size, random);
  if (flip && random() < 0.5) out = mirror(out);
  if (jitter > 0) out = colourJitter(out, jitter, random);
  return out;
}

/** As torchvision's RandomResizedCrop. After ten tries without a fit, the whole image is used. */
function randomCrop(image: Image, [least, most]: readonly [number, number], size: number, random: () => number): Image {
  const { width, height } = image;
  for (let tries = 0; tries < 10; tries++) {
    const area = width * height * (least + (most - least) * random());
    const aspect = Math.exp((2 * random() - 1) * Math.log(4 / 3));
    const w = Math.round(Math.sqrt(area * aspect));
    const h = Math.round(Math.sqrt(area / aspect));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const part = cropTo(image, Math.floor(random() * (width - w + 1)), Math.floor(random() * (height - h + 1)), w, h);
    return resize(part, size, size, "bicubic");
  }
  return resize(image, size, size, "bicubic");
}

function mirror({ width, height, channels, data }: Image): Image {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + x) * channels;
      const to = (y * width + (width - 1 - x)) * channels;
      for (let c = 0; c < channels; c++) out[to + c] = data[from + c];
    }
  }
  return { width, height, channels, data: out };
}

const luma = (data: ArrayLike<number>, i: number): number =>
  0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];

function colourJitter(image: Image, by: number, random: () => number): Image {
  const [brightness, contrast, saturation] = Array.from({ length: 3 }, () => 1 + (2 * random() - 1) * by);
  const data = Float32Array.from(image.data, (v) => v * brightness);
  let mean = 0;
  for (let i = 0; i < data.length; i += 3) mean += luma(data, i) / (data.length / 3);
  for (let i = 0; i < data.length; i++) data[i] = mean + (data[i] - mean) * contrast;
  for (let i = 0; i < data.length; i += 3) {
    const grey = luma(data, i);
    for (let c = 0; c < 3; c++) data[i + c] = grey + (data[i + c] - grey) * saturation;
  }
  return { ...image, data: Uint8ClampedArray.from(data) };
}
