import { flush, tensor } from "../../src/index.ts";
import {
  copyOrigin,
  type Entry,
  type FileSource,
  type HostTensor,
  noteOrigin,
  openFolder,
  readJson,
  type Saveable,
  type SaveOptions,
  saveCheckpoint,
  type TensorFiles,
} from "../../src/io/index.ts";
import {
  dequantize,
  Linear,
  loadParameter,
  type Module,
  type QuantFormat,
  QuantizedLinear,
  type QuantOptions,
  type StateDict,
  withoutInit,
} from "../../src/nn/index.ts";

/** A rule: names that match the pattern are replaced; null skips the tensor. The first rule that matches is used. */
export type Rename = readonly [RegExp, string | null | ((...match: string[]) => string)];

/** Progress of loading. */
export interface LoadProgress {
  /** Name of the last tensor in its file. */
  readonly name: string;
  readonly tensors: number;
  readonly totalTensors: number;
  /** Bytes read so far, as stored in the files. */
  readonly bytes: number;
  readonly totalBytes: number;
  readonly bytesPerSecond: number;
}

export interface LoadOptions {
  /**
   * Format of the weights. "f16": all matrices except the adapter's. "int8", "int4", "nf4": the Linear layers of decoder blocks,
   * each quantised as it is read; other matrices are f16. Vectors stay f32. Default "f32".
   */
  readonly dtype?: "f32" | "f16" | QuantFormat;
  /** For the quantised formats: weights per scale (default 64), and whether groups have zero-points. */
  readonly group?: QuantOptions["group"];
  readonly zeroPoint?: boolean;
  readonly onProgress?: (progress: LoadProgress) => void;
}

/** Buffers in older files. No model reads them; they are kept and written again. */
const buffers = /(?:^|\.)(?:rotary_emb\.inv_freq|embeddings\.position_ids)$/;
const kept = new WeakMap<Module, Saveable>();

/** Parts that usually train and so stay f32: projectors and abstractors. */
const trained = /projector|abstractor|query_tokens|image_newline|image_slots/;
/** Layers that are quantised: those of the decoder's blocks. */
const blocks = /(?:^|language_model\.)model\.layers\.\d+\./;

/** The stored tensor for a parameter: file, name, and a conversion of its values. */
interface Source {
  readonly file: TensorFiles;
  readonly name: string;
  readonly change?: (values: HostTensor) => HostTensor;
}

/** Stored tensors by the model's parameter names. */
export type Sources = ReadonlyMap<string, Source>;

/**
 * Loads every tensor of `model` from files, whose names `renames` maps to those of the model. A tensor in a later file replaces
 * one in an earlier. Buffers of older files (rotary frequencies, position ids) are kept as is for `saveModel`.
 * ```ts
 * await loadWeights(model, [await openWeights(folder)], [[/^blocks\./, "layers."]]);
 * ```
 * @throws before anything is read, with all missing, unexpected and wrongly shaped tensors
 */
export async function loadWeights(
  model: Module,
  files: readonly TensorFiles[],
  renames: readonly Rename[] = [],
  options: LoadOptions = {},
): Promise<void> {
  const own = model.stateDict();
  const found = new Map<string, Source>();
  const extra = new Map<string, Source>();
  for (const file of files) {
    for (const name of file.names) {
      const target = rename(name, renames);
      if (target === null) continue;
      (buffers.test(target) && !own[target] ? extra : found).set(target, { file, name });
    }
  }
  await loadSources(model, found, options);
  kept.set(model, await readStored(extra));
  const loaded = model.stateDict();
  const modules = new Map(model.namedModules());
  for (const [target, { file, name }] of found) {
    const quantised = modules.get(target);
    noteOrigin(quantised ?? loaded[target], name, file.entry(name).dtype);
  }
}

/** Reads tensors as the bytes in their files. */
async function readStored(sources: Sources): Promise<Saveable> {
  const all: Record<string, Saveable[string]> = {};
  for (const [target, { file, name }] of sources) {
    const { dtype: stored, shape } = file.entry(name);
    all[target] = { shape, stored, bytes: (await file.bytes(name)).slice() };
    noteOrigin(all[target], name, stored);
  }
  return all;
}

/** Loads all tensors one after another, so that only one at a time is in memory. */
export async function loadSources(model: Module, sources: Sources, options: LoadOptions = {}): Promise<void> {
  const own = model.stateDict();
  checkFit(own, sources);
  const { dtype = "f32", group, zeroPoint, onProgress } = options;
  const quantised = dtype === "f32" || dtype === "f16" ? undefined : { format: dtype, group, zeroPoint };
  const linears = quantised && linearsOf(model);
  const size = ({ start, end }: Entry) => end - start;
  const totalBytes = Array.from(sources.values(), ({ file, name }) => size(file.entry(name))).reduce(
    (a, b) => a + b,
    0,
  );
  const began = performance.now();
  let [tensors, bytes] = [0, 0];
  for (const [target, source] of sources) {
    const linear = linears?.get(target);
    if (linear) await linear(source, quantised!);
    else {
      const half = dtype !== "f32" && own[target].ndim > 1 && !trained.test(target);
      await loadParameter(own[target], source.file, source.name, { half, change: source.change });
    }
    tensors++;
    bytes += size(source.file.entry(source.name));
    const bytesPerSecond = (bytes / Math.max(1, performance.now() - began)) * 1000;
    onProgress?.({ name: source.name, tensors, totalTensors: sources.size, bytes, totalBytes, bytesPerSecond });
  }
}

