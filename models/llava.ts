/**
 * LLaVA (arXiv 2304.08485, 2310.03744): a vision tower, a projector, and a LLaMA that reads image features among
 * its word embeddings. Loads the Hugging Face layout (files from before and after transformers 4.52) and the
 * original one (model.mm_projector, the tower in a folder of its own).
 */
import {
  type FileSource,
  openCheckpoint,
  openFolder,
  openWeights,
  type SaveOptions,
  saveCheckpoint,
  subfolder,
} from "../src/io/index.ts";
import { readJson } from "../src/io/source.ts";
import { withoutInit } from "../src/nn/index.ts";
import type { Tensor } from "../src/tensor.ts";
import { Projector, SlotEmbedding } from "./adapter.ts";
import { type ChatMessage, type ChatOptions, chat, Processor } from "./chat.ts";
import { IMAGE_TOKEN_INDEX } from "./conversation.ts";
import { type LlamaConfig, LlamaForCausalLM, llamaDefaults } from "./llama.ts";
import { loadWeights, type Rename } from "./load.ts";
import { completeVisionConfig, visionTower } from "./tower.ts";
import type { VisionConfig, VisionTower } from "./vit.ts";
import { VisionLanguageModel } from "./vlm.ts";

/** The keys of config.json, those of Hugging Face where it has them. */
export interface LlavaConfig {
  model_type?: string;
  text_config: LlamaConfig;
  vision_config: VisionConfig;
  /** Id that stands for an image: a token of the vocabulary, or -200 as in the original code. */
  image_token_index: number;
  /** Which hidden state of the tower is read: -1 the last, -2 the one before the last layer. Default -2. */
  vision_feature_layer?: number;
  /** "default" leaves out the class token, "full" keeps it. */
  vision_feature_select_strategy?: "default" | "full";
  projector_hidden_act?: string;
  multimodal_projector_bias?: boolean;
  /** identity, linear or mlp{n}x_gelu. Default mlp2x_gelu. */
  mm_projector_type?: string;
  /** Squares of this many tokens a side are merged before the projector. */
  projector_pixel_shuffle?: number;
  /** The mean of an image's (or tile's) tokens is one more token. */
  projector_mean_token?: boolean;
  /** Learned vectors added to the tokens of an image by their place; needed when images have several tiles. */
  projector_slots?: number;
}

export class Llava extends VisionLanguageModel {
  vision_tower: VisionTower;
  multi_modal_projector: Projector;
  image_slots?: SlotEmbedding;
  language_model: LlamaForCausalLM;
  /** Tokenizer and image settings, when the checkpoint folder has them: what `chat` needs. */
  processor?: Processor;

  constructor(readonly config: LlavaConfig) {
    super();
    const { text_config: text, vision_config: vision } = config;
    this.vision_tower = visionTower(vision);
    this.multi_modal_projector = new Projector(vision.hidden_size, text.hidden_size, {
      type: config.mm_projector_type ?? "mlp2x_gelu",
      act: config.projector_hidden_act,
      bias: config.multimodal_projector_bias,
      pixelShuffle: config.projector_pixel_shuffle,
      meanToken: config.projector_mean_token,
    });
    if (config.projector_slots) this.image_slots = new SlotEmbedding(config.projector_slots, text.hidden_size);
    this.language_model = new LlamaForCausalLM(text);
  }

  protected isImageToken(id: number): boolean {
    return id === this.config.image_token_index || id === IMAGE_TOKEN_INDEX;
  }

  protected override get textTakesImage(): boolean {
    return this.config.image_token_index < 0; // the original code's batches
  }

  /** What the projector reads: pixels [N, C, H, W] to [N, P, D]. */
  visionFeatures(pixels: Tensor): Tensor {
    const { vision_feature_layer: layer = -2, vision_feature_select_strategy: strategy = "default" } = this.config;
    const states = this.vision_tower.hiddenStates(pixels);
    const state = states.at(layer);
    if (!state)
      throw new RangeError(`Llava: vision_feature_layer ${layer} of a tower with ${states.length} hidden states`);
    const drop = strategy === "full" ? 0 : this.vision_tower.prefixTokens;
    return drop ? state.narrow(1, drop, state.shape[1] - drop) : state;
  }

  /** The projector: features [N, P, D] of tiles to embeddings of images [N / tiles, tiles * P', D']. */
  project(features: Tensor, tilesPerImage = 1): Tensor {
    if (features.shape[0] % tilesPerImage) {
      throw new Error(`Llava: ${features.shape[0]} tiles do not make images of ${tilesPerImage}`);
    }
    const tiles = this.multi_modal_projector.forward(features); // [N, P', D']
    const [n, p, d] = tiles.shape;
    const images = tiles.reshape([n / tilesPerImage, tilesPerImage * p, d]);
    return this.image_slots ? this.image_slots.forward(images) : images;
  }

