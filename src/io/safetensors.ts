import type { DType, HostArray } from "../graph/dtype.ts";
import { numel, type Shape, show } from "../graph/shape.ts";
import { type FileSource, writeFile } from "./source.ts";
import { elementBytes, plainTypes, round16, type StoredType, storedBytes } from "./stored.ts";
import type { Entry, Header } from "./tensors.ts";

/**
 * Reads the table of a safetensors file.
 * @throws if the file is missing, truncated or inconsistent, or has a dtype that we do not know.
 */
export async function readSafetensors(source: FileSource, path: string): Promise<Header> {
  const where = `${source.location}/${path}`;
  const size = await source.size(path);
  if (size === undefined) throw new Error(`${where}: no such file`);
  if (size < 8)
    throw new Error(
      `${where} is not a safetensors file: it has ${size} bytes, and the length of the header alone takes 8`,
    );
  const head = await source.read(path, 0, 8);
  const length = Number(new DataView(head.buffer, head.byteOffset, 8).getBigUint64(0, true));
  if (length < 2 || 8 + length > size) {
    throw new Error(
      `${where} is truncated or no safetensors file: it gives its header ${length} bytes, and the file has ${size}`,
    );
  }
  const json = new TextDecoder().decode(await source.read(path, 8, 8 + length));
  let parsed: Record<string, any>;
  try {
    parsed = JSON.parse(json);
  } catch (error) {
    throw new Error(`${where}: the header is not valid JSON: ${(error as Error).message}`);
  }
  const { __metadata__: metadata = {}, ...tensors } = parsed;
  const entries = new Map<string, Entry>();
  for (const [name, info] of Object.entries(tensors))
    entries.set(name, checkEntry(where, name, info, 8 + length, size));
  checkOverlap(where, entries);
  return { metadata: metadata as Record<string, string>, entries };
}

/** The entry of a tensor, checked. Offsets in the header count from byte `base`; `size` is that of the file. */
function checkEntry(where: string, name: string, info: any, base: number, size: number): Entry {
  const { dtype, shape, data_offsets: offsets } = info ?? {};
  const isSize = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  if (
    !Array.isArray(shape) ||
    !shape.every(isSize) ||
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isSize)
  ) {
    throw new Error(`${where}: tensor ${name}: expected dtype, shape and data_offsets, got ${JSON.stringify(info)}`);
  }
  if (!plainTypes.includes(dtype)) {
    throw new Error(`${where}: tensor ${name} has dtype ${dtype}; known are ${plainTypes.join(" ")}`);
  }
  const [start, end] = [base + offsets[0], base + offsets[1]];
  const bytes = storedBytes(dtype, shape);
  if (end - start !== bytes)
    throw new Error(
      `${where}: tensor ${name}: ${dtype} ${show(shape)} takes ${bytes} bytes, the header gives ${end - start}`,
    );
  if (end > size) throw new Error(`${where} is truncated: tensor ${name} ends at byte ${end}, the file at ${size}`);
  return { dtype, shape, start, end };
}

/** @throws if two tensors share bytes. A damaged header could cause this, and plausible numbers would load. */
function checkOverlap(where: string, entries: ReadonlyMap<string, Entry>): void {
  const sorted = [...entries].filter(([, e]) => e.end > e.start).sort((a, b) => a[1].start - b[1].start);
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i][1].start < sorted[i - 1][1].end)
      throw new Error(`${where}: tensors ${sorted[i - 1][0]} and ${sorted[i][0]} overlap`);
  }
}

/** A tensor to write: values, or bytes that are written as is. */
export type WriteEntry = ValueEntry | StoredEntry;

/** Values to write. */
export interface ValueEntry {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Stored type of floats, if the options give none. Default F32. */
  readonly stored?: FloatType;
  /** Called when the tensor is written, so that only one tensor at a time is in memory. */
  readonly read: () => HostArray | Promise<HostArray>;
}

/** A tensor in its stored format, which no option changes. */
export interface StoredEntry {
  readonly shape: Shape;
  readonly stored: StoredType;
  readonly bytes: Uint8Array;
}

/** Stored types of floats that a writer can produce. */
export type FloatType = "F32" | "F16" | "BF16";

export interface WriteOptions {
  /** Stored type of floats, rounded to nearest even. Default: as they were loaded, else F32. Integers keep their type. */
  readonly float?: FloatType;
  /** Default { format: "pt" }, which transformers expects. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Writes one safetensors file, atomically.
 * @example await saveSafetensors(await openFolder("./out"), "model.safetensors", writeEntries(model.stateDict()))
 */
export async function saveSafetensors(
  source: FileSource,
  path: string,
  tensors: Readonly<Record<string, WriteEntry>>,
  options: WriteOptions = {},
): Promise<void> {
  await writeFile(source, path, safetensorsChunks(tensors, options));
}

/** The bytes of a safetensors file: the header, then one chunk per tensor. */
export async function* safetensorsChunks(
  tensors: Readonly<Record<string, WriteEntry>>,
  options: WriteOptions = {},
): AsyncGenerator<Uint8Array> {
  const { float, metadata = { format: "pt" } } = options;
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, tensor] of Object.entries(tensors)) {
    const { shape } = tensor;
    const stored = storedType(tensor, float);
    const end = offset + numel(shape) * elementBytes(stored);
    header[name] = { dtype: stored, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8; // aligns the data to 8 bytes, as other writers do
  const head = new Uint8Array(8 + padded).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(json, 8);
  yield head;
  for (const [name, tensor] of Object.entries(tensors)) yield encode(name, tensor, storedType(tensor, float));
}

/** The stored type of an entry. `float` overrides that of floats. */
export function storedType(entry: WriteEntry, float?: FloatType): StoredType {
  if ("bytes" in entry) return entry.stored;
  const { dtype, stored = "F32" } = entry;
  if (dtype === "i32") return "I32";
  if (dtype === "u32") return "U32";
  return dtype === "bool" ? "BOOL" : (float ?? stored);
}

/** The bytes of an entry in a stored type. */
export async function encode(name: string, entry: WriteEntry, stored: StoredType): Promise<Uint8Array> {
  if ("bytes" in entry) return entry.bytes;
  const { shape, read } = entry;
  const data = await read();
  if (data.length !== numel(shape))
    throw new Error(`tensor ${name}: got ${data.length} values for shape ${show(shape)}, expected ${numel(shape)}`);
  if (stored === "F16" || stored === "BF16") return new Uint8Array(round16(data, stored).buffer);
  if (stored === "BOOL") return Uint8Array.from(data, (x) => (x ? 1 : 0));
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
