/** What all vision-language models share: image embeddings among word embeddings, read by a LLaMA. */

import {
  bucket,
  type ChatMessage,
  type ChatOptions,
  chat,
  type Processor,
  type Prompt,
} from "../src/generate/index.ts";
import type { Size } from "../src/image/index.ts";
import { cat, type Shape, type Tensor, tensor } from "../src/index.ts";
import { Module } from "../src/nn/index.ts";
import { IMAGE_TOKEN_INDEX } from "../src/text/index.ts";
import { ids2d, isPlainCausal, type Layout, layOut, positionsOf, requireHost, segmentsOfMask } from "./batch.ts";
import type { DecoderInput, LlamaForCausalLM } from "./llama.ts";

/** A batch as the user has it. Ids, masks and labels come from the host; lengths are those of the text. */
export interface VisionLanguageInput {
  inputIds: Tensor; // i32 [B, T]
  /** All images of the batch in order, [N, C, H, W]; absent in a text-only batch. */
  pixelValues?: Tensor;
  /** In place of pixelValues: what `visionFeatures` makes of them, [N, P, D], computed earlier. */
  visionFeatures?: Tensor;
  /** i32 [B, T]: 1 for tokens, 0 for padding on either side. */
  attentionMask?: Tensor;
  /** i32 [B, T], in place of the mask: see `DecoderInput.segments`. Images belong in segment 0. */
  segments?: Tensor;
  labels?: Tensor; // i32 [B, T]
  /** Height and width of each image in pixels, for models that cut images into tiles by their shape (LLaVA-NeXT). */
  imageSizes?: readonly Size[];
  /** Tiles of each image: `tilesPerImage` consecutive entries of pixelValues are one image. Default 1. */
  tilesPerImage?: number;
  /** Pad every sample to this length (images included): one length for all batches means one plan. */
  padTo?: number;
}

/** Embeddings of a batch's images, [N, P, D'] or [R, D']. */
export interface ImageRows {
  embeddings: Tensor;
  /** Positions that each image takes. */
  counts: readonly number[];
  /** The row of the embeddings for each position. Default: all rows in order. */
  rows?: readonly number[];
}

/** A batch with the images in place. */
export interface MergedInput {
  decoder: Required<Pick<DecoderInput, "inputsEmbeds" | "positions">> & DecoderInput;
  labels?: Tensor; // i32 [B, T']
  attentionMask: Tensor; // i32 [B, T']
  /** For each position, row-major [B, T']: which of the batch's image positions stands there, -1 for text. */
  imagePositions: Int32Array;
}

export abstract class VisionLanguageModel extends Module {
  abstract language_model: LlamaForCausalLM;
  /** Tokenizer and image settings, when the checkpoint folder has them: what `chat` needs. */
  processor?: Processor;

  /** The id that stands for an image in prompts. */
  get imageToken(): number {
    return IMAGE_TOKEN_INDEX;
  }

  /** Whether a token id stands for an image, or for one position of it. */
  protected abstract isImageToken(id: number): boolean;
  /** Whether a sample without images skips one of those given, as batches of the original LLaVA have it. */
  protected get textTakesImage(): boolean {
    return false;
  }

  /** Whether the language model treats image features apart from text. */
  protected get modalityAdaptive(): boolean {
    return false;
  }

  /** What the adapter reads: pixels [N, C, H, W] to [N, P, D]. */
  abstract visionFeatures(pixels: Tensor): Tensor;
  /** The adapter: [N, P, D] to embeddings of images [N / tiles, positions of an image, D']. */
  abstract project(features: Tensor, tilesPerImage?: number): Tensor;

  /** Embeddings of images: pixels [N, C, H, W] to [N / tiles, positions of an image, D']. */
  imageFeatures(pixels: Tensor, tilesPerImage = 1): Tensor {
    return this.project(this.visionFeatures(pixels), tilesPerImage);
  }

  /** What stands for each image of the batch; features [N, P, D] are what the adapter reads. */
  protected imageRows(features: Tensor, { tilesPerImage }: VisionLanguageInput): ImageRows {
    const embeddings = this.project(features, tilesPerImage);
    return { embeddings, counts: new Array<number>(embeddings.shape[0]).fill(embeddings.shape[1]) };
  }

  /** Lays the batch out and puts image features between the word embeddings. */
  merge(input: VisionLanguageInput, padding?: { right: boolean; to: (longest: number) => number }): MergedInput {
    const { inputIds, pixelValues, visionFeatures, labels } = input;
    if (pixelValues && visionFeatures) throw new Error("batch: give pixelValues or visionFeatures, not both");
    const seen = visionFeatures ?? (pixelValues && this.visionFeatures(pixelValues));
    const images = seen && this.imageRows(seen, input);
    for (const [name, other] of Object.entries({
      attentionMask: input.attentionMask,
      segments: input.segments,
      labels,
    })) {
      if (other && String(other.shape) !== String(inputIds.shape)) {
        throw new Error(`batch: ${name} has shape [${other.shape}], inputIds [${inputIds.shape}]`);
      }
    }
    const layout = layOut(inputIds, {
      counts: images?.counts ?? [],
      isImage: (id) => this.isImageToken(id),
      segments: segmentsOf(input),
      labels: labels && requireHost("batch", "labels", labels),
      textTakesImage: this.textTakesImage,
      padTo: padding?.to ?? (input.padTo === undefined ? undefined : () => input.padTo!),
      padRight: padding?.right,
    });
    const { batch: b, length: t, segments } = layout;
    return {
      decoder: {
        inputsEmbeds: this.#embed(layout, images), // [B, T', D]
        positions: ids2d(b, positionsOf(segments, t)),
        segments: isPlainCausal(segments, t) ? undefined : ids2d(b, segments),
        modality: this.modalityAdaptive && images ? whereImages(layout) : undefined,
      },
      labels: layout.labels && ids2d(b, layout.labels),
      imagePositions: layout.features,
      attentionMask: ids2d(
        b,
        segments.map((s) => (s === -1 ? 0 : 1)),
      ),
    };
  }

