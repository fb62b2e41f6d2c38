/** The model of a recipe: opened or put together, its parts frozen or not, LoRA and quantisation applied. */

import { writeEntries } from "../../src/io/huggingface.ts";
import { type FileSource, openFolder, saveSafetensors, TensorFiles } from "../../src/io/index.ts";
import { readJson } from "../../src/io/source.ts";
import { addLoRA, LayerNorm, type ParameterGroup, RMSNorm, withoutInit } from "../../src/nn/index.ts";
import { type Tensor, zeros } from "../../src/tensor.ts";
import { Projector } from "../adapter.ts";
import { Processor } from "../chat.ts";
import { IMAGE_TOKEN_INDEX } from "../conversation.ts";
import { Llava } from "../llava.ts";
import { type LoadOptions, loadLlama, loadWeights } from "../load.ts";
import { MplugOwl } from "../owl.ts";
import { saveAdapter } from "../peft.ts";
import { loadVisionTower } from "../tower.ts";
import { openFile } from "./data.ts";
import type { Part, Recipe } from "./recipe.ts";

export type TrainedModel = Llava | MplugOwl;

/** What belongs to which part, by the names of parameters. */
const parts: Readonly<Record<Recipe["architecture"], Readonly<Record<Part, RegExp>>>> = {
  llava: {
    vision: /^vision_tower\./,
    projector: /^(multi_modal_projector|image_slots|image_newline)\b/,
    language: /^language_model\./,
  },
  "mplug-owl": { vision: /^vision_model\./, projector: /^(abstractor|query_tokens)\b/, language: /^language_model\./ },
};

/** What stands for an image in the model's token ids, and how many positions one takes. */
export interface ImageFacts {
  readonly imageToken: number;
  readonly tokensPerImage: number;
  /** [C, H, W] of its pixels and [P, D] of what the adapter reads. */
  readonly pixelShape: readonly number[];
  readonly featureShape: readonly number[];
}

export interface OpenedModel extends ImageFacts {
  readonly model: TrainedModel;
  readonly processor: Processor;
  readonly legacy: boolean;
}

/** Loads what the recipe names. */
export async function openModel(recipe: Recipe): Promise<OpenedModel> {
  const source = await openFolder(recipe.model_name_or_path);
  const model = await loadModelOf(recipe, source);
  if (model instanceof Llava && model.config.image_grid_pinpoints)
    throw new Error(`${source.location}: recipes take images whole; the tiles of LLaVA-NeXT are trained with train()`);
  const { image_size: size, num_channels: channels = 3 } = model.config.vision_config;
  const found = model.processor ?? (await Processor.open(source, model.config.text_config, { size, crop_size: size }));
  if (!found) throw new Error(`${source.location}: training needs the tokenizer.json of the model there`);
  const options = { ...found.options, aspect: recipe.image_aspect_ratio === "pad" ? ("pad" as const) : undefined };
  const processor = new Processor(found.tokenizer, found.images, options);
  if (recipe.pretrain_mm_mlp_adapter) await loadProjector(model, recipe.pretrain_mm_mlp_adapter);
  const settings = "tokenizer_config.json";
  const { legacy } = (await source.size(settings)) === undefined ? {} : await readJson(source, settings);
  const pixelShape = [channels, size, size];
  const features = model.visionFeatures(zeros([1, ...pixelShape])); // never computed: for their shapes
  return {
    model,
    processor,
    legacy: legacy !== false,
    imageToken: model instanceof Llava ? model.config.image_token_index : -1,
    tokensPerImage: model.project(features).shape[1],
    pixelShape,
    featureShape: features.shape.slice(1),
  };
}

