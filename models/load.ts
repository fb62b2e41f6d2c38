import { type FileSource, openCheckpoint, openFolder, type Safetensors } from "../src/io/index.ts";
import { type Module, withoutInit } from "../src/nn/index.ts";
import { sameShape, show } from "../src/shape.ts";
import { LlamaForCausalLM } from "./llama.ts";
import { CLIPVisionModel } from "./vit.ts";

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
  const own = model.stateDict();
  const found = new Map<string, { file: Safetensors; name: string }>();
  const problems: string[] = [];
  for (const file of files) {
    for (const name of file.names) {
      const target = rename(name, renames);
      if (target === null) continue;
      const { shape } = file.entry(name);
      if (!own[target]) {
        problems.push(`unexpected ${name} ${show(shape)}`);
        continue;
      }
      if (!sameShape(shape, own[target].shape))
        problems.push(`${name} has shape ${show(shape)}, expected ${show(own[target].shape)}`);
      found.set(target, { file, name });
    }
  }
  problems.push(
    ...Object.keys(own)
      .filter((name) => !found.has(name))
      .map((name) => `missing ${name} ${show(own[name].shape)}`),
  );
  if (problems.length)
    throw new Error(`${model.constructor.name}: the weights do not fit the config: ${problems.join("; ")}`);
  for (const [target, { file, name }] of found) {
    model.loadStateDict({ [target]: await file.read(name) }, { strict: false });
  }
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
  const model = withoutInit(() => new LlamaForCausalLM(config));
  const tied: Rename[] = config.tie_word_embeddings ? [[/^lm_head\./, null]] : [];
  await loadWeights(model, [tensors], [[/rotary_emb\.inv_freq$/, null], ...tied]);
  return model;
}

/** A vision tower alone. */
export async function loadCLIPVision(where: string | FileSource): Promise<CLIPVisionModel> {
  const { config, tensors } = await openCheckpoint(await openFolder(where));
  const model = withoutInit(() => new CLIPVisionModel(config.vision_config ?? config));
  await loadWeights(
    model,
    [tensors],
    [[/position_ids$|^text_model\.|^visual_projection\.|^text_projection\.|^logit_scale$/, null]],
  );
  return model;
}
