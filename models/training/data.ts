/** Training data in the formats of the papers: LLaVA's JSON lists and mPLUG-Owl's lines of JSON. */

import { readRecords } from "../../src/data/index.ts";
import { imageSize, type Size } from "../../src/image/index.ts";
import { type FileSource, openFolder } from "../../src/io/index.ts";
import {
  IGNORE_INDEX,
  IMAGE_TOKEN,
  IMAGE_TOKEN_INDEX,
  owlSample,
  type Tokenizer,
  type Turn,
  template,
  trainingSample,
} from "../../src/text/index.ts";
import type { Decode } from "./images.ts";

export interface Sample {
  /** Its name in error messages: file, index and id. */
  readonly where: string;
  /** Image files in their order. */
  readonly images: readonly string[];
  /** LLaVA: the conversation. mPLUG-Owl: the text with its markers. */
  readonly turns?: readonly Turn[];
  readonly text?: string;
}

/** Token ids with one placeholder per image, and labels. */
export interface EncodedSample {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  /** Number of positions, images included. */
  readonly length: number;
  /** Whether it was too long and was cut. */
  readonly cut: boolean;
}

/** Folder and name of a file path. */
export async function openFile(path: string): Promise<{ source: FileSource; name: string }> {
  const at = path.lastIndexOf("/");
  return { source: await openFolder(at < 0 ? "." : path.slice(0, at) || "/"), name: path.slice(at + 1) };
}

/**
 * Reads a list of samples, or one per line if the file's name ends in .jsonl.
 * @throws on the first record that is no sample, naming the file and the line or index
 */
export async function readSamples(source: FileSource, name: string): Promise<Sample[]> {
  const samples = (await readRecords(source, name)).map(({ value, where }) => parseSample(value, where));
  if (samples.length === 0) throw new Error(`${source.location}/${name} has no samples`);
  return samples;
}

function parseSample(value: unknown, place: string): Sample {
  const { id, image, conversations, text } = (value ?? {}) as Record<string, unknown>;
  const where = id === undefined ? place : `${place} (id ${id})`;
  const fail = (what: string): never => {
    throw new Error(`${where}: ${what}`);
  };
  const images = image === undefined || image === null ? [] : [image].flat();
  if (!images.every((name) => typeof name === "string" && name !== ""))
    fail("image must be a file name or a list of them");
  const found = { where, images: images as string[] };
  if (typeof text === "string") {
    checkImages(text, images.length, fail);
    return { ...found, text };
  }
  if (!Array.isArray(conversations) || conversations.length === 0)
    return fail("expected conversations (a list of turns) or text");
  const turns = conversations.map((turn, i): Turn => {
    if ((turn?.from !== "human" && turn?.from !== "gpt") || typeof turn.value !== "string")
      fail(`turn ${i} is ${JSON.stringify(turn)}, expected a value from human or gpt`);
    return { from: turn.from, value: turn.value.replaceAll("<|image|>", IMAGE_TOKEN) }; // the spelling of mPLUG-Owl2's files
  });
  checkImages(turns.map(({ value }) => value).join("\n"), images.length, fail);
  return { ...found, turns };
}

function checkImages(text: string, images: number, fail: (what: string) => never): void {
  const marks = text.split(IMAGE_TOKEN).length - 1;
  if (marks !== images) fail(`${images} image(s) but ${marks} ${IMAGE_TOKEN} in the text`);
}

/** Height and width of each image file of the samples. @throws naming the sample of a file that is no image. */
export async function readSizes(
  samples: readonly Sample[],
  folder: FileSource,
  decode: Decode,
): Promise<Map<string, Size>> {
  const sizes = new Map<string, Size>();
  for (const { images, where } of samples) {
    for (const name of images) {
      if (sizes.has(name)) continue;
      try {
        const { height, width } =
          imageSize(await folder.read(name, 0, HEADER)) ?? (await decode(await folder.read(name)));
        sizes.set(name, [height, width]);
      } catch (error) {
        throw new Error(`${where}: image ${name}: ${(error as Error).message}`);
      }
    }
  }
  return sizes;
}
const HEADER = 1 << 16;