  /** Word embeddings with image embeddings where the layout has them. */
  #embed({ batch, ids, features: places }: Layout, images?: ImageRows): Tensor {
    const words = (kept: Int32Array) => this.language_model.model.embed(ids2d(batch, kept));
    if (!images) return words(ids);
    const { embeddings: features, rows: order } = images;
    const rows = order ? places.map((place) => (place < 0 ? -1 : order[place])) : places;
    const start = order ? undefined : commonRun(rows, batch, features.shape);
    if (start === undefined) return splice(words(ids), features, rows);
    // One image a sample, in one place: joined without a gather, and no gradient is scattered back.
    const text = words(ids.filter((_, i) => rows[i] < 0));
    const rest = text.shape[1] - start;
    const parts = [start > 0 && text.narrow(1, 0, start), features, rest > 0 && text.narrow(1, start, rest)];
    return cat(
      parts.filter((part) => part !== false),
      1,
    );
  }

  /** logits [B, T', V] and hidden states over the merged sequence. */
  forward(input: VisionLanguageInput): MergedInput & { logits: Tensor; hiddenStates: Tensor[] } {
    const merged = this.merge(input);
    return { ...merged, ...this.language_model.forward(merged.decoder) };
  }

  /** Mean cross-entropy over the labels that are not -100, images never among them. */
  loss(input: VisionLanguageInput & { labels: Tensor }): Tensor {
    const merged = this.merge(input);
    return this.language_model.loss(merged.decoder, merged.labels!);
  }

  /** Answers the last of `messages`, the user's, in pieces of text as they are generated. */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): AsyncGenerator<string> {
    if (!this.processor)
      throw new Error("chat: the model was made without a folder that has a tokenizer.json or tokenizer.model");
    return chat(this, this.processor, messages, options);
  }

  /** What `generate` continues: the batch with its padding behind the tokens. */
  prompt(input: VisionLanguageInput): Prompt {
    const { decoder, attentionMask } = this.merge(input, { right: true, to: bucket });
    const [b, t] = attentionMask.shape;
    const mask = requireHost("batch", "attentionMask", attentionMask);
    const lengths = new Array<number>(b).fill(0);
    mask.forEach((m, i) => (lengths[Math.floor(i / t)] += m));
    const history: number[][] = lengths.map(() => []);
    const segments = segmentsOf(input);
    requireHost("batch", "inputIds", input.inputIds).forEach((id, i) => {
      if (segments[i] !== -1 && !this.isImageToken(id)) history[Math.floor((i * b) / segments.length)].push(id);
    });
    return { embeds: decoder.inputsEmbeds, modality: decoder.modality, lengths, history };
  }
}

function segmentsOf({ inputIds, attentionMask, segments }: VisionLanguageInput): Int32Array {
  if (segments && attentionMask) throw new Error("batch: give segments or attentionMask, not both");
  if (segments) return Int32Array.from(requireHost("batch", "segments", segments));
  return attentionMask
    ? segmentsOfMask(requireHost("batch", "attentionMask", attentionMask))
    : new Int32Array(inputIds.shape[0] * inputIds.shape[1]);
}

const whereImages = ({ batch, length, features }: Layout): Tensor =>
  tensor(
    Uint32Array.from(features, (row) => (row < 0 ? 0 : 1)),
    { shape: [batch, length], dtype: "bool" },
  );

/** Where the one image of every sample begins, if all begin at the same position and are whole; else undefined. */
function commonRun(rows: Int32Array, batch: number, [images, per]: Shape): number | undefined {
  const length = rows.length / batch;
  const start = rows.indexOf(0);
  if (images !== batch || start < 0) return undefined;
  const placed = rows.every((row, i) => {
    const k = (i % length) - start;
    return row === (k >= 0 && k < per ? Math.floor(i / length) * per + k : -1);
  });
  return placed && length > per ? start : undefined;
}

/** text [B, T, D] with rows of features [..., D] where `rows` (per position) is not -1. */
function splice(text: Tensor, features: Tensor, rows: Int32Array): Tensor {
  const [b, t, d] = text.shape;
  const index = tensor(rows.map((row) => Math.max(row, 0)));
  const isText = tensor(
    Uint32Array.from(rows, (row) => (row < 0 ? 1 : 0)),
    { shape: [b, t, 1], dtype: "bool" },
  );
  const images = features
    .reshape([features.numel / d, d])
    .indexSelect(0, index)
    .reshape([b, t, d]);
  return text.where(isText, images);
}
