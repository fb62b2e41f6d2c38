/**
 * LLaVA (arXiv 2304.08485, 2310.03744): a vision tower, a projector, and a LLaMA that reads image features among
 * its word embeddings. With `image_grid_pinpoints` LLaVA-NeXT: images of any resolution, in tiles. Loads the Hugging
 * Face layout (files from before and after transformers 4.52) and the original one (model.mm_projector, the tower in
 * a folder of its own).
 */

import { Processor } from "../src/generate/index.ts";
import { anyresRows, type Size, type TileLayout, tileGrid } from "../src/image/index.ts";
import { cat, type Tensor } from "../src/index.ts";
import {
  type FileSource,
  openCheckpoint,
  openFolder,
  openWeights,
  pathInside,
  readJson,
  type SaveOptions,
  saveCheckpoint,
  subfolder,
} from "../src/io/index.ts";
import { normal, withoutInit } from "../src/nn/index.ts";
import { IMAGE_TOKEN_INDEX } from "../src/text/index.ts";
import { type Adapter, Projector, SlotEmbedding } from "./adapter.ts";
import {
  denseState,
  folderOf,
  type LoadOptions,
  loadModel,
  noteFolder,
  type Rename,
  saveModel,
} from "./checkpoints/load.ts";
import { noteProjectorNames } from "./checkpoints/projector.ts";
import { type LlamaConfig, LlamaForCausalLM, llamaDefaults } from "./llama.ts";
import { besideVision, completeVisionConfig, visionTower } from "./tower.ts";
import type { VisionConfig, VisionTower } from "./vit.ts";
import { type ImageRows, type VisionLanguageInput, VisionLanguageModel } from "./vlm.ts";

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
  /** LLaVA-NeXT: the resolutions that images are cut into tiles at. */
  image_grid_pinpoints?: readonly Size[];
  /** How the tokens of tiles are joined. Default spatial_unpad. */
  mm_patch_merge_type?: TileLayout["merge"];
  /** Squares of this many tokens a side are merged before the projector. */
  projector_pixel_shuffle?: number;
  /** The mean of an image's (or tile's) tokens is one more token. */
  projector_mean_token?: boolean;
  /** Learned vectors added to the tokens of an image by their place; needed when images have several tiles. */
  projector_slots?: number;
}

export interface LlavaLoadOptions extends LoadOptions {
  /** Folder of the vision tower of a checkpoint in the original layout. Default: the subfolder `vision_tower`. */
  readonly visionTower?: string | FileSource;
}

export class Llava extends VisionLanguageModel {
  vision_tower: VisionTower;
  multi_modal_projector: Adapter;
  image_slots?: SlotEmbedding;
  /** Ends each row of an image in tiles. */
  image_newline?: Tensor; // [D']
  language_model: LlamaForCausalLM;
  /** The configs of the original layout, when the model came in it. */
  #original?: { readonly config: object; readonly tower: object };

  constructor(readonly config: LlavaConfig) {
    super();
    const { text_config: text, vision_config: vision } = config;
    this.vision_tower = visionTower(vision);
    this.multi_modal_projector = newProjector(config);
    if (config.projector_slots) this.image_slots = new SlotEmbedding(config.projector_slots, text.hidden_size);
    if (config.image_grid_pinpoints && (config.mm_patch_merge_type ?? "spatial_unpad") === "spatial_unpad")
      this.image_newline = newNewline(config);
    this.language_model = new LlamaForCausalLM(text);
  }