/** @throws naming the first samples whose image files do not exist. */
export async function checkFiles(samples: readonly Sample[], folder: FileSource): Promise<void> {
  const wanted = new Map<string, string>();
  for (const { images, where } of samples) for (const name of images) if (!wanted.has(name)) wanted.set(name, where);
  const missing: string[] = [];
  const names = [...wanted.keys()];
  const AT_ONCE = 64;
  for (let i = 0; i < names.length; i += AT_ONCE) {
    const part = names.slice(i, i + AT_ONCE);
    const sizes = await Promise.all(part.map((name) => sizeOf(name, wanted.get(name)!, folder)));
    missing.push(...part.filter((_, k) => sizes[k] === undefined));
  }
  if (missing.length) {
    const shown = missing.slice(0, 5).map((name) => `${wanted.get(name)}: ${name}`);
    throw new Error(
      `${missing.length} image file(s) are not in ${folder.location}: ${shown.join("; ")}${missing.length > 5 ? "; …" : ""}`,
    );
  }
}

/** @throws naming the sample whose image lies outside of the folder. */
async function sizeOf(name: string, where: string, folder: FileSource): Promise<number | undefined> {
  try {
    return await folder.size(name);
  } catch (error) {
    throw new Error(`${where}: image ${name}: ${(error as Error).message}`, { cause: error });
  }
}

export interface EncoderOptions {
  tokenizer: Tokenizer;
  /** Conversation template, for samples with turns. */
  version: string;
  legacy?: boolean;
  imStartEnd?: boolean;
  /** The model's placeholder, and the number of positions of an image file. */
  imageToken: number;
  tokensOf: (name: string) => number;
  maxLength: number;
}

/** Ids and labels of a sample, cut to the longest length. @throws naming the sample if no label is left. */
export function encodeSample(sample: Sample, options: EncoderOptions): EncodedSample {
  const { tokenizer, imageToken, tokensOf, maxLength } = options;
  const { inputIds, labels } = tokenize(sample, options);
  const places = inputIds.filter((id) => id === IMAGE_TOKEN_INDEX).length;
  if (places !== sample.images.length)
    throw new Error(
      `${sample.where}: the template ${options.version} keeps ${places} of its ${sample.images.length} images: one per message`,
    );
  const kept = { ids: [] as number[], labels: [] as number[] };
  let [length, images] = [0, 0];
  for (const [i, id] of inputIds.entries()) {
    const isImage = id === IMAGE_TOKEN_INDEX;
    const width = isImage ? tokensOf(sample.images[images++]) : 1;
    if (length + width > maxLength) {
      if (inputIds.indexOf(IMAGE_TOKEN_INDEX, i) >= 0)
        throw new Error(
          `${sample.where}: an image of ${tokensOf(sample.images[images - 1])} positions lies beyond model_max_length ${maxLength}`,
        );
      break;
    }
    if (!isImage && id >= tokenizer.size)
      throw new Error(`${sample.where}: token ${id} is outside the tokenizer's vocabulary of ${tokenizer.size}`);
    length += width;
    kept.ids.push(isImage ? imageToken : id);
    kept.labels.push(isImage || i === 0 ? IGNORE_INDEX : labels[i]);
  }
  const cut = kept.ids.length < inputIds.length;
  if (kept.labels.every((label) => label === IGNORE_INDEX)) {
    const why = cut
      ? `nothing of its answers is within model_max_length ${maxLength}`
      : "its answers are empty, or do not tokenise as the template expects";
    throw new Error(`${sample.where}: all labels are ${IGNORE_INDEX}: ${why}`);
  }
  return { ids: Int32Array.from(kept.ids), labels: Int32Array.from(kept.labels), length, cut };
}

function tokenize({ where, images, turns, text }: Sample, options: EncoderOptions) {
  const { tokenizer, version, legacy, imStartEnd } = options;
  try {
    if (text !== undefined) return owlSample(tokenizer, text);
    return trainingSample(tokenizer, template(version), turns!, { hasImage: images.length > 0, legacy, imStartEnd });
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`);
  }
}
