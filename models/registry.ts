/** The model of a checkpoint folder, whichever it is: config.json says. */

import { type FileSource, openFolder, readJson } from "../src/io/index.ts";
import { type Module, withoutInit } from "../src/nn/index.ts";
import type { Tokenizer } from "../src/text/index.ts";
import { readGguf } from "./checkpoints/gguf.ts";
import { type LoadOptions, loadSources } from "./checkpoints/load.ts";
import { ViTForImageClassification } from "./classifier.ts";
import { LlamaForCausalLM, loadLlama } from "./llama.ts";
import { Llava, type LlavaLoadOptions } from "./llava.ts";
import { MplugOwl } from "./owl.ts";
import { MplugOwl2 } from "./owl2.ts";
import { loadVisionTower } from "./tower.ts";

type Loader = (source: FileSource, options?: LlavaLoadOptions) => Promise<Module>;

const llava: Loader = (source, options) => Llava.fromPretrained(source, options);

/** Loaders by `model_type`. */
const loaders: Readonly<Record<string, Loader>> = {
  llama: loadLlama,
  mistral: loadLlama,
  qwen2: loadLlama,
  llava,
  llava_next: llava,
  llava_llama: llava,
  llava_mistral: llava,
  llava_qwen: llava,
  "mplug-owl": (source, options) => MplugOwl.fromPretrained(source, options),
  mplug_owl2: (source, options) => MplugOwl2.fromPretrained(source, options),
  vit: (source, options) => ViTForImageClassification.fromPretrained(source, options),
  clip: loadVisionTower,
  clip_vision_model: loadVisionTower,
  siglip: loadVisionTower,
  siglip_vision_model: loadVisionTower,
};

/** Loads the model of a folder (path, URL or FileSource) by the `model_type` in its config.json. */
export async function fromPretrained(where: string | FileSource, options?: LlavaLoadOptions): Promise<Module> {
  const source = await openFolder(where);
  const { model_type: type } = await readJson(source, "config.json");
  if (!Object.hasOwn(loaders, type ?? ""))
    throw new Error(
      `${source.location}/config.json: model_type ${JSON.stringify(type)} is not supported; known are ${Object.keys(loaders).join(", ")}`,
    );
  return loaders[type](source, options);
}

/** A decoder and, where the file has one, its tokenizer. */
export async function loadGguf(
  where: string | FileSource,
  { file, ...options }: LoadOptions & { file?: string } = {},
): Promise<{ model: LlamaForCausalLM; tokenizer?: Tokenizer }> {
  const { config, sources, tokenizer } = await readGguf(where, file);
  const model = withoutInit(() => new LlamaForCausalLM(config));
  await loadSources(model, sources, options);
  return { model, tokenizer };
}
