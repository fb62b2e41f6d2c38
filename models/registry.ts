/**
 * Models by the `model_type` of their config.json. A new model needs its own file and one line in `models` (a decoder: in
 * language.ts; a vision tower: in tower.ts).
 */
import { type FileSource, openFolder, readJson } from "../src/io/index.ts";
import { type Module, withoutInit } from "../src/nn/index.ts";
import type { Tokenizer } from "../src/text/index.ts";
import { readGguf } from "./checkpoints/gguf.ts";
import type { LlavaLoadOptions } from "./checkpoints/llava.ts";
import { type LoadOptions, loadSources } from "./checkpoints/load.ts";
import { ViTForImageClassification } from "./classifier.ts";
import { decoders, languageModel, loadLlama } from "./language.ts";
import type { LlamaForCausalLM } from "./llama.ts";
import { Llava } from "./llava.ts";
import { MplugOwl } from "./owl.ts";
import { MplugOwl2 } from "./owl2.ts";
import { loadVisionTower, towers } from "./tower.ts";

/** A model class, or anything else that loads a model from a folder. */
export interface Loadable {
  fromPretrained(source: FileSource, options?: LlavaLoadOptions): Promise<Module>;
}

const all = (types: object, fromPretrained: Loadable["fromPretrained"]): [string, Loadable][] =>
  Object.keys(types).map((type) => [type, { fromPretrained }]);

const models = new Map<string, Loadable>([
  ...all(decoders, loadLlama),
  ["llava", Llava],
  ["llava_next", Llava],
  ["llava_llama", Llava],
  ["llava_mistral", Llava],
  ["llava_qwen", Llava],
  ["mplug-owl", MplugOwl],
  ["mplug_owl2", MplugOwl2],
  ["vit", ViTForImageClassification],
  ...all({ clip: 0, siglip: 0, ...towers }, loadVisionTower), // "clip" and "siglip" have a text encoder too, which is not loaded
]);

/**
 * Adds a model: `fromPretrained` then loads folders whose config.json has this `model_type`.
 * ```ts
 * registerModel("tiny", Tiny); // class Tiny extends Module { static async fromPretrained(source, options) { … } }
 * ```
 * @throws if the type is taken
 */
export function registerModel(modelType: string, model: Loadable): void {
  if (models.has(modelType)) throw new Error(`registerModel: there is a model of model_type "${modelType}" already`);
  models.set(modelType, model);
}

/** Loads the model of a folder (path, URL or FileSource) by the `model_type` in its config.json. */
export async function fromPretrained(where: string | FileSource, options?: LlavaLoadOptions): Promise<Module> {
  const source = await openFolder(where);
  const { model_type: type } = await readJson(source, "config.json");
  const model = models.get(type);
  if (!model)
    throw new Error(
      `${source.location}/config.json: model_type ${JSON.stringify(type)} is not supported; known are ${[...models.keys()].join(", ")}`,
    );
  return model.fromPretrained(source, options);
}

/** Loads a decoder from a GGUF file and, if the file has one, its tokenizer. */
export async function loadGguf(
  where: string | FileSource,
  { file, ...options }: LoadOptions & { file?: string } = {},
): Promise<{ model: LlamaForCausalLM; tokenizer?: Tokenizer }> {
  const { config, sources, tokenizer } = await readGguf(where, file);
  const model = withoutInit(() => languageModel(config));
  await loadSources(model, sources, options);
  return { model, tokenizer };
}