  override get imageToken(): number {
    return this.config.image_token_index;
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

  /** LLaVA-NeXT: how tiles of `per` tokens each make an image; undefined for a model that takes images whole. */
  tileLayout(per: number): TileLayout | undefined {
    const {
      image_grid_pinpoints: pinpoints,
      vision_config,
      mm_patch_merge_type: merge = "spatial_unpad",
    } = this.config;
    return pinpoints && { pinpoints, tile: vision_config.image_size, side: Math.sqrt(per), merge };
  }

  /** LLaVA-NeXT: the tokens of each image's tiles in the order of the image, its rows ended by the newline. */
  protected override imageRows(features: Tensor, input: VisionLanguageInput): ImageRows {
    const { image_grid_pinpoints: pinpoints, vision_config: vision } = this.config;
    if (!pinpoints) return super.imageRows(features, input);
    if (!input.imageSizes) throw new Error("Llava: a model that cuts images into tiles needs imageSizes");
    const tokens = this.project(features); // [tiles, P, D']
    const [tiles, per, d] = tokens.shape;
    const layout = this.tileLayout(per)!;
    let first = 0; // tile
    const images = input.imageSizes.map((size) => {
      const rows = anyresRows(size, layout).map((row) => (row < 0 ? tiles * per : first * per + row));
      const [high, wide] = tileGrid(size, pinpoints, vision.image_size);
      first += 1 + high * wide;
      return rows;
    });
    if (first !== tiles)
      throw new Error(`Llava: images of [${input.imageSizes.flat()}] have ${first} tiles, pixelValues ${tiles}`);
    const flat = tokens.reshape([tiles * per, d]);
    return {
      embeddings: this.image_newline ? cat([flat, this.image_newline.reshape([1, d])], 0) : flat,
      counts: images.map((rows) => rows.length),
      rows: images.flat(),
    };
  }

  /**
   * A language model and a tower of their own with a new projector between them: where LLaVA's first stage begins. `keys`
   * are those of the original config.json (mm_projector_type, …); the model is saved in that layout.
   */
  static assemble(language: LlamaForCausalLM, tower: ReturnType<typeof visionTower>, keys: object): Llava {
    const original = {
      ...language.config,
      model_type: originalTypes[language.config.model_type ?? "llama"] ?? "llava_llama",
      mm_vision_tower: "vision_tower",
      mm_hidden_size: tower.config.hidden_size,
      use_mm_proj: true,
      mm_use_im_start_end: false,
      mm_use_im_patch_token: false,
      ...keys,
    };
    const config = fromOriginal(original, tower.config);
    const model = withoutInit(() => new Llava(config)); // its large parts come
    model.language_model = language;
    model.vision_tower = tower;
    model.multi_modal_projector = newProjector(config);
    if (model.image_newline) model.image_newline = newNewline(config);
    noteProjectorNames(model);
    model.#original = { config: original, tower: tower.config };
    return model;
  }

  /** Loads a folder (path, URL or FileSource) with config.json and weights. */
  static async fromPretrained(where: string | FileSource, options: LlavaLoadOptions = {}): Promise<Llava> {
    const source = await openFolder(where);
    const { config, tensors } = await openCheckpoint(source);
    if (config.text_config) {
      const complete = completeConfig(config);
      const tied: Rename[] = complete.text_config.tie_word_embeddings ? [[/^(language_model\.)?lm_head\./, null]] : [];
      const model = await loadModel(source, () => new Llava(complete), [tensors], [...tied, ...renames], options);
      const { text_config: text, vision_config: vision, image_grid_pinpoints: pinpoints } = complete;
      model.processor = await Processor.open(source, text, plainImages(vision), { pinpoints });
      return model;
    }
    const tower = await openTower(source, config, options.visionTower);
    const make = () => new Llava(fromOriginal(config, tower.config));
    const model = await loadModel(source, make, [tower.tensors, tensors], renames, options);
    model.#original = { config, tower: tower.config };
    noteFolder(model.vision_tower, tower.source);
    model.processor = await Processor.open(source, config, tower.images, {
      aspect: config.image_aspect_ratio === "pad" ? "pad" : undefined,
      imStartEnd: config.mm_use_im_start_end,
      addedTokens: imageTokens(config),
      pinpoints: model.config.image_grid_pinpoints,
      template: config.model_type === "llava_mistral" ? "mistral_instruct" : "vicuna_v1",
    });
    return model;
  }

  /** Writes config.json and safetensors in the layout that the model was loaded from, else that of Hugging Face. */
  async savePretrained(where: string | FileSource, options?: SaveOptions): Promise<void> {
    const original = this.#original;
    const type = this.config.image_grid_pinpoints ? "llava_next" : "llava";
    if (!original) return saveModel(this, { ...this.config, model_type: type }, where, options);
    const state = Object.entries(denseState(this));
    const apart = (name: string) => name.startsWith("vision_tower.");
    const parts = [state.filter(([name]) => apart(name)), state.filter(([name]) => !apart(name))];
    const [tower, rest] = parts.map((part) => Object.fromEntries(part));
    const folder = await openFolder(where);
    const companions = folderOf(this.vision_tower);
    await saveCheckpoint(subfolder(folder, "vision_tower"), original.tower, tower, { companions, ...options });
    await saveModel(this, original.config, folder, options, rest);
  }
}

/** CLIP's settings at a tower's size. */
const plainImages = ({ image_size: size }: VisionConfig) => ({ size, crop_size: size });
const newProjector = ({ vision_config: vision, text_config: text, ...config }: LlavaConfig): Projector =>
  new Projector(vision.hidden_size, text.hidden_size, {
    type: config.mm_projector_type ?? "mlp2x_gelu",
    act: config.projector_hidden_act,
    bias: config.multimodal_projector_bias,
    pixelShuffle: config.projector_pixel_shuffle,
    meanToken: config.projector_mean_token,
  });

const newNewline = ({ text_config: { hidden_size } }: LlavaConfig): Tensor =>
  normal([hidden_size], hidden_size ** -0.5);

/** Weight names of all layouts to those of this module, first match wins. */
const renames: Rename[] = [
  ...besideVision, // a tower's folder may hold the text encoder that it was trained with
  [/^model\.vision_tower\.vision_tower\./, "vision_tower."], // original, tower stored with the model
  [/^model\.mm_projector\.(\d+)\./, (_, n) => `multi_modal_projector.linear_${Number(n) / 2 + 1}.`],
  [/^model\.mm_projector\./, "multi_modal_projector.linear_1."],
  [/^model\.(embed_tokens|layers|norm)\./, "language_model.model.$1."],
  [/^model\.language_model\./, "language_model.model."], // transformers 4.52 and later
  [/^lm_head\./, "language_model.lm_head."],
  [/^model\.(vision_tower|multi_modal_projector)\./, "$1."],
  [/^model\.image_newline$/, "image_newline"],
  [/^vision_model\./, "vision_tower.vision_model."], // a tower in its own folder
];

/** The vision tower of an original checkpoint: in the folder given, a subfolder that the config names, or `vision_tower`. */
async function openTower(source: FileSource, config: any, given?: string | FileSource) {
  const name = config.mm_vision_tower;
  if (typeof name !== "string")
    throw new Error(`${source.location}: config.json has neither text_config nor mm_vision_tower: not a LLaVA model`);
  // Checkpoints trained from a folder of their author's disk name it here; it is not looked for outside of this folder.
  const named = [name, "vision_tower"].filter((folder) => pathInside(folder) !== undefined);
  const places = given ? [await openFolder(given)] : named.map((folder) => subfolder(source, folder));
  for (const inside of places) {
    if ((await inside.size("config.json")) === undefined) continue;
    const found = await readJson(inside, "config.json");
    const config: VisionConfig = found.vision_config ?? found;
    const settings = "preprocessor_config.json";
    const images = (await inside.size(settings)) === undefined ? plainImages(config) : await readJson(inside, settings);
    return { source: inside, config, tensors: await openWeights(inside), images };
  }
  throw new Error(
    `${source.location}: the vision tower "${name}" is not ${given ? `in ${places[0].location}` : "here"}: give its folder as visionTower, or put its config.json and weights in the subfolder vision_tower`,
  );
}

const defaultPinpoints: Size[] = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];

