/** Zip archives of uncompressed entries, as PyTorch writes them. */
import { crc32 } from "./crc32.ts";
import type { FileSource } from "./source.ts";

/** An entry of an archive. */
export interface ZipEntry {
  /** Bytes of its data. */
  readonly size: number;
  /** Position of its local header. */
  readonly header: number;
}

const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const MAX_32 = 0xffffffff;

/**
 * Reads the directory at the end of an archive: its entries by name.
 * @throws if the archive is truncated, or has compressed entries.
 */
export async function readZip(source: FileSource, path: string): Promise<Map<string, ZipEntry>> {
  const where = `${source.location}/${path}`;
  const size = await source.size(path);
  if (size === undefined) throw new Error(`${where}: no such file`);
  const tailStart = Math.max(0, size - 65_577); // room for the longest comment and both end records
  const tail = view(await source.read(path, tailStart, size));
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== END) end--;
  if (end < 0) throw new Error(`${where} is truncated or no zip archive: it has no directory at its end`);
  let [count, length, start] = [
    tail.getUint16(end + 10, true),
    tail.getUint32(end + 12, true),
    tail.getUint32(end + 16, true),
  ];
  if (end >= 20 && tail.getUint32(end - 20, true) === LOCATOR_64) {
    const at = Number(tail.getBigUint64(end - 12, true));
    const record = view(await source.read(path, at, at + 56));
    if (record.byteLength < 56 || record.getUint32(0, true) !== END_64)
      throw new Error(`${where}: broken zip64 directory`);
    [count, length, start] = [32, 40, 48].map((o) => Number(record.getBigUint64(o, true)));
  }
  const directory = view(await source.read(path, start, start + length));
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > directory.byteLength || directory.getUint32(at, true) !== CENTRAL)
      throw new Error(`${where}: broken zip directory at entry ${i} of ${count}`);
    const [names, extras, comment] = [28, 30, 32].map((o) => directory.getUint16(at + o, true));
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, directory.byteOffset + at + 46, names));
    if (directory.getUint16(at + 10, true) !== 0)
      throw new Error(
        `${where}: entry ${name} is compressed; only uncompressed archives are supported, as torch.save writes them`,
      );
    const values64 = extra64(directory, at + 46 + names, extras);
    const field32or64 = (field: number): number => {
      const value = directory.getUint32(at + field, true);
      return value === MAX_32 ? Number(values64.shift()) : value; // the extra field has the order of these calls
    };
    const bytes = field32or64(24);
    field32or64(20);
    entries.set(name, { size: bytes, header: field32or64(42) });
    at += 46 + names + extras + comment;
  }
  return entries;
}

/** The 64-bit numbers of a zip64 extra field. */
function extra64(v: DataView, from: number, length: number): bigint[] {
  for (let at = from; at + 4 <= from + length; at += 4 + v.getUint16(at + 2, true)) {
    if (v.getUint16(at, true) !== 1) continue;
    return Array.from({ length: v.getUint16(at + 2, true) >> 3 }, (_, i) => v.getBigUint64(at + 4 + 8 * i, true));
  }
  return [];
}

/** Position of the data of an entry, after its local header. The directory does not contain the length of that header. */
export async function zipData(source: FileSource, path: string, { header }: ZipEntry): Promise<number> {
  const local = view(await source.read(path, header, header + 30));
  if (local.byteLength < 30 || local.getUint32(0, true) !== LOCAL)
    throw new Error(`${source.location}/${path}: broken zip entry at byte ${header}`);
  return header + 30 + local.getUint16(26, true) + local.getUint16(28, true);
}

/** The bytes of an archive with these entries. Their data are aligned to 64 bytes, as in PyTorch. At most 4 GiB. */
export async function* zipChunks(
  entries: Iterable<readonly [string, () => Uint8Array | Promise<Uint8Array>]>,
): AsyncGenerator<Uint8Array> {
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const [path, read] of entries) {
    const data = await read();
    if (at + data.length > MAX_32) throw new RangeError("zip: an archive of more than 4 GiB is not supported");
    const name = new TextEncoder().encode(path);
    const padding = 63 - ((at + 33 + name.length) % 64);
    const common: Field[] = [
      [20, 2], // version needed to extract
      [0, 2], // flags
      [0, 2], // method: stored
      [0, 2],
      [33, 2], // midnight, 1 January 1980
      [crc32(data), 4],
      [data.length, 4],
      [data.length, 4],
      [name.length, 2],
    ];
    const extra = fields([0x4246, 2], [padding, 2]);
    const parts = [fields([LOCAL, 4], ...common, [4 + padding, 2]), name, extra, new Uint8Array(padding), data];
    yield* parts;
    const unused: Field[] = [0, 0, 0, 0].map((n) => [n, 2]);
    directory.push(fields([CENTRAL, 4], [20, 2], ...common, ...unused, [0, 4], [at, 4]), name);
    at += parts.reduce((n, part) => n + part.length, 0);
  }
  yield* directory;
  const count = directory.length / 2;
  const length = directory.reduce((n, part) => n + part.length, 0);
  yield fields([END, 4], [0, 2], [0, 2], [count, 2], [count, 2], [length, 4], [at, 4], [0, 2]);
}

/** A little-endian number and its width in bytes. */
type Field = readonly [value: number, bytes: number];

function fields(...all: readonly Field[]): Uint8Array {
  return Uint8Array.from(all.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, i) => value >>> (8 * i))));
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
