import type { Shape } from "../graph/shape.ts";
import { namedPath } from "../runtime/path.ts";
import { readGguf } from "./gguf.ts";
import { readSafetensors } from "./safetensors.ts";
import { type FileSource, readJson } from "./source.ts";
import { decode, elementBytes, type HostTensor, loadedType, type StoredType } from "./stored.ts";
import { readTorch } from "./torch.ts";

/** A tensor in a file: its bytes are `start` to `end`, counted from the beginning of the file, or from `base`. */
export interface Entry {
  readonly dtype: StoredType;
  readonly shape: Shape;
  readonly start: number;
  readonly end: number;
  /** Stride of each dim in elements, if the file holds a view that is not row-major. */
  readonly strides?: readonly number[];
  /** Position from which `start` and `end` count, where it takes another read to find (zip records of PyTorch). */
  readonly base?: () => Promise<number>;
}

/** The table of one file. */
export interface Header {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly metadata: Readonly<Record<string, unknown>>;
}

const readers: readonly [RegExp, (source: FileSource, path: string) => Promise<Header>][] = [
  [/\.safetensors$/, readSafetensors],
  [/\.(bin|pt|pth)$/, readTorch],
  [/\.gguf$/, readGguf],
];

/**
 * Named tensors of one file (safetensors, PyTorch's .bin, GGUF), or of several with an index. `open` reads only tables; the bytes
 * of a tensor are read on request.
 * @example
 * const tensors = await TensorFiles.open(await openFolder("./model"), "model.safetensors");
 * const { data, shape } = await tensors.read(tensors.names[0]);
 */
export class TensorFiles {
  private constructor(
    private readonly source: FileSource,
    private readonly table: ReadonlyMap<string, { file: string; entry: Entry }>,
    readonly metadata: Readonly<Record<string, any>>,
  ) {}

  /**
   * Opens `path`: .safetensors, .bin, .pt, .pth, .gguf, or an .index.json that lists shards.
   * @throws if the format is unknown, a shard is missing, or a shard lacks a tensor of the index.
   */
  static async open(source: FileSource, path: string): Promise<TensorFiles> {
    const table = new Map<string, { file: string; entry: Entry }>();
    let metadata: Record<string, unknown> = {};
    const add = async (file: string, wanted?: ReadonlySet<string>) => {
      const reader = readers.find(([pattern]) => pattern.test(file))?.[1];
      if (!reader)
        throw new Error(
          `${source.location}/${file}: not a file of weights; expected .safetensors, .bin, .pt, .pth or .gguf`,
        );
      const header = await reader(source, file);
      for (const [name, entry] of header.entries) {
        if (!wanted || wanted.has(name)) table.set(name, { file, entry });
      }
      metadata = { ...metadata, ...header.metadata };
    };
    if (!path.endsWith(".index.json")) {
      await add(path);
      return new TensorFiles(source, table, metadata);
    }
    const weightMap = await readWeightMap(source, path);
    const shards = [...new Set(weightMap.values())];
    const sizes = await Promise.all(shards.map((file) => source.size(file)));
    const absent = shards.filter((_, i) => sizes[i] === undefined);
    if (absent.length) throw new Error(`${source.location}/${path}: these shards are missing: ${absent.join(", ")}`);
    for (const file of shards)
      await add(file, new Set([...weightMap.keys()].filter((name) => weightMap.get(name) === file)));
    const missing = [...weightMap.keys()].filter((name) => !table.has(name));
    if (missing.length)
      throw new Error(`${source.location}/${path}: not in the file it is listed for: ${missing.join(", ")}`);
    return new TensorFiles(source, table, metadata);
  }

  /** The folder, for messages. */
  get location(): string {
    return this.source.location;
  }

  /** The names of all tensors. */
  get names(): string[] {
    return [...this.table.keys()];
  }

  has(name: string): boolean {
    return this.table.has(name);
  }

  /**
   * Stored type, shape and position of a tensor.
   * @throws if there is no tensor of this name.
   */
  entry(name: string): Entry {
    return this.locate(name).entry;
  }

  /** The file of a tensor, for messages. */
  fileOf(name: string): string {
    return `${this.source.location}/${this.locate(name).file}`;
  }

  /** The stored bytes of one tensor, little-endian and row-major. */
  async bytes(name: string): Promise<Uint8Array> {
    const { file, entry } = this.locate(name);
    const base = (await entry.base?.()) ?? 0;
    const bytes = await this.source.read(file, base + entry.start, base + entry.end);
    if (bytes.byteLength !== entry.end - entry.start) {
      throw new Error(
        `${this.source.location}/${file} is truncated: tensor ${name}: got ${bytes.byteLength} of ${entry.end - entry.start} bytes`,
      );
    }
    return entry.strides ? gather(bytes, entry.shape, entry.strides, elementBytes(entry.dtype)) : bytes;
  }

  /**
   * Reads one tensor. All floats become f32, integers i32 or u32.
   * @throws if an integer does not fit.
   */
  async read(name: string): Promise<HostTensor> {
    const { dtype, shape } = this.entry(name);
    return { data: decode(await this.bytes(name), dtype, shape, name), shape, dtype: loadedType(dtype) };
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

/**
 * The tensor names of an index, with their files.
 * @throws if a file lies outside the folder.
 */
async function readWeightMap(source: FileSource, path: string): Promise<Map<string, string>> {
  const where = `${source.location}/${path}`;
  const listed: unknown = (await readJson(source, path))?.weight_map;
  if (typeof listed !== "object" || listed === null || Array.isArray(listed))
    throw new Error(`${where}: expected a "weight_map" from tensor names to files`);
  return new Map(
    Object.entries(listed).map(([name, file]) => [
      name,
      namedPath(file, source.location, `${where}: weight_map ${JSON.stringify(name)}`),
    ]),
  );
}

/** The elements of a strided view in row-major order, of `size` bytes each. */
function gather(bytes: Uint8Array, shape: Shape, strides: readonly number[], size: number): Uint8Array {
  const last = shape.length - 1; // at least 0: a 0-d view is contiguous and never gets here
  let rows = [0];
  for (let dim = 0; dim < last; dim++) {
    rows = rows.flatMap((at) => Array.from({ length: shape[dim] }, (_, i) => at + i * strides[dim] * size));
  }
  const out = new Uint8Array(rows.length * shape[last] * size);
  let o = 0;
  for (const row of rows) {
    for (let i = 0; i < shape[last]; i++) {
      const at = row + i * strides[last] * size;
      for (let b = 0; b < size; b++) out[o++] = bytes[at + b];
    }
  }
  return out;
}
