import { type FileSource, openCheckpoint, openFolder, type TensorFiles } from "../src/io/index.ts";
import { type Module, type StateDict, setParameter, withoutInit } from "../src/nn/index.ts";
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
  files: readonly TensorFiles[],
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
type Found = Map<string, { file: TensorFiles; name: string }>;

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
