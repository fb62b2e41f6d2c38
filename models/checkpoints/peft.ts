/** LoRA adapters in the layout of PEFT: adapter_config.json with adapter_model.safetensors or the older adapter_model.bin. */

import type { Tensor } from "../../src/index.ts";
import {
  type FileSource,
  jsonBytes,
  openFolder,
  readJson,
  saveSafetensors,
  TensorFiles,
  type WriteOptions,
  writeFile,
} from "../../src/io/index.ts";
import {
  adaptableLayers,
  adaptedLayers,
  addAdapter,
  DEFAULT_ADAPTER,
  loraStateDict,
  type Module,
  type StateDict,
  setParameter,
} from "../../src/nn/index.ts";
import { ownName } from "./load.ts";

/** The keys of adapter_config.json that define a LoRA. */
interface AdapterConfig {
  peft_type: string;
  r: number;
  lora_alpha: number;
  lora_dropout?: number;
  use_rslora?: boolean;
  bias?: string;
  target_modules: string | string[];
  [key: string]: unknown;
}

export interface AdapterOptions {
  /** The adapter's name in the model. Default "default". */
  name?: string;
}

/** Keys for variants of LoRA that are not supported. */
const unsupported = [
  "use_dora",
  "fan_in_fan_out",
  "rank_pattern",
  "alpha_pattern",
  "modules_to_save",
  "layer_replication",
];

const ADAPTER = "adapter_model";
/** The file of parts that were trained in full with an adapter, as in LLaVA. */
const FULL = "non_lora_trainables";
const formats = [".safetensors", ".bin"] as const;

/**
 * Adds the adapter of a PEFT folder to a model. It becomes active, and the only one that trains. The file decides which layers
 * have it. Parts in non_lora_trainables, which were trained in full, replace those of the model. Files are safetensors or
 * PyTorch's .bin; their names are those of the model or of its checkpoint's layout.
 * @throws if names or shapes do not fit; the model is then as before
 */
export async function loadAdapter(
  model: Module,
  where: string | FileSource,
  { name = DEFAULT_ADAPTER }: AdapterOptions = {},
): Promise<void> {
  const source = await openFolder(where);
  const config: AdapterConfig = await readJson(source, "adapter_config.json");
  if (config.peft_type !== "LORA" || (config.bias ?? "none") !== "none") {
    throw new Error(
      `${source.location}: only LORA adapters without bias are supported, not ${config.peft_type} with bias ${config.bias}`,
    );
  }
  for (const key of unsupported) {
    const value = config[key];
    if (value && (typeof value !== "object" || Object.keys(value).length > 0))
      throw new Error(`${source.location}: adapter_config.json: ${key} ${JSON.stringify(value)} is not supported`);
  }
  const file = await openEither(source, ADAPTER);
  if (!file) throw new Error(`${source.location}: expected ${formats.map((format) => ADAPTER + format).join(" or ")}`);
  const known = new Set(Array.from(adaptableLayers(model), ([host]) => host));
  const stored = new Map(file.names.map((key) => [resolve(key, model, known, file.fileOf(key)), key]));
  const layers = [
    ...new Set(Array.from(stored.keys(), (key) => key.replace(/^base_model\.model\.|\.lora_[AB]\.weight$/g, ""))),
  ];
  const { r, lora_alpha: alpha, lora_dropout: dropout = 0, use_rslora: rankStabilized = false } = config;
  checkShapes(file, stored, model, r, source.location);
  const full = await openEither(source, FULL);
  const whole = full ? fullOf(model, full) : [];
  addAdapter(model, name, layers, { r, alpha, dropout, rankStabilized });
  for (const [key, target] of Object.entries(loraStateDict(model, name)))
    setParameter(target, await file.read(stored.get(key)!));
  for (const [key, target] of whole) setParameter(target, await full!.read(key));
}

/** The file of this name in either format; undefined if there is none. */
async function openEither(source: FileSource, name: string): Promise<TensorFiles | undefined> {
  for (const format of formats)
    if ((await source.size(name + format)) !== undefined) return TensorFiles.open(source, name + format);
  return undefined;
}

