/** Element types of checkpoint files, and the decoding of their bytes. */
import { type DType, fromBfloat16, fromHalf, type HostArray, toBfloat16, toHalf } from "../graph/dtype.ts";
import { numel, type Shape, show } from "../graph/shape.ts";
import { type BlockType, blocks } from "./ggml.ts";

/** A tensor on the host. */
export interface HostTensor {
  readonly data: HostArray;
  readonly shape: Shape;
  readonly dtype: DType;
}

/** An element type of a checkpoint file. */
export type StoredType = keyof typeof formats | BlockType;

/** Bytes per element, the dtype after loading, and the reader of one element. */
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

/** Stored types of single elements, as opposed to blocks. */
export const plainTypes: readonly string[] = Object.keys(formats);

const isBlock = (type: StoredType): type is BlockType => type in blocks;

/**
 * Bytes of one element.
 * @throws for types of quantised blocks.
 */
export function elementBytes(type: StoredType): number {
  if (isBlock(type)) throw new Error(`${type} is stored in blocks of ${blocks[type].values} values, not by element`);
  return formats[type].bytes;
}

/** The dtype of a stored type after loading. */
export const loadedType = (type: StoredType): DType => (isBlock(type) ? "f32" : formats[type].as);

/**
 * Bytes of a tensor in a file.
 * @throws if its rows are not a multiple of the block.
 */
export function storedBytes(type: StoredType, shape: Shape): number {
  const count = numel(shape);
  if (!isBlock(type)) return count * formats[type].bytes;
  const { values, bytes } = blocks[type];
  if ((shape[shape.length - 1] ?? 1) % values)
    throw new Error(`${type} ${show(shape)}: rows are no multiple of the block of ${values}`);
  return (count / values) * bytes;
}

/**
 * Decodes little-endian, row-major bytes.
 * @throws if an integer does not fit i32 or u32.
 */
export function decode(bytes: Uint8Array, type: StoredType, shape: Shape, name: string): HostArray {
  const count = numel(shape);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isBlock(type)) {
    const out = new Float32Array(count);
    const { values, bytes: size, decode: block } = blocks[type];
    for (let i = 0, at = 0; i < count; i += values, at += size) block(view, at, out, i);
    return out;
  }
  // Fast paths of the common types: no call per element, but typed arrays need aligned bytes.
  const aligned = () =>
    (bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : new Uint8Array(bytes).buffer) as ArrayBuffer;
  if (type === "F32") return new Float32Array(aligned());
  if (type === "I32") return new Int32Array(aligned());
  if (type === "U32") return new Uint32Array(aligned());
  if (type === "BF16") {
    const halves = new Uint16Array(aligned());
    const words = new Uint32Array(count);
    for (let i = 0; i < count; i++) words[i] = halves[i] << 16;
    return new Float32Array(words.buffer);
  }
  if (type === "F16") {
    const halves = new Uint16Array(aligned());
    const table = halfTable();
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = table[halves[i]];
    return out;
  }
  const format = formats[type];
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
      throw new RangeError(`tensor ${name}: ${value} at index ${i} (stored as ${type}) does not fit ${format.as}`);
    }
  }
  return out;
}

/** Rounds numbers to 16-bit floats, to nearest even. Returns their bits. */
export function round16(data: HostArray, type: "F16" | "BF16"): Uint16Array {
  const round = type === "F16" ? toHalf : toBfloat16;
  const out = new Uint16Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = round(data[i]);
  return out;
}

let halves: Float32Array | undefined;

/** The values of all 65,536 bit patterns of an f16. */
function halfTable(): Float32Array {
  return (halves ??= Float32Array.from({ length: 65536 }, (_, bits) => fromHalf(bits)));
}
