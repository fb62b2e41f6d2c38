/** The model of a recipe: loaded or put together, with frozen parts, LoRA and quantisation. */

import { Processor } from "../../src/generate/index.ts";
import { anyresRows, type Size, type TileLayout } from "../../src/image/index.ts";
import { type Tensor, zeros } from "../../src/index.ts";
import { type FileSource, openFolder, readJson } from "../../src/io/index.ts";
import { addLoRA, LayerNorm, type ParameterGroup, RMSNorm } from "../../src/nn/index.ts";
import { noteFolder } from "../checkpoints/load.ts";
import { saveAdapter } from "../checkpoints/peft.ts";
import { loadProjector, PROJECTOR_FILE, saveProjector } from "../checkpoints/projector.ts";
import { loadLlama } from "../language.ts";
import { Llava } from "../llava.ts";
import { MplugOwl } from "../owl.ts";
import { MplugOwl2 } from "../owl2.ts";
import { loadVisionTower } from "../tower.ts";
import { openFile } from "./data.ts";
import type { Part, Recipe } from "./recipe.ts";

export type TrainedModel = Llava | MplugOwl | MplugOwl2;

/** Patterns of parameter names, by part. */
const parts: Readonly<Record<Recipe["architecture"], Readonly<Record<Part, RegExp>>>> = {
  llava: {
    vision: /^vision_tower\./,
    projector: /^(multi_modal_projector|image_slots|image_newline)\b/,
    language: /^language_model\./,
  },
  "mplug-owl": { vision: /^vision_model\./, projector: /^(abstractor|query_tokens)\b/, language: /^language_model\./ },
  "mplug-owl2": { vision: /^vision_model\./, projector: /^visual_abstractor\./, language: /^language_model\./ },
};

/** Token id, positions and tensor shapes of the model's images. */
export interface ImageFacts {
  readonly imageToken: number;
  /** Number of positions of an image; by its size in pixels, if the model cuts images into tiles. */
  tokensOf(size?: Size): number;
  /** LLaVA-NeXT: the layout of tiles. */
  readonly tiles?: TileLayout;
  /** Shapes of an image or tile: pixels [C, H, W], and features for the adapter [P, D]. */
  readonly pixelShape: readonly number[];
  readonly featureShape: readonly number[];
}

export interface OpenedModel extends ImageFacts {
  readonly model: TrainedModel;
  readonly processor: Processor;
  readonly legacy: boolean;
}

/** A recipe whose model may be open already. */
export type PlacedRecipe = Omit<Recipe, "model_name_or_path" | "vision_tower"> & {
  readonly model_name_or_path: string | FileSource;
  readonly vision_tower: string | FileSource | null;
};

/** Loads the model of the recipe. */
export async function openModel(recipe: PlacedRecipe): Promise<OpenedModel> {
  const { model, source } = await loadModelOf(recipe);
  const vision = model instanceof MplugOwl2 ? model.config.visual_config.visual_model : model.config.vision_config;
  const { image_size: size, num_channels: channels = 3 } = vision;
  const found = model.processor;
  if (!found) throw new Error(`${source.location}: the folder has no tokenizer, which training needs`);
  const aspect = recipe.image_aspect_ratio === "pad" ? ("pad" as const) : undefined;
  const processor = new Processor(found.tokenizer, found.images, { ...found.options, aspect });
  if (recipe.pretrain_mm_mlp_adapter) {
    if (!(model instanceof Llava)) throw new Error("pretrain_mm_mlp_adapter: only llava has a projector");
    const { source: folder, name } = await openFile(recipe.pretrain_mm_mlp_adapter);
    await loadProjector(model, folder, name);
  }
  const settings = "tokenizer_config.json";
  const { legacy } = (await source.size(settings)) === undefined ? {} : await readJson(source, settings);
  const pixelShape = [channels, size, size];
  const features = model.visionFeatures(zeros([1, ...pixelShape])); // never computed: for their shapes
  const tokens = model.project(features).shape[1];
  const tiles = model instanceof Llava ? model.tileLayout(tokens) : undefined;
  checkTiles(recipe, source, tiles);
  return {
    model,
    processor,
    legacy: legacy !== false,
    imageToken: model.imageToken,
    tokensOf: (image) => (tiles ? anyresRows(image!, tiles).length : tokens),
    tiles,
    pixelShape,
    featureShape: features.shape.slice(1),
  };
}

/** @throws if the model cuts images into tiles and the recipe does not, or the other way round. */
function checkTiles(
  { image_aspect_ratio: aspect }: Pick<Recipe, "image_aspect_ratio">,
  source: FileSource,
  tiles?: TileLayout,
) {
  if (tiles && aspect !== "anyres")
    throw new Error(`${source.location} cuts images into tiles: image_aspect_ratio must be "anyres", got "${aspect}"`);
  if (!tiles && aspect === "anyres")
    throw new Error(
      `${source.location} does not cut images into tiles (no image_grid_pinpoints): image_aspect_ratio "anyres" does not fit`,
    );
}

