/** Converts a line of text in an image to the recogniser's input, and its output to characters. */

import { type Image, resize, toRGB } from "../../src/image/index.ts";
import { noGrad, type Tensor, tensor } from "../../src/index.ts";
import type { TextRecognizer } from "./model.ts";

const HEIGHT = 48;

/** 48 pixels high, width in proportion and padded with zeros to a multiple of 8; blue, green, red in -1..1. */
export function linePixels(image: Image): { data: Float32Array; shape: [number, number, number, number] } {
  const width = Math.max(8, Math.round((image.width * HEIGHT) / image.height));
  const { data: bytes } = resize(toRGB(image), width, HEIGHT, "bilinear");
  const padded = Math.ceil(width / 8) * 8;
  const data = new Float32Array(3 * HEIGHT * padded);
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < HEIGHT; y++)
      for (let x = 0; x < width; x++)
        data[(c * HEIGHT + y) * padded + x] = bytes[(y * width + x) * 3 + 2 - c] / 127.5 - 1;
  return { data, shape: [1, 3, HEIGHT, padded] };
}

/** Probabilities [1, T, classes] of a line. */
export function probabilities(model: TextRecognizer, image: Image): Tensor {
  const { data, shape } = linePixels(image);
  return noGrad(() => model.forward(tensor(data, { shape })));
}

/** The likeliest class at each position, without repeats and blanks (CTC, best path). */
export function decode(classes: ArrayLike<number>, characters: readonly string[]): string {
  let text = "";
  for (let i = 0; i < classes.length; i++)
    if (classes[i] !== 0 && classes[i] !== classes[i - 1]) text += characters[classes[i]];
  return text;
}

export async function readLine(model: TextRecognizer, characters: readonly string[], image: Image): Promise<string> {
  return decode(await probabilities(model, image).argmax(-1).data(), characters);
}