async function loadModelOf(recipe: Recipe, source: FileSource): Promise<TrainedModel> {
  const dtype = ({ 32: "f32", 16: "f16", 8: "int8", 4: recipe.quant_type } as const)[recipe.bits];
  if (recipe.architecture === "mplug-owl") return MplugOwl.fromPretrained(source, { dtype });
  const visionTower = recipe.vision_tower ?? undefined;
  const config = await readJson(source, "config.json");
  const whole = config.text_config || config.mm_vision_tower;
  if (whole || !visionTower) return Llava.fromPretrained(source, { dtype, visionTower });
  return assemble(recipe, visionTower, { dtype });
}

/** A tower and a language model from folders of their own, with a new projector between them: where stage 1 begins. */
async function assemble(recipe: Recipe, visionTower: string, options: LoadOptions): Promise<Llava> {
  const language = await loadLlama(recipe.model_name_or_path, options);
  const tower = await loadVisionTower(visionTower, options);
  const model = withoutInit(
    () =>
      new Llava({
        model_type: "llava",
        text_config: language.config,
        vision_config: tower.config,
        image_token_index: IMAGE_TOKEN_INDEX,
        vision_feature_layer: recipe.mm_vision_select_layer,
        vision_feature_select_strategy: recipe.mm_vision_select_feature === "patch" ? "default" : "full",
        mm_projector_type: recipe.mm_projector_type,
      }),
  );
  const type = recipe.mm_projector_type;
  model.language_model = language;
  model.vision_tower = tower;
  model.multi_modal_projector = new Projector(tower.config.hidden_size, language.config.hidden_size, { type });
  return model;
}

/** Freezes and trains what the recipe says. Returns the names of the layers with a LoRA. */
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

export function partOf(name: string, { architecture }: Recipe): Part | undefined {
  const own = parts[architecture];
  return (Object.keys(own) as Part[]).find((part) => own[part].test(name));
}

/** Groups by learning rate and weight decay; norms and biases do not decay (as transformers' Trainer has it). */
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

/** Names of LLaVA's mm_projector files: layers of an MLP have even numbers, a single layer has none. */
const originalName = (name: string, layers: number): string =>
  name.replace(/^linear_(\d+)/, (_, n) =>
    layers === 1 ? "model.mm_projector" : `model.mm_projector.${2 * (Number(n) - 1)}`,
  );

export const PROJECTOR_FILE = "mm_projector.safetensors";

const projectorState = (model: Llava): Record<string, Tensor> => {
  const own = Object.entries(model.multi_modal_projector.stateDict());
  const layers = new Set(own.map(([name]) => name.split(".")[0])).size;
  return Object.fromEntries(own.map(([name, t]) => [originalName(name, layers), t]));
};

/** Takes over the projector of an earlier stage (`mm_projector.safetensors`, or LLaVA's `mm_projector.bin`). */
async function loadProjector(model: TrainedModel, path: string): Promise<void> {
  if (!(model instanceof Llava)) throw new Error(`pretrain_mm_mlp_adapter ${path}: only llava has a projector`);
  const { source, name } = await openFile(path);
  await loadWeights(
    model.multi_modal_projector,
    [await TensorFiles.open(source, name)],
    [
      [/^model\.mm_projector\.(\d+)\./, (_, n) => `linear_${Number(n) / 2 + 1}.`],
      [/^model\.mm_projector\./, "linear_1."],
      [/^(?:model\.)?multi_modal_projector\./, ""],
    ],
  );
}

/**
 * Writes what was trained: a PEFT folder for a LoRA, LLaVA's projector file where only that trained, else the model
 * with its tokenizer. Returns what it wrote.
 */
export async function saveResult(model: TrainedModel, recipe: Recipe): Promise<string> {
  const output = await openFolder(recipe.output_dir);
  if (recipe.lora_enable) {
    await saveAdapter(model, output);
    return "adapter_model.safetensors";
  }
  if (model instanceof Llava && recipe.trainable.every((part) => part === "projector") && !model.image_slots) {
    await saveSafetensors(output, PROJECTOR_FILE, writeEntries(projectorState(model)));
    return PROJECTOR_FILE;
  }
  await model.savePretrained(output);
  return "model.safetensors";
}
