import "../tensor/methods/index.ts";

import type { HostArray } from "../graph/dtype.ts";
import { tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Saveable, writeEntries } from "./huggingface.ts";
import { saveSafetensors } from "./safetensors.ts";
import { type FileSource, openFolder } from "./source.ts";
import { TensorFiles } from "./tensors.ts";
import { saveTorch } from "./torch.ts";

/** Folder and name of a path or URL; of a name in `folder` if that is given. */
async function split(path: string, folder?: FileSource): Promise<[FileSource, string]> {
  if (folder) return [folder, path];
  const slash = path.search(/[/\\][^/\\]*$/);
  if (slash < 0) return [await openFolder("."), path];
  return [await openFolder(slash === 0 ? "/" : path.slice(0, slash)), path.slice(slash + 1)];
}

/**
 * Writes tensors by name to one file, whole or not at all: safetensors, or PyTorch's format for .pt, .pth and .bin. f16 stays
 * f16.
 * @param path a path on disk, or with `folder` a name in it
 * @example await save(model.stateDict(), "model.safetensors")
 */
export async function save(
  tensors: Readonly<Record<string, Tensor>>,
  path: string,
  { folder, metadata }: { folder?: FileSource; metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  if (!/\.(safetensors|pt|pth|bin)$/.test(path))
    throw new Error(`save: ${path}: expected a name that ends in .safetensors, .pt, .pth or .bin`);
  const entries = writeEntries(tensors as Saveable);
  for (const [name, entry] of Object.entries(entries))
    if (!("bytes" in entry) && tensors[name]?.dtype === "f16") entries[name] = { ...entry, stored: "F16" };
  const [source, file] = await split(path, folder);
  if (file.endsWith(".safetensors")) await saveSafetensors(source, file, entries, { metadata });
  else await saveTorch(source, file, entries);
}

/**
 * Reads all tensors of a file by name: .safetensors, .pt, .pth, .bin, .gguf, or an .index.json that lists shards. F16 becomes
 * f16, other floats f32.
 * @param path a path on disk or a URL, or with `folder` a name in it
 * @example model.loadStateDict(await load("model.safetensors"))
 */
export async function load(path: string, { folder }: { folder?: FileSource } = {}): Promise<Record<string, Tensor>> {
  const [source, file] = await split(path, folder);
  const tensors = await TensorFiles.open(source, file);
  const found: Record<string, Tensor> = {};
  for (const name of tensors.names) {
    const { data, shape, dtype } = await tensors.read(name);
    const value = tensor(data as HostArray, { shape, dtype });
    found[name] = tensors.entry(name).dtype === "F16" ? value.half() : value;
  }
  return found;
}
