import type { Tensor } from "../index.ts";
import type { CacheType, KVCache } from "./cache.ts";
import type { Prompt } from "./options.ts";

/** The part of a language model that generation uses. `LlamaForCausalLM` implements it. */
export interface CausalLM {
  readonly config: {
    readonly vocab_size: number;
    readonly max_position_embeddings?: number;
    readonly eos_token_id?: number | number[];
  };
  /** Ids that end a text. Default: `config.eos_token_id`. */
  eosTokenId?: number | readonly number[];
  readonly model: {
    /** Token ids, i32 [B, T], to embeddings, f32 [B, T, D]. */
    embed(ids: Tensor): Tensor;
    /** Hidden states [B, T, D], the last of which is normalised. The new keys and values are added to the cache. */
    forward(input: { inputsEmbeds: Tensor; modality?: Tensor; cache: KVCache }): Tensor[];
  };
  /** Last hidden states [..., D] to logits [..., V]. */
  logits(hidden: Tensor): Tensor;
  /** An empty cache for `batch` sequences of up to `capacity` tokens. */
  cache(batch: number, capacity: number, dtype?: CacheType): KVCache;
}

/** Tensors that a processor makes from text and images. */
export interface ModelInputs {
  /** i32 [B, T] */
  inputIds: Tensor;
  /** Images, or their tiles, in order: f32 [N, C, H, W]. Absent for text alone. */
  pixelValues?: Tensor;
  /** [height, width] of each image in pixels. Given for models that cut images into tiles. */
  imageSizes?: readonly (readonly [number, number])[];
}

/** The part of a vision-language model that chat uses. `VisionLanguageModel` implements it. */
export interface ImageTextModel {
  readonly language_model: CausalLM;
  /** Token id that marks the position of an image in `ModelInputs.inputIds`. */
  readonly imageToken: number;
  /** The prompt that `generate` continues. */
  prompt(input: ModelInputs): Prompt;
}