/** The model with its processor, and its folder. */
async function loadModelOf(recipe: PlacedRecipe): Promise<{ model: TrainedModel; source: FileSource }> {
  const source = await openFolder(recipe.model_name_or_path);
  const dtype = ({ 32: "f32", 16: "f16", 8: "int8", 4: recipe.quant_type } as const)[recipe.bits];
  if (recipe.architecture === "mplug-owl") return { model: await MplugOwl.fromPretrained(source, { dtype }), source };
  if (recipe.architecture === "mplug-owl2") return { model: await MplugOwl2.fromPretrained(source, { dtype }), source };
  const visionTower = recipe.vision_tower ?? undefined;
  const config = await readJson(source, "config.json");
  if (config.text_config || config.mm_vision_tower || !visionTower)
    return { model: await Llava.fromPretrained(source, { dtype, visionTower }), source };
  // Tower and language model come from two folders, with a new projector between them: the start of stage 1.
  const anyres = recipe.image_aspect_ratio === "anyres";
  const model = Llava.assemble(await loadLlama(source, { dtype }), await loadVisionTower(visionTower, { dtype }), {
    mm_projector_type: recipe.mm_projector_type,
    mm_vision_select_layer: recipe.mm_vision_select_layer,
    mm_vision_select_feature: recipe.mm_vision_select_feature,
    image_aspect_ratio: recipe.image_aspect_ratio,
    ...(anyres && {
      image_grid_pinpoints: recipe.image_grid_pinpoints,
      mm_patch_merge_type: recipe.mm_patch_merge_type,
    }),
  });
  const both = withImageSettings(source, await openFolder(visionTower));
  noteFolder(model, both);
  const { vision_config: vision, text_config: text, image_grid_pinpoints: pinpoints } = model.config;
  const images = { size: vision.image_size, crop_size: vision.image_size };
  model.processor = await Processor.open(both, text, images, { pinpoints });
  return { model, source };
}

/** The folder of a language model, with the image settings of a tower's folder. */
function withImageSettings(language: FileSource, tower: FileSource): FileSource {
  const of = (path: string) => (path === "preprocessor_config.json" ? tower : language);
  return {
    location: language.location,
    read: (path, start, end) => of(path).read(path, start, end),
    size: (path) => of(path).size(path),
  };
}

/** Freezes and trains parts by the recipe. Returns the names of the layers with a LoRA. */
export function prepareModel(model: TrainedModel, recipe: Recipe): string[] {
  model.requiresGrad_(false);
  const adapted = recipe.lora_enable
    ? addLoRA(model, new RegExp(recipe.lora_target), {
        r: recipe.lora_r,
        alpha: recipe.lora_alpha,
        dropout: recipe.lora_dropout,
      })
    : [];
  for (const part of recipe.trainable) {
    const own = [...model.namedParameters()].filter(([name]) => partOf(name, recipe) === part);
    if (own.length === 0) throw new Error(`the model has no part "${part}" to train`);
    for (const [, t] of own) t.requiresGrad_();
  }
  const decoder = model.language_model.model;
  decoder.checkpointing = recipe.gradient_checkpointing;
  decoder.activations = recipe.fp16 ? "f16" : "f32";
  model.train();
  return adapted;
}

function partOf(name: string, { architecture }: Recipe): Part | undefined {
  const own = parts[architecture];
  return (Object.keys(own) as Part[]).find((part) => own[part].test(name));
}

/** Groups by learning rate and weight decay. Norms and biases do not decay, as in transformers' Trainer. */
export function parameterGroups(model: TrainedModel, recipe: Recipe): ParameterGroup[] {
  const plain = new Set<Tensor>();
  for (const [, module] of model.namedModules())
    if (module instanceof LayerNorm || module instanceof RMSNorm) for (const p of module.parameters()) plain.add(p);
  const rates: Record<Part, number> = {
    vision: recipe.mm_vision_tower_lr ?? recipe.learning_rate,
    projector: recipe.mm_projector_lr ?? recipe.learning_rate,
    language: recipe.learning_rate,
  };
  const groups = new Map<string, ParameterGroup & { params: Tensor[] }>();
  for (const [name, t] of model.namedParameters()) {
    if (!t.requiresGrad) continue;
    const lr = rates[partOf(name, recipe) ?? "language"];
    const weightDecay = plain.has(t) || /(^|\.)bias$/.test(name) ? 0 : recipe.weight_decay;
    const key = `${lr} ${weightDecay}`;
    const group = groups.get(key) ?? { params: [], lr, weightDecay };
    group.params.push(t);
    groups.set(key, group);
  }
  return [...groups.values()];
}

/**
 * Writes the result: a PEFT folder for a LoRA, LLaVA's projector file if only the projector trained, else the model with its
 * tokenizer. Returns the name of the file.
 */
export async function saveResult(model: TrainedModel, recipe: Recipe): Promise<string> {
  const output = await openFolder(recipe.output_dir);
  if (recipe.lora_enable) {
    await saveAdapter(model, output);
    return "adapter_model.safetensors";
  }
  if (model instanceof Llava && recipe.trainable.every((part) => part === "projector") && !model.image_slots) {
    await saveProjector(model, output);
    return PROJECTOR_FILE;
  }
  await model.savePretrained(output);
  return "model.safetensors";
}
