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

/** A folder in the layout of Hugging Face: config.json and the weights, in one file or in shards with an index. */
export interface Checkpoint {
  readonly config: any;
  readonly tensors: TensorFiles;
}

export async function openCheckpoint(source: FileSource): Promise<Checkpoint> {
  if ((await source.size("config.json")) === undefined) throw new Error(`${source.location}: no config.json there`);
  return { config: await readJson(source, "config.json"), tensors: await openWeights(source) };
}

/** Where weights are looked for, the best first. */
const weightFiles = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
];

/** The weights of a folder without its config. */
export async function openWeights(source: FileSource): Promise<TensorFiles> {
  for (const path of weightFiles) if ((await source.size(path)) !== undefined) return TensorFiles.open(source, path);
  throw new Error(`${source.location}: expected weights: one of ${weightFiles.join(", ")}`);
}

export interface SaveOptions extends WriteOptions {
  /** Files grow to at most this many bytes, a single larger tensor apart. Default 4 GiB. */
  readonly maxShardBytes?: number;
  /** A folder whose tokenizer, generation and preprocessor files are written too. */
  readonly companions?: FileSource;
}

/** Tensors to save: anything that has a shape and can be read, and bytes of other files. */
export type Saveable = Readonly<
  Record<string, { readonly shape: Shape; readonly dtype: DType; data(): Promise<WriteData> } | StoredEntry>
>;
type WriteData = Awaited<ReturnType<ValueEntry["read"]>>;

/** How a tensor was stored in the file that it came from: it is written so again. */
interface Origin {
  readonly name: string;
  readonly type?: FloatType;
}
const origins = new WeakMap<object, Origin>();

/** Notes under which name and how a tensor was stored. */
export function noteOrigin(tensor: object, name: string, type: StoredType): void {
  origins.set(tensor, { name, type: type === "F32" || type === "F16" || type === "BF16" ? type : undefined });
}

/** Notes that `copy` stands for `tensor` when it is saved. */
export function copyOrigin(tensor: object, copy: object): void {
  const origin = origins.get(tensor);
  if (origin) origins.set(copy, origin);
}

/** Tensors as a writer takes them, under the names of the file that they came from, else their own. */
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

/** Files of a checkpoint folder that say how its model is used. */
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
 * Writes config.json and the weights, and removes weights that an earlier save left under other names. All files are
 * complete before the first of the old ones is replaced.
 */
export async function saveCheckpoint(
  source: FileSource,
  config: object,
  state: Saveable,
  options: SaveOptions = {},
): Promise<void> {
  const { maxShardBytes = 2 ** 32, companions, ...write } = options;
  const shards: Record<string, WriteEntry>[] = [{}];
  let bytes = 0;
  let total = 0;
  for (const [name, entry] of Object.entries(writeEntries(state))) {
    const size = numel(entry.shape) * elementBytes(storedType(entry, write.float));
    if (bytes > 0 && bytes + size > maxShardBytes) {
      shards.push({});
      bytes = 0;
    }
    shards[shards.length - 1][name] = entry;
    bytes += size;
    total += size;
  }
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

/** Weights in a folder that a save under other names would leave behind, to be read in place of the new ones. */
async function staleWeights(source: FileSource, fresh: ReadonlySet<string>): Promise<string[]> {
  const stale = new Set<string>();
  for (const path of weightFiles) {
    if ((await source.size(path)) === undefined) continue;
    if (!fresh.has(path)) stale.add(path);
    if (path.endsWith(".index.json")) for (const shard of await shardsOf(source, path)) stale.add(shard);
  }
  const written = new Set(Array.from(fresh, (path) => path.toLowerCase())); // some file systems ignore case
  return [...stale].filter((path) => !written.has(path.toLowerCase()));
}

/** Files of weights in the folder that an old index lists. What it names elsewhere, or of another kind, is not ours to remove. */
async function shardsOf(source: FileSource, path: string): Promise<string[]> {
  const index = await readJson(source, path).catch(() => undefined); // a broken index is replaced like any other
  const shards: string[] = [];
  for (const file of new Set(Object.values(index?.weight_map ?? {}))) {
    const shard = pathInside(file);
    if (shard && /\.(safetensors|bin)$/.test(shard) && (await source.size(shard)) !== undefined) shards.push(shard);
  }
  return shards;
}
