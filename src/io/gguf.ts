/** Reads GGUF files (llama.cpp), versions 2 and 3: metadata, then a table of tensors, then their data. */
import { numel, show } from "../graph/shape.ts";
import type { FileSource } from "./source.ts";
import { type StoredType, storedBytes } from "./stored.ts";
import type { Entry, Header } from "./tensors.ts";

/** Stored types by their number in ggml. */
const types: Readonly<Record<number, StoredType>> = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  6: "Q5_0",
  7: "Q5_1",
  8: "Q8_0",
  12: "Q4_K",
  13: "Q5_K",
  14: "Q6_K",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  30: "BF16",
};

const FIRST_READ = 1 << 20; // bytes; four times as many per further try

/** `Reader` needs more bytes than it has. */
class NeedsMoreBytes extends Error {}

/**
 * Reads the metadata and the table of a GGUF file. GGUF lists the fastest dim first; shapes here are row-major.
 * @throws if the file is missing, truncated or no GGUF file, or has a stored type that we do not know.
 */
export async function readGguf(source: FileSource, path: string): Promise<Header> {
  const where = `${source.location}/${path}`;
  const size = await source.size(path);
  if (size === undefined) throw new Error(`${where}: no such file`);
  for (let length = FIRST_READ; ; length *= 4) {
    const bytes = await source.read(path, 0, Math.min(length, size));
    try {
      return parse(new Reader(bytes), where, size);
    } catch (error) {
      if (!(error instanceof NeedsMoreBytes)) throw error;
      if (length >= size || length > 2 ** 30)
        throw new Error(`${where} is truncated or no GGUF file: its table does not end within ${size} bytes`);
    }
  }
}

function parse(reader: Reader, where: string, size: number): Header {
  if (reader.u32() !== 0x46554747) throw new Error(`${where}: not a GGUF file: its first bytes are not "GGUF"`);
  const version = reader.u32();
  if (version !== 2 && version !== 3) throw new Error(`${where}: GGUF version ${version}; known are 2 and 3`);
  const tensors = reader.u64();
  const pairs = reader.u64();
  const metadata: Record<string, unknown> = {};
  for (let i = 0; i < pairs; i++) metadata[reader.text()] = reader.value(reader.u32(), where);
  const table = Array.from({ length: tensors }, () => {
    const name = reader.text();
    const shape = Array.from({ length: reader.u32() }, () => reader.u64()).reverse();
    return { name, shape, type: reader.u32(), offset: reader.u64() };
  });
  const alignment = (metadata["general.alignment"] as number | undefined) ?? 32;
  const data = Math.ceil(reader.at / alignment) * alignment;
  const entries = new Map<string, Entry>();
  for (const { name, shape, type, offset } of table) {
    const dtype = types[type];
    if (!dtype)
      throw new Error(`${where}: tensor ${name} has ggml type ${type}; known are ${Object.values(types).join(" ")}`);
    const start = data + offset;
    const end = start + storedBytes(dtype, shape);
    if (!Number.isSafeInteger(numel(shape)))
      throw new Error(`${where}: tensor ${name} has shape ${show(shape)}, too many elements`);
    if (end > size) throw new Error(`${where} is truncated: tensor ${name} ends at byte ${end}, the file at ${size}`);
    entries.set(name, { dtype, shape, start, end });
  }
  return { entries, metadata };
}

/** Reads little-endian values one after another. */
class Reader {
  at = 0;
  private readonly view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Skips `length` bytes and returns the position of the first one. */
  private take(length: number): number {
    if (this.at + length > this.bytes.length) throw new NeedsMoreBytes();
    return (this.at += length) - length;
  }

  u32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  u64(): number {
    return Number(this.view.getBigUint64(this.take(8), true));
  }

  text(): string {
    const length = this.u64();
    const from = this.take(length);
    return new TextDecoder().decode(this.bytes.subarray(from, from + length));
  }

  /** A metadata value of a GGUF type. */
  value(type: number, where: string): unknown {
    const { view: v } = this;
    switch (type) {
      case 0:
        return v.getUint8(this.take(1));
      case 1:
        return v.getInt8(this.take(1));
      case 2:
        return v.getUint16(this.take(2), true);
      case 3:
        return v.getInt16(this.take(2), true);
      case 4:
        return this.u32();
      case 5:
        return v.getInt32(this.take(4), true);
      case 6:
        return v.getFloat32(this.take(4), true);
      case 7:
        return v.getUint8(this.take(1)) !== 0;
      case 8:
        return this.text();
      case 9: {
        const itemType = this.u32();
        const count = this.u64();
        const items: unknown[] = [];
        for (let i = 0; i < count; i++) items.push(this.value(itemType, where));
        return items;
      }
      case 10:
        return this.u64();
      case 11:
        return Number(v.getBigInt64(this.take(8), true));
      case 12:
        return v.getFloat64(this.take(8), true);
      default:
        throw new Error(`${where}: metadata has the unknown type ${type}; known are 0 to 12`);
    }
  }
}
