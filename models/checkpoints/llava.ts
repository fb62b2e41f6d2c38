/** The layouts of LLaVA checkpoints: weight names and config.json, converted to those of `Llava` and back. */
import { Processor } from "../../src/generate/index.ts";
import type { Size, TileLayout } from "../../src/image/index.ts";
import type { Tensor } from "../../src/index.ts";
import {
  type FileSource,
  noteOrigin,
  openCheckpoint,
  openFolder,
  openWeights,
  pathInside,
  readJson,
  type SaveOptions,
  saveCheckpoint,
  subfolder,
} from "../../src/io/index.ts";
import { IMAGE_TOKEN_INDEX } from "../../src/text/index.ts";
import type { VisionConfig } from "../clip.ts";
import type { LlamaConfig } from "../llama.ts";
import type { Llava } from "../llava.ts";
import { besideVision, completeVisionConfig, llamaDefaults } from "./defaults.ts";
import { denseState, folderOf, type LoadOptions, loadModel, noteFolder, type Rename, saveModel } from "./load.ts";

/** The keys of config.json: those of Hugging Face, and some of this library. */
export interface LlavaConfig {
  model_type?: string;
  text_config: LlamaConfig;
  vision_config: VisionConfig;
  /** Token id of an image: in the vocabulary, or -200 as in the original code. */
  image_token_index: number;
  /** Hidden state of the tower for the projector: -1 the last, -2 the input of the last layer. Default -2. */
  vision_feature_layer?: number;
  /** "default" drops the class token, "full" keeps it. */
  vision_feature_select_strategy?: "default" | "full";
  projector_hidden_act?: string;
  multimodal_projector_bias?: boolean;
  /** identity, linear or mlp{n}x_gelu. Default mlp2x_gelu. */
  mm_projector_type?: string;
  /** LLaVA-NeXT: resolutions [height, width] for the tiles of an image. */
  image_grid_pinpoints?: readonly Size[];
  /** LLaVA-NeXT: order of the tokens of tiles. Default spatial_unpad. */
  mm_patch_merge_type?: TileLayout["merge"];
  /** Merge squares of this many tokens per side before the projector. */
  projector_pixel_shuffle?: number;
  /** Append the mean of an image's (or tile's) tokens as one more token. */
  projector_mean_token?: boolean;
  /** Number of learned vectors that are added to the tokens of an image by position; needed for images in several tiles. */
  projector_slots?: number;
}

export interface LlavaLoadOptions extends LoadOptions {
  /** Folder of the vision tower of a checkpoint in the original layout. Default: the subfolder `vision_tower`. */
  readonly visionTower?: string | FileSource;
}

/**
 * Names of each layout to those of `Llava`. Files may mix layouts, so all rules are tried in this order and the first match
 * wins.
 */
const layouts: readonly { readonly layout: string; readonly names: readonly Rename[] }[] = [
  {
    layout: "vision tower in its own folder, maybe with the text encoder that it was trained with",
    names: [...besideVision, [/^vision_model\./, "vision_tower.vision_model."]],
  },
  {
    layout: "original LLaVA; its projector alone is mm_projector.bin of the first stage",
    names: [
      [/^model\.vision_tower\.vision_tower\./, "vision_tower."],
      [/^model\.mm_projector\.(\d+)\./, (_, n) => `multi_modal_projector.linear_${Number(n) / 2 + 1}.`],
      [/^model\.mm_projector\./, "multi_modal_projector.linear_1."],
      [/^model\.(embed_tokens|layers|norm)\./, "language_model.model.$1."],
    ],
  },
  {
    layout: "Hugging Face, transformers 4.52 and later",
    names: [
      [/^model\.language_model\./, "language_model.model."],
      [/^lm_head\./, "language_model.lm_head."],
      [/^model\.(vision_tower|multi_modal_projector)\./, "$1."],
      [/^model\.image_newline$/, "image_newline"],
    ],
  },
  { layout: "Hugging Face, transformers before 4.52", names: [] }, // the names of `Llava`
];

const renames: readonly Rename[] = layouts.flatMap(({ names }) => names);

/** The tensors of the projector, and of the newline if there is one, under their names in the original LLaVA. */
export function originalProjector(model: Llava): (readonly [name: string, tensor: Tensor])[] {
  const own = Object.entries(model.multi_modal_projector.stateDict());
  const isLinear = own.every(([name]) => !name.startsWith("linear_2"));
  const layers = own.map(([name, tensor]) => {
    const [, n, rest] = /^linear_(\d+)\.(.*)$/.exec(name)!;
    return [`model.mm_projector.${isLinear ? "" : `${2 * (Number(n) - 1)}.`}${rest}`, tensor] as const;
  });
  return model.image_newline ? [...layers, ["model.image_newline", model.image_newline] as const] : layers;
}

/** The two config.json of the original layout. A model that has them is saved in that layout. */
interface OriginalConfigs {
  readonly config: object;
  readonly tower: object;
}

/** Models that `saveLlava` writes in the original layout. */
const originals = new WeakMap<Llava, OriginalConfigs>();

