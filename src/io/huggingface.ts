import type { DType } from "../dtype.ts";
import { numel, type Shape } from "../shape.ts";
import { Safetensors, saveSafetensors, type WriteEntry, type WriteOptions } from "./safetensors.ts";
import { type FileSource, jsonBytes, readJson, writeFile } from "./source.ts";

/** A folder in the layout of Hugging Face: config.json and model.safetensors, or shards with an index. */
export interface Checkpoint {
  readonly config: any;
  readonly tensors: Safetensors;
}

export async function openCheckpoint(source: FileSource): Promise<Checkpoint> {
  if ((await source.size("config.json")) === undefined) throw new Error(`${source.location}: no config.json there`);
  return { config: await readJson(source, "config.json"), tensors: await openWeights(source) };
}

/** The weights of a folder without its config. */
export async function openWeights(source: FileSource): Promise<Safetensors> {
  for (const path of ["model.safetensors", "model.safetensors.index.json"]) {
    if ((await source.size(path)) !== undefined) return Safetensors.open(source, path);
  }
  throw new Error(`${source.location}: expected model.safetensors or model.safetensors.index.json with its shards`);
}

export interface SaveOptions extends WriteOptions {
  /** Files grow to at most this many bytes, a single larger tensor apart. Default 4 GiB. */
  readonly maxShardBytes?: number;
}

/** Tensors to save: anything that has a shape and can be read. */
export type Saveable = Readonly<
  Record<string, { readonly shape: Shape; readonly dtype: DType; data(): Promise<WriteData> }>
>;
type WriteData = Awaited<ReturnType<WriteEntry["read"]>>;

/** Writes config.json and the weights. The config comes last, so a folder with a config is complete. */
export async function saveCheckpoint(
  source: FileSource,
  config: object,
  state: Saveable,
  options: SaveOptions = {},
): Promise<void> {
  const { maxShardBytes = 2 ** 32, ...write } = options;
  const width = write.float && write.float !== "F32" ? 2 : 4;
  const shards: Record<string, WriteEntry>[] = [{}];
  let bytes = 0;
  let total = 0;
  for (const [name, tensor] of Object.entries(state)) {
    const size = numel(tensor.shape) * width;
    if (bytes > 0 && bytes + size > maxShardBytes) {
      shards.push({});
      bytes = 0;
    }
    shards[shards.length - 1][name] = { shape: tensor.shape, dtype: tensor.dtype, read: () => tensor.data() };
    bytes += size;
    total += size;
  }
  if (shards.length === 1) {
    await saveSafetensors(source, "model.safetensors", shards[0], write);
  } else {
    const digits = (n: number) => String(n).padStart(5, "0");
    const weightMap: Record<string, string> = {};
    for (const [i, shard] of shards.entries()) {
      const file = `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`;
      await saveSafetensors(source, file, shard, write);
      for (const name of Object.keys(shard)) weightMap[name] = file;
    }
    await writeFile(source, "model.safetensors.index.json", [
      jsonBytes({ metadata: { total_size: total }, weight_map: weightMap }),
    ]);
  }
  await writeFile(source, "config.json", [jsonBytes(config)]);
}