/** A config as published, with the defaults of the reference classes where it leaves keys out. */
export function completeConfig(config: any): LlavaConfig {
  const { vision_feature_layer: layer = -2 } = config;
  if (typeof layer !== "number")
    throw new Error(`vision_feature_layer ${JSON.stringify(layer)} is not supported: one layer expected`);
  return {
    ...config,
    image_grid_pinpoints:
      config.image_grid_pinpoints ?? (config.model_type === "llava_next" ? defaultPinpoints : undefined),
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

/** The model_type of the original layout by that of the language model. */
const originalTypes: Readonly<Record<string, string>> = {
  llama: "llava_llama",
  mistral: "llava_mistral",
  qwen2: "llava_qwen",
};
const languageTypes = Object.fromEntries(Object.entries(originalTypes).map(([type, llava]) => [llava, type]));

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
  const tokens = imageTokens(config);
  const inVocabulary = config.model_type === "llava" && tokens[0] === "<im_patch>";
  return {
    model_type: "llava",
    text_config: { ...llamaDefaults, ...text, model_type: languageTypes[config.model_type] ?? "llama" },
    vision_config: completeVisionConfig(vision),
    image_token_index: inVocabulary ? config.vocab_size - tokens.length : IMAGE_TOKEN_INDEX,
    vision_feature_layer: layer,
    vision_feature_select_strategy: feature === "patch" ? "default" : "full",
    mm_projector_type: type,
    image_grid_pinpoints: config.image_aspect_ratio === "anyres" ? originalPinpoints(config) : undefined,
    mm_patch_merge_type: config.mm_patch_merge_type ?? "flat",
  };
}

/** Lists of [width, height] there, also written as text with Python's brackets. */
function originalPinpoints({ image_grid_pinpoints: given }: any): Size[] {
  const list = typeof given === "string" ? JSON.parse(given.replaceAll("(", "[").replaceAll(")", "]")) : given;
  return list.map(([width, height]: number[]) => [height, width]);
}
