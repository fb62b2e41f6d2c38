import { type DType, fromBfloat16, fromHalf, type HostArray, toBfloat16, toHalf } from "../dtype.ts";
import { numel, type Shape, show } from "../shape.ts";
import { type FileSource, readJson, writeFile } from "./source.ts";

/** Values of a tensor on the host. */
export interface HostTensor {
  readonly data: HostArray;
  readonly shape: Shape;
  readonly dtype: DType;
}

export type StoredType = keyof typeof formats;

/** Where a tensor lies in a file. `start` and `end` count bytes from the beginning of the file. */
export interface Entry {
  readonly dtype: StoredType;
  readonly shape: Shape;
  readonly start: number;
  readonly end: number;
}

/** Stored types: bytes per element, the dtype they load as, and how one element is read. */
const formats = {
  F64: { bytes: 8, as: "f32", get: (v: DataView, i: number) => v.getFloat64(i, true) },
  F32: { bytes: 4, as: "f32", get: (v: DataView, i: number) => v.getFloat32(i, true) },
  F16: { bytes: 2, as: "f32", get: (v: DataView, i: number) => fromHalf(v.getUint16(i, true)) },
  BF16: { bytes: 2, as: "f32", get: (v: DataView, i: number) => fromBfloat16(v.getUint16(i, true)) },
  I64: { bytes: 8, as: "i32", get: (v: DataView, i: number) => Number(v.getBigInt64(i, true)) },
  U64: { bytes: 8, as: "u32", get: (v: DataView, i: number) => Number(v.getBigUint64(i, true)) },
  I32: { bytes: 4, as: "i32", get: (v: DataView, i: number) => v.getInt32(i, true) },
  U32: { bytes: 4, as: "u32", get: (v: DataView, i: number) => v.getUint32(i, true) },
  I16: { bytes: 2, as: "i32", get: (v: DataView, i: number) => v.getInt16(i, true) },
  U16: { bytes: 2, as: "u32", get: (v: DataView, i: number) => v.getUint16(i, true) },
  I8: { bytes: 1, as: "i32", get: (v: DataView, i: number) => v.getInt8(i) },
  U8: { bytes: 1, as: "u32", get: (v: DataView, i: number) => v.getUint8(i) },
  BOOL: { bytes: 1, as: "bool", get: (v: DataView, i: number) => (v.getUint8(i) ? 1 : 0) },
} as const satisfies Record<string, { bytes: number; as: DType; get: (view: DataView, at: number) => number }>;

/**
 * Tensors of one safetensors file, or of several with an index. Only headers are read at first;
 * each tensor's bytes are read when asked for.
 */
export class Safetensors {
  private constructor(
    private readonly source: FileSource,
    private readonly table: ReadonlyMap<string, { file: string; entry: Entry }>,
    readonly metadata: Readonly<Record<string, string>>,
  ) {}

  /** Opens `path`, a `.safetensors` file or a `.safetensors.index.json` that lists shards. */
  static async open(source: FileSource, path: string): Promise<Safetensors> {
    const table = new Map<string, { file: string; entry: Entry }>();
    let metadata: Record<string, string> = {};
    const add = async (file: string, wanted?: ReadonlySet<string>) => {
      const header = await readHeader(source, file);
      for (const [name, entry] of header.entries) {
        if (!wanted || wanted.has(name)) table.set(name, { file, entry });
      }
      metadata = { ...metadata, ...header.metadata };
    };
    if (!path.endsWith(".index.json")) {
      await add(path);
      return new Safetensors(source, table, metadata);
    }
    const weightMap = (await readJson(source, path)).weight_map as Record<string, string> | undefined;
    if (!weightMap) throw new Error(`${source.location}/${path}: expected a "weight_map" from tensor names to files`);
    for (const file of new Set(Object.values(weightMap))) {
      await add(file, new Set(Object.keys(weightMap).filter((name) => weightMap[name] === file)));
    }
    const missing = Object.keys(weightMap).filter((name) => !table.has(name));
    if (missing.length)
      throw new Error(`${source.location}/${path}: not in the file it is listed for: ${missing.join(", ")}`);
    return new Safetensors(source, table, metadata);
  }

  get names(): string[] {
    return [...this.table.keys()];
  }

  has(name: string): boolean {
    return this.table.has(name);
  }

  entry(name: string): Entry {
    return this.locate(name).entry;
  }

  /** The stored bytes of one tensor, little-endian, as the file has them. */
  async bytes(name: string): Promise<Uint8Array> {
    const { file, entry } = this.locate(name);
    const bytes = await this.source.read(file, entry.start, entry.end);
    if (bytes.byteLength !== entry.end - entry.start) {
      throw new Error(
        `${this.source.location}/${file}: tensor ${name}: got ${bytes.byteLength} of ${entry.end - entry.start} bytes`,
      );
    }
    return bytes;
  }

  /** Reads one tensor; f16, bf16 and f64 come as f32, integers as i32 or u32 (out of their range is an error). */
  async read(name: string): Promise<HostTensor> {
    const { entry } = this.locate(name);
    const data = decode(await this.bytes(name), entry, name);
    return { data, shape: entry.shape, dtype: formats[entry.dtype].as };
  }

