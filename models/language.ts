/** The decoders by `model_type`. A new family of decoders needs its own file and one line here. */
import { type FileSource, openCheckpoint, openFolder } from "../src/io/index.ts";
import { llamaDefaults } from "./checkpoints/defaults.ts";
import { type LoadOptions, loadModel, type Rename } from "./checkpoints/load.ts";
import { type LlamaConfig, LlamaForCausalLM } from "./llama.ts";
import { MistralForCausalLM } from "./mistral.ts";
import { Qwen2ForCausalLM } from "./qwen2.ts";

export const decoders = {
  llama: LlamaForCausalLM,
  mistral: MistralForCausalLM,
  qwen2: Qwen2ForCausalLM,
} as const;

/**
 * The decoder that a config describes, by its `model_type` (default "llama"), with initial values.
 * @throws if the type is unknown
 */
export function languageModel(config: LlamaConfig): LlamaForCausalLM {
  const { model_type: type = "llama" } = config;
  if (!Object.hasOwn(decoders, type))
    throw new Error(`Llama: model_type "${type}" is not supported; known are ${Object.keys(decoders).join(", ")}`);
  return new decoders[type as keyof typeof decoders](config);
}

/** Loads a decoder alone from a folder: a path, a URL or a FileSource. */
export async function loadLlama(where: string | FileSource, options?: LoadOptions): Promise<LlamaForCausalLM> {
  const source = await openFolder(where);
  const { config: given, tensors } = await openCheckpoint(source);
  const config = { ...llamaDefaults, ...given };
  const renames: Rename[] = config.tie_word_embeddings ? [[/^lm_head\./, null]] : [];
  return loadModel(source, () => languageModel(config), [tensors], renames, options);
}