/** A stored name in the spelling of `loraStateDict`. Prefixes differ by how the language model was wrapped. */
function resolve(key: string, model: Module, known: ReadonlySet<string>, where: string): string {
  const match = /^base_model\.model\.(.+)\.lora_([AB])(?:\.\w+)?\.weight$/.exec(key);
  const layer = match?.[1] ?? "";
  const found = [
    layer,
    ownName(model, layer),
    layer.replace(/^model\.language_model\./, "language_model.model."), // transformers 4.52 and later
    layer.replace(/^model\.layers\./, "language_model.model.layers."), // the original LLaVA
    layer.replace(/^model\./, ""),
  ].find((name) => known.has(name));
  if (!match || !found) throw new Error(`${where} has ${key}, which fits no Linear of the model`);
  return `base_model.model.${found}.lora_${match[2]}.weight`;
}

/** @throws if the tensors do not fit the model, before anything is changed. */
function checkShapes(
  file: TensorFiles,
  stored: ReadonlyMap<string, string>,
  model: Module,
  r: number,
  where: string,
): void {
  const problems: string[] = [];
  const layers = new Map(adaptableLayers(model));
  for (const [key, name] of stored) {
    const [, layer, which] = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(key)!;
    const { inFeatures, outFeatures } = layers.get(layer)!;
    const want = which === "A" ? [r, inFeatures] : [outFeatures, r];
    const { shape } = file.entry(name);
    if (String(shape) !== String(want)) problems.push(`${name} has shape [${shape}], expected [${want}]`);
    const other = key.replace(/lora_[AB]\.weight$/, `lora_${which === "A" ? "B" : "A"}.weight`);
    if (!stored.has(other)) problems.push(`missing ${other}`);
  }
  if (problems.length) throw new Error(`${where}: the adapter does not fit the model: ${problems.join("; ")}`);
}

/** The parameters that non_lora_trainables replaces, by their stored names. */
function fullOf(model: Module, file: TensorFiles): [string, Tensor][] {
  const own = model.stateDict();
  const problems: string[] = [];
  const found = file.names.flatMap((key): [string, Tensor][] => {
    // LLaVA wraps the names twice.
    const bare = key.replace(/^base_model\.model\./, "");
    const target = own[bare] ?? own[ownName(model, bare)];
    const { shape } = file.entry(key);
    if (!target) problems.push(`${key} is no tensor of the model`);
    else if (String(target.shape) !== String(shape))
      problems.push(`${key} has shape [${shape}], expected [${target.shape}]`);
    return target ? [[key, target]] : [];
  });
  if (problems.length) throw new Error(`${file.location}: ${FULL} does not fit the model: ${problems.join("; ")}`);
  return found;
}

/** Writes an adapter as a PEFT folder. Other parts that train go to non_lora_trainables.safetensors. */
export async function saveAdapter(
  model: Module,
  where: string | FileSource,
  { name = DEFAULT_ADAPTER, ...options }: WriteOptions & AdapterOptions = {},
): Promise<void> {
  const source = await openFolder(where);
  const layers = [...adaptedLayers(model)].filter(([, { lora }]) => lora.adapters.has(name));
  if (layers.length === 0) throw new Error(`saveAdapter: the model has no LoRA "${name}"`);
  const { r, alpha, dropout, rankStabilized } = layers[0][1].lora.adapters.get(name)!.options;
  const config: AdapterConfig = {
    peft_type: "LORA",
    r,
    lora_alpha: alpha,
    lora_dropout: dropout,
    use_rslora: rankStabilized,
    target_modules: layers.map(([layer]) => layer),
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
  };
  const whole = [...model.namedParameters()].filter(([key, t]) => t.requiresGrad && !/\.lora_[AB]$/.test(key));
  await saveSafetensors(source, `${ADAPTER}.safetensors`, entries(loraStateDict(model, name)), options);
  if (whole.length) await saveSafetensors(source, `${FULL}.safetensors`, entries(Object.fromEntries(whole)), options);
  await writeFile(source, "adapter_config.json", [jsonBytes(config)]);
}

const entries = (state: StateDict) =>
  Object.fromEntries(
    Object.entries(state).map(([key, t]) => [key, { shape: t.shape, dtype: t.dtype, read: () => t.data() }]),
  );