/** Loads a model from a folder in any layout, with its processor if the folder has a tokenizer. */
export async function loadLlava(
  where: string | FileSource,
  options: LlavaLoadOptions,
  make: (config: LlavaConfig) => Llava,
): Promise<Llava> {
  const source = await openFolder(where);
  const { config, tensors } = await openCheckpoint(source);
  if (config.text_config) {
    const complete = completeConfig(config);
    const tied: Rename[] = complete.text_config.tie_word_embeddings ? [[/^(language_model\.)?lm_head\./, null]] : [];
    const model = await loadModel(source, () => make(complete), [tensors], [...tied, ...renames], options);
    const { text_config: text, vision_config: vision, image_grid_pinpoints: pinpoints } = complete;
    model.processor = await Processor.open(source, text, clipImages(vision), { pinpoints });
    return model;
  }
  const tower = await openTower(source, config, options.visionTower);
  const makeOriginal = () => make(fromOriginal(config, tower.config));
  const model = await loadModel(source, makeOriginal, [tower.tensors, tensors], renames, options);
  originals.set(model, { config, tower: tower.config });
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

/** Writes a model in the layout that it was loaded from, else in that of Hugging Face. */
export async function saveLlava(model: Llava, where: string | FileSource, options?: SaveOptions): Promise<void> {
  const original = originals.get(model);
  const type = model.config.image_grid_pinpoints ? "llava_next" : "llava";
  if (!original) return saveModel(model, { ...model.config, model_type: type }, where, options);
  const state = Object.entries(denseState(model));
  const ofTower = (name: string) => name.startsWith("vision_tower.");
  const tower = Object.fromEntries(state.filter(([name]) => ofTower(name)));
  const rest = Object.fromEntries(state.filter(([name]) => !ofTower(name)));
  const folder = await openFolder(where);
  const companions = folderOf(model.vision_tower);
  await saveCheckpoint(subfolder(folder, "vision_tower"), original.tower, tower, { companions, ...options });
  await saveModel(model, original.config, folder, options, rest);
}

/** CLIP's image settings at a tower's size. */
const clipImages = ({ image_size: size }: VisionConfig) => ({ size, crop_size: size });

/** The vision tower of an original checkpoint: in the folder given, a subfolder that the config names, or `vision_tower`. */
async function openTower(source: FileSource, config: any, given?: string | FileSource) {
  const name = config.mm_vision_tower;
  if (typeof name !== "string")
    throw new Error(`${source.location}: config.json has neither text_config nor mm_vision_tower: not a LLaVA model`);
  // Checkpoints trained from a folder of their author's disk name it here. Nothing outside of this folder is read.
  const named = [name, "vision_tower"].filter((folder) => pathInside(folder) !== undefined);
  const folders = given ? [await openFolder(given)] : named.map((folder) => subfolder(source, folder));
  for (const folder of folders) {
    if ((await folder.size("config.json")) === undefined) continue;
    const found = await readJson(folder, "config.json");
    const config: VisionConfig = found.vision_config ?? found;
    const settings = "preprocessor_config.json";
    const images = (await folder.size(settings)) === undefined ? clipImages(config) : await readJson(folder, settings);
    return { source: folder, config, tensors: await openWeights(folder), images };
  }
  throw new Error(
    `${source.location}: the vision tower "${name}" is not ${given ? `in ${folders[0].location}` : "here"}: give its folder as visionTower, or put its config.json and weights in the subfolder vision_tower`,
  );
}

const defaultPinpoints: Size[] = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];

/** A config of Hugging Face, completed with the defaults of the reference classes. */
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
 * Chinese-LLaVA) the patch token is in the vocabulary, and a prompt has one for each patch of an image.
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

/**
 * The config of a model put together from a language model and a tower. `note` lets `saveLlava` write that model in the
 * original layout.
 * @param keys of the original config.json, in place of the defaults
 */
export function assembledConfigs(language: LlamaConfig, tower: VisionConfig, keys: object) {
  const original = {
    ...language,
    model_type: originalTypes[language.model_type ?? "llama"] ?? "llava_llama",
    mm_vision_tower: "vision_tower",
    mm_hidden_size: tower.hidden_size,
    use_mm_proj: true,
    mm_use_im_start_end: false,
    mm_use_im_patch_token: false,
    ...keys,
  };
  const note = (model: Llava): Llava => {
    originals.set(model, { config: original, tower });
    for (const [name, tensor] of originalProjector(model)) noteOrigin(tensor, name, "F32");
    return model;
  };
  return { config: fromOriginal(original, tower), note };
}

/** The flat config of the original layout as one with text_config and vision_config. */
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

/** Resolutions of the original layout are [width, height], also written as a string with Python's brackets. */
function originalPinpoints({ image_grid_pinpoints: given }: any): Size[] {
  const list = typeof given === "string" ? JSON.parse(given.replaceAll("(", "[").replaceAll(")", "]")) : given;
  return list.map(([width, height]: number[]) => [height, width]);
}