  private locate(name: string) {
    const found = this.table.get(name);
    if (!found)
      throw new Error(
        `${this.source.location}: there is no tensor ${name}; there are ${this.names.slice(0, 8).join(", ")}, …`,
      );
    return found;
  }
}

function decode(bytes: Uint8Array, { dtype, shape }: Entry, name: string): HostArray {
  const count = numel(shape);
  const format = formats[dtype];
  // The common types need no loop per element, only an aligned copy.
  const aligned = () => bytes.slice().buffer;
  if (dtype === "F32") return new Float32Array(aligned());
  if (dtype === "I32") return new Int32Array(aligned());
  if (dtype === "U32") return new Uint32Array(aligned());
  if (dtype === "BF16") {
    const halves = new Uint16Array(aligned());
    const words = new Uint32Array(count);
    for (let i = 0; i < count; i++) words[i] = halves[i] << 16;
    return new Float32Array(words.buffer);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out =
    format.as === "f32"
      ? new Float32Array(count)
      : format.as === "i32"
        ? new Int32Array(count)
        : new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const value = format.get(view, i * format.bytes);
    out[i] = value;
    if (format.as !== "f32" && out[i] !== value) {
      throw new RangeError(`tensor ${name}: ${value} at index ${i} (stored as ${dtype}) does not fit ${format.as}`);
    }
  }
  return out;
}

async function readHeader(source: FileSource, path: string) {
  const where = `${source.location}/${path}`;
  const size = await source.size(path);
  if (size === undefined) throw new Error(`${where}: no such file`);
  if (size < 8)
    throw new Error(`${where} is not a safetensors file: it has ${size} bytes, a header length alone takes 8`);
  const head = await source.read(path, 0, 8);
  const length = Number(new DataView(head.buffer, head.byteOffset, 8).getBigUint64(0, true));
  if (length < 2 || 8 + length > size) {
    throw new Error(`${where} is truncated or no safetensors file: header of ${length} bytes in a file of ${size}`);
  }
  const text = new TextDecoder().decode(await source.read(path, 8, 8 + length));
  let parsed: Record<string, any>;
  try {
    parsed = JSON.parse(text);
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
  if (!(dtype in formats)) {
    throw new Error(`${where}: tensor ${name} has dtype ${dtype}; known are ${Object.keys(formats).join(" ")}`);
  }
  const [start, end] = [base + offsets[0], base + offsets[1]];
  const bytes = numel(shape) * formats[dtype as StoredType].bytes;
  if (end - start !== bytes)
    throw new Error(
      `${where}: tensor ${name}: ${dtype} ${show(shape)} takes ${bytes} bytes, the header gives ${end - start}`,
    );
  if (end > size) throw new Error(`${where} is truncated: tensor ${name} ends at byte ${end}, the file at ${size}`);
  return { dtype, shape, start, end };
}

/** A corrupt header may let two tensors share bytes, which would load as plausible numbers. */
function checkOverlap(where: string, entries: ReadonlyMap<string, Entry>): void {
  const sorted = [...entries].filter(([, e]) => e.end > e.start).sort((a, b) => a[1].start - b[1].start);
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i][1].start < sorted[i - 1][1].end)
      throw new Error(`${where}: tensors ${sorted[i - 1][0]} and ${sorted[i][0]} overlap`);
  }
}

/** A tensor to write; `read` is called when its turn comes, so that one tensor at a time is in memory. */
export interface WriteEntry {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly read: () => HostArray | Promise<HostArray>;
}

export interface WriteOptions {
  /** How floats are stored: F32 (default), F16 or BF16, rounded to nearest even. Integers keep their type. */
  readonly float?: "F32" | "F16" | "BF16";
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Writes one safetensors file, atomically. */
export async function saveSafetensors(
  source: FileSource,
  path: string,
  tensors: Readonly<Record<string, WriteEntry>>,
  options: WriteOptions = {},
): Promise<void> {
  const { float = "F32", metadata = { format: "pt" } } = options;
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, dtype }] of Object.entries(tensors)) {
    const stored = storedType(dtype, float);
    const end = offset + numel(shape) * formats[stored].bytes;
    header[name] = { dtype: stored, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(text.length / 8) * 8; // data start aligned, as other writers do
  const head = new Uint8Array(8 + padded).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(text, 8);
  async function* chunks() {
    yield head;
    for (const [name, { shape, dtype, read }] of Object.entries(tensors)) {
      const data = await read();
      if (data.length !== numel(shape))
        throw new Error(`saveSafetensors: ${name}: ${data.length} values for shape ${show(shape)}`);
      yield encode(data, storedType(dtype, float));
    }
  }
  await writeFile(source, path, chunks());
}

function storedType(dtype: DType, float: "F32" | "F16" | "BF16"): StoredType {
  if (dtype === "i32") return "I32";
  if (dtype === "u32") return "U32";
  return dtype === "bool" ? "BOOL" : float;
}

function encode(data: HostArray, stored: StoredType): Uint8Array {
  if (stored === "F16" || stored === "BF16") {
    const round = stored === "F16" ? toHalf : toBfloat16;
    const out = new Uint16Array(data.length);
    for (let i = 0; i < data.length; i++) out[i] = round(data[i]);
    return new Uint8Array(out.buffer);
  }
  if (stored === "BOOL") return Uint8Array.from(data, (x) => (x ? 1 : 0));
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
