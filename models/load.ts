import {
  type FileSource,
  openCheckpoint,
  openFolder,
  Safetensors,
  saveSafetensors,
  type WriteEntry,
  type WriteOptions,
} from "../src/io/index.ts";
import { jsonBytes, readJson, writeFile } from "../src/io/source.ts";
import {
  addLoRA,
  Linear,
  loraStateDict,
  type Module,
  type StateDict,
  setParameter,
  withoutInit,
} from "../src/nn/index.ts";
import { sameShape, show } from "../src/shape.ts";
import { LlamaForCausalLM, llamaDefaults } from "./llama.ts";

/** Names that match are rewritten; null leaves the tensor out. The first rule that matches is the one used. */
export type Rename = readonly [RegExp, string | null | ((...match: string[]) => string)];

/**
 * Loads every tensor of `model` from files, under names after `renames`. All missing, unexpected and wrongly
 * shaped tensors are reported before anything is read. A tensor of a later file replaces one of an earlier.
 */
export async function loadWeights(
  model: Module,
  files: readonly Safetensors[],
  renames: readonly Rename[] = [],
): Promise<void> {
  const found: Found = new Map();
  for (const file of files) {
    for (const name of file.names) {
      const target = rename(name, renames);
      if (target !== null) found.set(target, { file, name });
    }
  }
  const own = model.stateDict();
  checkFit(model.constructor.name, own, found);
  for (const [target, { file, name }] of found) setParameter(own[target], await file.read(name));
}

/** Where each tensor of a model is stored, and under which name. */
type Found = Map<string, { file: Safetensors; name: string }>;

function checkFit(what: string, own: StateDict, found: Found): void {
  const problems: string[] = [];
  for (const [target, { file, name }] of found) {
    const { shape } = file.entry(name);
    if (!own[target]) problems.push(`unexpected ${name} ${show(shape)}`);
    else if (!sameShape(shape, own[target].shape))
      problems.push(`${name} has shape ${show(shape)}, expected ${show(own[target].shape)}`);
  }
  for (const [name, { shape }] of Object.entries(own))
    if (!found.has(name)) problems.push(`missing ${name} ${show(shape)}`);
  if (problems.length) throw new Error(`${what}: the weights do not fit the config: ${problems.join("; ")}`);
}

function rename(name: string, rules: readonly Rename[]): string | null {
  for (const [pattern, to] of rules) {
    if (!pattern.test(name)) continue;
    return to === null ? null : name.replace(pattern, to as string);
  }
  return name;
}

/** A decoder alone: LLaMA, or a model of the same maths. */
export async function loadLlama(where: string | FileSource): Promise<LlamaForCausalLM> {
  const { config, tensors } = await openCheckpoint(await openFolder(where));
  const model = withoutInit(() => new LlamaForCausalLM({ ...llamaDefaults, ...config }));
  const tied: Rename[] = config.tie_word_embeddings ? [[/^lm_head\./, null]] : [];
  await loadWeights(model, [tensors], [[/rotary_emb\.inv_freq$/, null], ...tied]);
  return model;
}

/** The keys of adapter_config.json that say what a LoRA is. */
interface AdapterConfig {
  peft_type: string;
  r: number;
  lora_alpha: number;
  lora_dropout: number;
  target_modules: string | string[];
  bias: string;
}

/** Adds the LoRA of a PEFT folder (adapter_config.json, adapter_model.safetensors) to a model. Only it trains then. */
export async function loadAdapter(model: Module, where: string | FileSource): Promise<void> {
  const source = await openFolder(where);
  const config: AdapterConfig = await readJson(source, "adapter_config.json");
  if (config.peft_type !== "LORA" || (config.bias ?? "none") !== "none") {
    throw new Error(
      `${source.location}: only LORA adapters without bias are supported, not ${config.peft_type} with bias ${config.bias}`,
    );
  }
  const { target_modules: target } = config;
  const match = typeof target === "string" ? new RegExp(`^(?:${target})$`) : target;
  addLoRA(model, match, { r: config.r, alpha: config.lora_alpha, dropout: config.lora_dropout });
  const file = await Safetensors.open(source, "adapter_model.safetensors");
  const own = loraStateDict(model);
  checkFit(source.location, own, new Map(file.names.map((name) => [name, { file, name }])));
  for (const [name, tensor] of Object.entries(own)) setParameter(tensor, await file.read(name));
}

/** Writes the LoRA of a model as a PEFT folder. */
export async function saveAdapter(model: Module, where: string | FileSource, options?: WriteOptions): Promise<void> {
  const source = await openFolder(where);
  const layers = [...model.namedModules()].filter(([, module]) => module instanceof Linear && module.lora);
  if (layers.length === 0) throw new Error("saveAdapter: the model has no LoRA");
  const { r, alpha, dropout } = (layers[0][1] as Linear).lora!.options;
  const config: AdapterConfig = {
    peft_type: "LORA",
    r,
    lora_alpha: alpha,
    lora_dropout: dropout,
    target_modules: layers.map(([name]) => name),
    bias: "none",
  };
  const state = Object.entries(loraStateDict(model));
  const entries = state.map(([name, t]): [string, WriteEntry] => [
    name,
    { shape: t.shape, dtype: t.dtype, read: () => t.data() },
  ]);
  await saveSafetensors(source, "adapter_model.safetensors", Object.fromEntries(entries), options);
  await writeFile(source, "adapter_config.json", [jsonBytes(config)]);
}
