/** The base of all vision-language models: image embeddings among word embeddings, read by a decoder. */
import {
  bucket,
  type ChatMessage,
  type ChatOptions,
  chat,
  type Processor,
  type Prompt,
  paddedPrompt,
} from "../src/generate/index.ts";
import type { Size } from "../src/image/index.ts";
import { cat, type Shape, type Tensor, tensor } from "../src/index.ts";
import { Module } from "../src/nn/index.ts";
import { IMAGE_TOKEN_INDEX } from "../src/text/index.ts";
import { ids2d, isPlainCausal, type Layout, layOut, positionsOf, requireHost } from "./batch.ts";
import type { DecoderInput, LlamaForCausalLM } from "./llama.ts";

/** A batch before images are put in place. Ids, masks and labels come from the host. */
export interface VisionLanguageInput {
  inputIds: Tensor; // i32 [B, T]
  /** All images of the batch in order, [N, C, H, W]; absent in a text-only batch. */
  pixelValues?: Tensor;
  /** In place of pixelValues: the output of `model.visionFeatures`, [N, P, D], computed earlier. */
  visionFeatures?: Tensor;
  /** i32 [B, T]: 1 for tokens, 0 for padding on either side. */
  attentionMask?: Tensor;
  /** i32 [B, T], in place of the mask: see `DecoderInput.segments`. Images belong in segment 0. */
  segments?: Tensor;
  labels?: Tensor; // i32 [B, T]
  /** Height and width of each image in pixels, for models that cut images into tiles by their shape (LLaVA-NeXT). */
  imageSizes?: readonly Size[];
  /** Each image is this many consecutive entries of pixelValues. Default 1. */
  tilesPerImage?: number;
  /** Pad every sample to this length, images included. Batches of one length share one plan. */
  padTo?: number;
}

/** Embeddings of a batch's images, [N, P, D'] or [R, D']. */
export interface ImageRows {
  embeddings: Tensor;
  /** Number of positions of each image. */
  counts: readonly number[];
  /** The row of the embeddings for each position. Default: all rows in order. */
  rows?: readonly number[];
}

/** A batch with the images in place. */
export interface MergedInput {
  decoder: Required<Pick<DecoderInput, "inputsEmbeds" | "positions">> & DecoderInput;
  labels?: Tensor; // i32 [B, T']
  attentionMask: Tensor; // i32 [B, T']
  /** For each position, row-major [B, T']: the index of the image position there, -1 for text. */
  imagePositions: Int32Array;
}

export abstract class VisionLanguageModel extends Module {
  abstract language_model: LlamaForCausalLM;
  /** Tokenizer and image settings of the checkpoint folder, if it has them. `chat` needs them. */
  processor?: Processor;

  /** The token id of an image in prompts. */
  get imageToken(): number {
    return IMAGE_TOKEN_INDEX;
  }

  /** Whether a token id marks an image, or one position of it. */
  protected abstract isImageToken(id: number): boolean;
  /** Whether each sample without images skips one of the images given, as in batches of the original LLaVA. */
  protected get textTakesImage(): boolean {
    return false;
  }

  /** Whether the decoder has weights of its own for image features. */
  protected get modalityAdaptive(): boolean {
    return false;
  }

  /** Input of the adapter: pixels [N, C, H, W] to [N, P, D]. */
  abstract visionFeatures(pixels: Tensor): Tensor;
  /** The adapter: [N, P, D] to embeddings of images [N / tiles, positions of an image, D']. */
  abstract project(features: Tensor, tilesPerImage?: number): Tensor;

  /** Embeddings of images: pixels [N, C, H, W] to [N / tiles, positions of an image, D']. */
  imageFeatures(pixels: Tensor, tilesPerImage = 1): Tensor {
    return this.project(this.visionFeatures(pixels), tilesPerImage);
  }

  /** Embeddings for the images of a batch, from features [N, P, D]. */
  protected imageRows(features: Tensor, { tilesPerImage }: VisionLanguageInput): ImageRows {
    const embeddings = this.project(features, tilesPerImage);
    return { embeddings, counts: new Array<number>(embeddings.shape[0]).fill(embeddings.shape[1]) };
  }

  /** Lays the batch out and puts image embeddings between word embeddings. */
  merge(input: VisionLanguageInput, padding?: { right: boolean; to: (longest: number) => number }): MergedInput {
    const { inputIds, pixelValues, visionFeatures, labels } = input;
    if (pixelValues && visionFeatures) throw new Error("batch: give pixelValues or visionFeatures, not both");
    const seen = visionFeatures ?? (pixelValues && this.visionFeatures(pixelValues));
    const images = seen && this.imageRows(seen, input);
    for (const name of ["attentionMask", "segments", "labels"] as const) {
      const shape = input[name]?.shape ?? inputIds.shape;
      if (String(shape) !== String(inputIds.shape))
        throw new Error(`batch: ${name} has shape [${shape}], inputIds [${inputIds.shape}]`);
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
    // One image a sample, all at one position: concatenation needs no gather, and its gradient no scatter.
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

  /** Mean cross-entropy over the labels that are not -100. Image positions have none. */
  loss(input: VisionLanguageInput & { labels: Tensor }): Tensor {
    const merged = this.merge(input);
    return this.language_model.loss(merged.decoder, merged.labels!);
  }

  /** Answers the last message, which is the user's. Yields pieces of text as they are generated. */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): AsyncGenerator<string> {
    if (!this.processor)
      throw new Error("chat: the model was made without a folder that has a tokenizer.json or tokenizer.model");
    return chat(this, this.processor, messages, options);
  }

  /** The prompt that `generate` continues: the batch with padding after the tokens. */
  prompt(input: VisionLanguageInput): Prompt {
    const { decoder, attentionMask } = this.merge(input, { right: true, to: bucket });
    const segments = segmentsOf(input);
    const ids = requireHost("batch", "inputIds", input.inputIds);
    const text = Array.from(ids, (id, i) => (segments[i] === -1 || this.isImageToken(id) ? -1 : id));
    return paddedPrompt(decoder, attentionMask.hostData!, text);
  }
}

function segmentsOf({ inputIds, attentionMask, segments }: VisionLanguageInput): Int32Array {
  if (segments && attentionMask) throw new Error("batch: give segments or attentionMask, not both");
  if (segments) return Int32Array.from(requireHost("batch", "segments", segments));
  if (!attentionMask) return new Int32Array(inputIds.shape[0] * inputIds.shape[1]);
  return Int32Array.from(requireHost("batch", "attentionMask", attentionMask), (token) => (token ? 0 : -1));
}

const whereImages = ({ batch, length, features }: Layout): Tensor =>
  tensor(
    Uint32Array.from(features, (row) => (row < 0 ? 0 : 1)),
    { shape: [batch, length], dtype: "bool" },
  );

/** Start of the image, if every sample has one whole image at the same position; else undefined. */
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
