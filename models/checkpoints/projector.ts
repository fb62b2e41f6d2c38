/** The projector alone, as LLaVA's first stage leaves it: mm_projector.bin or .safetensors with `model.mm_projector.*`. */

import {
  type FileSource,
  noteOrigin,
  openFolder,
  saveSafetensors,
  saveTorch,
  TensorFiles,
  type WriteOptions,
  writeEntries,
} from "../../src/io/index.ts";
import { setParameter } from "../../src/nn/index.ts";
import type { Llava } from "../llava.ts";

export const PROJECTOR_FILE = "mm_projector.safetensors";
const files = [PROJECTOR_FILE, "mm_projector.bin"] as const;

const NEWLINE = "model.image_newline";

export interface ProjectorFileOptions extends Pick<WriteOptions, "float"> {
  /** "bin" is what the original LLaVA reads. Default "safetensors". */
  readonly format?: "safetensors" | "bin";
}

/** The parameters of a projector, and of the newline where there is one, under the names of the original LLaVA. */
function originalNames(model: Llava) {
  const linear = Object.keys(model.multi_modal_projector.stateDict()).every((name) => !name.startsWith("linear_2"));
  const layers = Object.entries(model.multi_modal_projector.stateDict()).map(([name, tensor]) => {
    const [, n, rest] = /^linear_(\d+)\.(.*)$/.exec(name)!;
    return [`model.mm_projector.${linear ? "" : `${2 * (Number(n) - 1)}.`}${rest}`, tensor] as const;
  });
  return model.image_newline ? [...layers, [NEWLINE, model.image_newline] as const] : layers;
}

/** Notes that a new projector is saved under the original names. */
export function noteProjectorNames(model: Llava): void {
  for (const [name, tensor] of originalNames(model)) noteOrigin(tensor, name, "F32");
}

/** Writes mm_projector.safetensors or mm_projector.bin into a folder. */
export async function saveProjector(
  model: Llava,
  where: string | FileSource,
  { format = "safetensors", float }: ProjectorFileOptions = {},
): Promise<void> {
  const source = await openFolder(where);
  const entries = Object.fromEntries(
    originalNames(model).map(([name, t]) => [name, Object.values(writeEntries({ [name]: t }))[0]]), // keeps the float type
  );
  if (format === "bin") await saveTorch(source, files[1], entries, { float });
  else await saveSafetensors(source, files[0], entries, { float });
}

/**
 * Replaces the projector of a model by that of a folder, or of its file `name`. Names from a longer path are accepted up to
 * `mm_projector`.
 */
export async function loadProjector(model: Llava, where: string | FileSource, name?: string): Promise<void> {
  const source = await openFolder(where);
  const names = name === undefined ? files : [name];
  const sizes = await Promise.all(names.map((path) => source.size(path)));
  const path = names.find((_, i) => sizes[i] !== undefined);
  if (!path) throw new Error(`${source.location}: expected ${names.join(" or ")}`);
  const file = await TensorFiles.open(source, path);
  const stored = new Map(file.names.map((name) => [name.replace(/^.*?mm_projector\./, "model.mm_projector."), name]));
  const own = originalNames(model);
  const problems = own.flatMap(([name, { shape }]) => {
    const from = stored.get(name);
    if (!from && name === NEWLINE) return []; // LLaVA's first stage has none
    if (!from) return [`missing ${name} [${shape}]`];
    const found = file.entry(from).shape;
    return String(found) === String(shape) ? [] : [`${from} has shape [${found}], expected [${shape}]`];
  });
  for (const name of stored.keys()) if (!own.some(([known]) => known === name)) problems.push(`unexpected ${name}`);
  if (problems.length)
    throw new Error(`${source.location}/${path}: the projector does not fit the model: ${problems.join("; ")}`);
  for (const [name, tensor] of own) if (stored.has(name)) setParameter(tensor, await file.read(stored.get(name)!));
}
