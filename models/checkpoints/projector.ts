/** LLaVA's projector alone, the result of its first stage: mm_projector.bin or .safetensors. */
import {
  type FileSource,
  openFolder,
  saveSafetensors,
  saveTorch,
  TensorFiles,
  type WriteOptions,
  writeEntries,
} from "../../src/io/index.ts";
import { setParameter } from "../../src/nn/index.ts";
import type { Llava } from "../llava.ts";
import { originalProjector } from "./llava.ts";

export const PROJECTOR_FILE = "mm_projector.safetensors";
const files = [PROJECTOR_FILE, "mm_projector.bin"] as const;

export interface ProjectorFileOptions extends Pick<WriteOptions, "float"> {
  /** "bin" is what the original LLaVA reads. Default "safetensors". */
  readonly format?: "safetensors" | "bin";
}

/** Writes mm_projector.safetensors or mm_projector.bin into a folder. */
export async function saveProjector(
  model: Llava,
  where: string | FileSource,
  { format = "safetensors", float }: ProjectorFileOptions = {},
): Promise<void> {
  const source = await openFolder(where);
  const entries = Object.fromEntries(
    originalProjector(model).map(([name, t]) => [name, Object.values(writeEntries({ [name]: t }))[0]]), // keeps the float type
  );
  if (format === "bin") await saveTorch(source, files[1], entries, { float });
  else await saveSafetensors(source, files[0], entries, { float });
}

/**
 * Replaces the projector of a model by that of a folder, or of its file `name`. A longer path before `mm_projector` in the
 * names is ignored.
 * @throws if a tensor is missing, unexpected or of another shape; the model is then as before
 */
export async function loadProjector(model: Llava, where: string | FileSource, name?: string): Promise<void> {
  const source = await openFolder(where);
  const names = name === undefined ? files : [name];
  const sizes = await Promise.all(names.map((path) => source.size(path)));
  const path = names.find((_, i) => sizes[i] !== undefined);
  if (!path) throw new Error(`${source.location}: expected ${names.join(" or ")}`);
  const file = await TensorFiles.open(source, path);
  const stored = new Map(file.names.map((name) => [name.replace(/^.*?mm_projector\./, "model.mm_projector."), name]));
  const own = originalProjector(model);
  const problems = own.flatMap(([name, { shape }]) => {
    const from = stored.get(name);
    if (!from && name === "model.image_newline") return []; // LLaVA's first stage has none
    if (!from) return [`missing ${name} [${shape}]`];
    const found = file.entry(from).shape;
    return String(found) === String(shape) ? [] : [`${from} has shape [${found}], expected [${shape}]`];
  });
  for (const name of stored.keys()) if (!own.some(([known]) => known === name)) problems.push(`unexpected ${name}`);
  if (problems.length)
    throw new Error(`${source.location}/${path}: the projector does not fit the model: ${problems.join("; ")}`);
  for (const [name, tensor] of own) if (stored.has(name)) setParameter(tensor, await file.read(stored.get(name)!));
}