  /** Answers the last of `messages`, the user's, in pieces of text as they are generated. */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): AsyncGenerator<string> {
    if (!this.processor) throw new Error("Llava.chat: the model was made without a folder that has a tokenizer.json");
    return chat(this, this.processor, this.config.image_token_index, messages, options);
  }

  /** Loads a folder (path, URL or FileSource) with config.json and weights. */
  static async fromPretrained(where: string | FileSource): Promise<Llava> {
    const source = await openFolder(where);
    const { config, tensors } = await openCheckpoint(source);
    if (config.text_config) {
      const model = withoutInit(() => new Llava(completeConfig(config)));
      const tied: Rename[] = model.language_model.lm_head ? [] : [[/^(language_model\.)?lm_head\./, null]];
      await loadWeights(model, [tensors], [...tied, ...renames]);
      model.processor = await Processor.open(source, model.config.vision_config.image_size);
      return model;
    }
    const tower = await openTower(source, config);
    const model = withoutInit(() => new Llava(fromOriginal(config, tower.config)));
    await loadWeights(model, [tower.tensors, tensors], renames);
    model.processor = await Processor.open(source, tower.config.image_size, {
      aspect: config.image_aspect_ratio === "pad" ? "pad" : undefined,
      imStartEnd: config.mm_use_im_start_end,
      addedTokens: imageTokens(config),
    });
    return model;
  }

  /** Writes config.json and safetensors in the Hugging Face layout. */
  async savePretrained(where: string | FileSource, options?: SaveOptions): Promise<void> {
    await saveCheckpoint(await openFolder(where), { ...this.config, model_type: "llava" }, this.stateDict(), options);
  }
}

/** Weight names of all layouts to those of this module, first match wins. */
const renames: Rename[] = [
  [/rotary_emb\.inv_freq$|embeddings\.position_ids$/, null],
  [/^model\.vision_tower\.vision_tower\./, "vision_tower."], // original, tower stored with the model
  [/^model\.mm_projector\.(\d+)\./, (_, n) => `multi_modal_projector.linear_${Number(n) / 2 + 1}.`],
  [/^model\.mm_projector\./, "multi_modal_projector.linear_1."],
  [/^model\.(embed_tokens|layers|norm)\./, "language_model.model.$1."],
  [/^model\.language_model\./, "language_model.model."], // transformers 4.52 and later
  [/^lm_head\./, "language_model.lm_head."],
  [/^model\.(vision_tower|multi_modal_projector)\./, "$1."],
  [/^vision_model\./, "vision_tower.vision_model."], // a tower in its own folder
];

/** The vision tower of an original checkpoint: a subfolder that the config names, or another folder. */
async function openTower(source: FileSource, config: any) {
  const name = config.mm_vision_tower;
  if (typeof name !== "string")
    throw new Error(`${source.location}: config.json has neither text_config nor mm_vision_tower: not a LLaVA model`);
  for (const folder of [name, "vision_tower"]) {
    const inside = subfolder(source, folder);
    if ((await inside.size("config.json")) === undefined) continue;
    const found = await readJson(inside, "config.json");
    return { config: (found.vision_config ?? found) as VisionConfig, tensors: await openWeights(inside) };
  }
  throw new Error(
    `${source.location}: the vision tower "${name}" is not here: put its config.json and weights in the subfolder vision_tower`,
  );
}

/** A config as published, with the defaults of the reference classes where it leaves keys out. */
export function completeConfig(config: any): LlavaConfig {
  const { vision_feature_layer: layer = -2 } = config;
  if (typeof layer !== "number")
    throw new Error(`vision_feature_layer ${JSON.stringify(layer)} is not supported: one layer expected`);
  return {
    ...config,
    image_token_index: config.image_token_index ?? config.image_token_id ?? 32000,
    text_config: { ...llamaDefaults, ...config.text_config },
    vision_config: completeVisionConfig(config.vision_config ?? {}),
  };
}

/**
 * Tokens that LLaVA's code adds to the tokenizer, in this order. In its first version (model_type "llava", as in
 * Chinese-LLaVA) the patch token is in the vocabulary and stands for each patch of an image.
 */
function imageTokens(config: any): string[] {
  const patch = config.mm_use_im_patch_token ?? config.model_type === "llava";
  return [...(patch ? ["<im_patch>"] : []), ...(config.mm_use_im_start_end ? ["<im_start>", "<im_end>"] : [])];
}

/** The original flat config as one with text_config and vision_config. */
function fromOriginal(config: any, vision: VisionConfig): LlavaConfig {
  const {
    mm_projector_type: type = "linear",
    mm_vision_select_layer: layer = -2,
    mm_vision_select_feature: feature = "patch",
    ...text
  } = config;
  if (!["patch", "cls_patch"].includes(feature))
    throw new Error(`mm_vision_select_feature "${feature}" is not supported; known are patch, cls_patch`);
  return {
    model_type: "llava",
    text_config: { ...llamaDefaults, ...text, model_type: "llama" },
    vision_config: completeVisionConfig(vision),
    image_token_index:
      config.model_type === "llava" ? config.vocab_size - imageTokens(config).length : IMAGE_TOKEN_INDEX,
    vision_feature_layer: layer,
    vision_feature_select_strategy: feature === "patch" ? "default" : "full",
    mm_projector_type: type,
  };
}