async function values({ file, name, change }: Source): Promise<HostTensor> {
  const plain = await file.read(name);
  return change ? change(plain) : plain;
}

/** For the weight of each Linear in the decoder's blocks: a function that replaces the layer by a quantised one. */
function linearsOf(model: Module): Map<string, (source: Source, options: QuantOptions) => Promise<void>> {
  const all = new Map<string, (source: Source, options: QuantOptions) => Promise<void>>();
  for (const [path, parent] of model.namedModules()) {
    for (const [field, child] of parent.namedChildren()) {
      const name = path ? `${path}.${field}` : field;
      if (!(child instanceof Linear) || !blocks.test(name)) continue;
      all.set(`${name}.weight`, async (source, options) => {
        // This flush frees the dense values, which no parameter holds.
        const { data, shape } = await values(source);
        const dense = tensor(data, { shape });
        parent.replaceChild(field, QuantizedLinear.fromLinear(child, options, dense));
        await flush();
      });
    }
  }
  return all;
}

function checkFit(own: StateDict, sources: Sources): void {
  const problems: string[] = [];
  for (const [target, { file, name }] of sources) {
    const { shape } = file.entry(name);
    if (!own[target]) problems.push(`unexpected ${name} [${shape}] in ${file.fileOf(name)}`);
    else if (String(shape) !== String(own[target].shape))
      problems.push(
        `${name} has shape [${shape}] in ${file.fileOf(name)}, expected [${own[target].shape}] by the config`,
      );
  }
  for (const [name, { shape }] of Object.entries(own))
    if (!sources.has(name)) problems.push(`missing ${name} [${shape}]`);
  const places = new Set(Array.from(sources.values(), ({ file }) => file.location));
  if (problems.length)
    throw new Error(`${[...places].join(", ")}: the weights do not fit the config: ${problems.join("; ")}`);
}

/** Applies the first rule that matches a stored name. Returns null if it skips the tensor. */
export function rename(name: string, rules: readonly Rename[]): string | null {
  for (const [pattern, to] of rules) {
    if (!pattern.test(name)) continue;
    return to === null ? null : name.replace(pattern, to as string);
  }
  return name;
}

/** Folders that models were loaded from. Their tokenizer and other files are saved with the model. */
const folders = new WeakMap<Module, FileSource>();
const layouts = new WeakMap<Module, readonly Rename[]>();

/** The model's name of a tensor that is `stored` in the layout of the model's checkpoint. */
export const ownName = (model: Module, stored: string): string => rename(stored, layouts.get(model) ?? []) ?? stored;

/** The folder that a model was loaded from. */
export const folderOf = (model: Module): FileSource | undefined => folders.get(model);

/** Sets the folder of the tokenizer and other files, for a model that was put together from parts. */
export const noteFolder = (model: Module, source: FileSource): unknown => folders.set(model, source);

/**
 * Makes a model without initial values and loads its weights. `saveModel` finds its folder and layout again.
 * @param make makes the model, from its config; an error in it is reported as one of config.json
 */
export async function loadModel<M extends Module>(
  source: FileSource,
  make: () => M,
  files: readonly TensorFiles[],
  renames: readonly Rename[] = [],
  options?: LoadOptions,
): Promise<M> {
  const model = fromConfig(source, make);
  await loadWeights(model, files, renames, options);
  folders.set(model, source);
  layouts.set(model, renames);
  const ends = await endTokens(source);
  for (const [, module] of model.namedModules()) if ("eosTokenId" in module) module.eosTokenId = ends;
  return model;
}

/** End tokens in generation_config.json. Config.json may lack them, or have only one of several. */
async function endTokens(source: FileSource): Promise<number | number[] | undefined> {
  const path = "generation_config.json";
  return (await source.size(path)) === undefined
    ? undefined
    : ((await readJson(source, path)).eos_token_id ?? undefined);
}

/** Makes a model without initial values. Errors name the config.json. */
function fromConfig<M extends Module>(source: FileSource, make: () => M): M {
  try {
    return withoutInit(make);
  } catch (error) {
    throw new Error(`${source.location}/config.json: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Writes a model as a folder: config.json, the weights with the names and float types that they were loaded with, and the tokenizer
 * and preprocessor files of its folder. The option `float` sets another float type. Quantised layers are written as dense
 * matrices.
 */
export async function saveModel(
  model: Module,
  config: object,
  where: string | FileSource,
  options: SaveOptions = {},
  state = denseState(model),
): Promise<void> {
  await saveCheckpoint(await openFolder(where), config, state, { companions: folderOf(model), ...options });
}

/** The state for saving: quantised weights as matrices, with the buffers of older files. */
export function denseState(model: Module): Saveable {
  const state: Record<string, Saveable[string]> = model.stateDict();
  for (const [name, module] of model.namedModules()) {
    for (const [key, buffer] of Object.entries(kept.get(module) ?? {})) state[name ? `${name}.${key}` : key] = buffer;
    if (!(module instanceof QuantizedLinear)) continue;
    const { weight } = module;
    for (const key of Object.keys(state)) if (key.startsWith(`${name}.weight.`)) delete state[key];
    const dense: Saveable[string] = { shape: [...weight.shape], dtype: "f32", data: () => dequantize(weight).data() };
    copyOrigin(weight, dense);
    state[`${name}.weight`] = dense;
  }
  return state;
}
