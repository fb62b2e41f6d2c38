import type { DType } from "../graph/dtype.ts";
import { numel, type Shape } from "../graph/shape.ts";
import { pathInside } from "../runtime/path.ts";
import {
  type FloatType,
  type StoredEntry,
  safetensorsChunks,
  storedType,
  type ValueEntry,
  type WriteEntry,
  type WriteOptions,
} from "./safetensors.ts";
import { type ByteChunks, type FileSource, jsonBytes, readJson, replaceFiles } from "./source.ts";
import { elementBytes, type StoredType } from "./stored.ts";
import { TensorFiles } from "./tensors.ts";

/** A folder in the layout of Hugging Face: config.json, and the weights in one file or in shards with an index. */
export interface Checkpoint {
  /** Parsed config.json. */
  readonly config: any;
  readonly tensors: TensorFiles;
}

/**
 * Opens a checkpoint folder. Reads the config and the tables of the weights, no tensors yet.
 * @example const { config, tensors } = await openCheckpoint(await openFolder("./vicuna-7b"))
 * @throws if config.json or the weights are missing.
 */
export async function openCheckpoint(source: FileSource): Promise<Checkpoint> {
  if ((await source.size("config.json")) === undefined)
    throw new Error(`${source.location}: no config.json there; expected the folder of a checkpoint`);
  return { config: await readJson(source, "config.json"), tensors: await openWeights(source) };
}

/** File names of weights. The first that exists is read. */
const weightFiles = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
];

/**
 * Opens the weights of a folder, which needs no config.json.
 * @throws if the folder has no file of weights.
 */
export async function openWeights(source: FileSource): Promise<TensorFiles> {
  for (const path of weightFiles) if ((await source.size(path)) !== undefined) return TensorFiles.open(source, path);
  throw new Error(`${source.location}: expected weights: one of ${weightFiles.join(", ")}`);
}

export interface SaveOptions extends WriteOptions {
  /** Largest file, in bytes, unless a single tensor is larger. Default 4 GiB. */
  readonly maxShardBytes?: number;
  /** A folder whose tokenizer, generation and preprocessor files are copied. */
  readonly companions?: FileSource;
}

/** Tensors to save by name: anything with a shape, a dtype and readable values, or bytes in a stored format. */
export type Saveable = Readonly<
  Record<string, { readonly shape: Shape; readonly dtype: DType; data(): Promise<WriteData> } | StoredEntry>
>;
type WriteData = Awaited<ReturnType<ValueEntry["read"]>>;

/** Name and stored type of a tensor in the file it was loaded from. A save uses them again. */
interface Origin {
  readonly name: string;
  readonly type?: FloatType;
}
const origins = new WeakMap<object, Origin>();

/** Records the name and the stored type under which `tensor` was loaded. `saveCheckpoint` uses them again. */
export function noteOrigin(tensor: object, name: string, type: StoredType): void {
  origins.set(tensor, { name, type: type === "F32" || type === "F16" || type === "BF16" ? type : undefined });
}

/** Records that `copy` is saved as `tensor` would be. */
export function copyOrigin(tensor: object, copy: object): void {
  const origin = origins.get(tensor);
  if (origin) origins.set(copy, origin);
}

/** The entries to write for a state: under the name in the file that a tensor came from, if there is one, else its own. */
export const writeEntries = (state: Saveable): Record<string, WriteEntry> =>
  Object.fromEntries(
    Object.entries(state).map(([name, tensor]) => {
      const origin = origins.get(tensor);
      const entry = (): WriteEntry =>
        "bytes" in tensor
          ? tensor
          : { shape: tensor.shape, dtype: tensor.dtype, stored: origin?.type, read: () => tensor.data() };
      return [origin?.name ?? name, entry()];
    }),
  );

/** Files of a checkpoint folder that describe how to use the model. */
const companionFiles = [
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
  "preprocessor_config.json",
  "processor_config.json",
];

const torchTypes: Record<FloatType, string> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/**
 * Writes config.json and the weights, and removes weights that an earlier save left under other names. All new files are complete
 * before the first old one is replaced.
 * @example await saveCheckpoint(await openFolder("./out"), config, model.stateDict(), { float: "F16" })
 */
export async function saveCheckpoint(
  source: FileSource,
  config: object,
  state: Saveable,
  options: SaveOptions = {},
): Promise<void> {
  const { maxShardBytes = 2 ** 32, companions, ...write } = options;
  const { shards, total } = shardsFor(writeEntries(state), maxShardBytes, write.float);
  const digits = (n: number) => String(n).padStart(5, "0");
  const named = (i: number) =>
    shards.length === 1 ? weightFiles[0] : `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`;
  const files: [string, () => ByteChunks][] = shards.map((shard, i) => [
    named(i),
    () => safetensorsChunks(shard, write),
  ]);
  if (shards.length > 1) {
    const weightMap = shards.flatMap((shard, i) => Object.keys(shard).map((name) => [name, named(i)]));
    const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(weightMap) };
    files.push([weightFiles[1], () => [jsonBytes(index)]]);
  }
  for (const path of companions ? companionFiles : []) {
    if ((await companions!.size(path)) === undefined) continue;
    const content = await companions!.read(path);
    files.push([path, () => [content]]);
  }
  const typed = write.float && "torch_dtype" in config ? { ...config, torch_dtype: torchTypes[write.float] } : config;
  files.push(["config.json", () => [jsonBytes(typed)]]);
  await replaceFiles(source, files, await staleWeights(source, new Set(files.map(([path]) => path))));
}

/** Distributes tensors, in order, over files of at most `maxShardBytes`. `total` counts the bytes of all tensors. */
function shardsFor(
  entries: Readonly<Record<string, WriteEntry>>,
  maxShardBytes: number,
  float: FloatType | undefined,
): { shards: Record<string, WriteEntry>[]; total: number } {
  const shards: Record<string, WriteEntry>[] = [{}];
  let bytes = 0;
  let total = 0;
  for (const [name, entry] of Object.entries(entries)) {
    const size = numel(entry.shape) * elementBytes(storedType(entry, float));
    if (bytes > 0 && bytes + size > maxShardBytes) {
      shards.push({});
      bytes = 0;
    }
    shards[shards.length - 1][name] = entry;
    bytes += size;
    total += size;
  }
  return { shards, total };
}

/** Weights of an earlier save under other names. If they stayed, a reader could find them before the new ones. */
async function staleWeights(source: FileSource, newFiles: ReadonlySet<string>): Promise<string[]> {
  const stale = new Set<string>();
  for (const path of weightFiles) {
    if ((await source.size(path)) === undefined) continue;
    if (!newFiles.has(path)) stale.add(path);
    if (path.endsWith(".index.json")) for (const shard of await shardsOf(source, path)) stale.add(shard);
  }
  const written = new Set(Array.from(newFiles, (path) => path.toLowerCase())); // file systems may ignore case
  return [...stale].filter((path) => !written.has(path.toLowerCase()));
}

/** The weight files inside the folder that an old index lists. Files outside or of other kinds must not be removed. */
async function shardsOf(source: FileSource, path: string): Promise<string[]> {
  const index = await readJson(source, path).catch(() => undefined); // a damaged index is replaced too
  const shards: string[] = [];
  for (const file of new Set(Object.values(index?.weight_map ?? {}))) {
    const shard = pathInside(file);
    if (shard && /\.(safetensors|bin)$/.test(shard) && (await source.size(shard)) !== undefined) shards.push(shard);
  }
  return shards;
}
