/** PyTorch's checkpoints (torch.save since 1.6): a zip archive with one pickle and the storages that it refers to. */
import { numel, type Shape, show } from "../graph/shape.ts";
import { type Globals, unpickle } from "./pickle.ts";
import { encode, storedType, type WriteEntry, type WriteOptions } from "./safetensors.ts";
import { type FileSource, writeFile } from "./source.ts";
import { elementBytes, type StoredType } from "./stored.ts";
import type { Entry, Header } from "./tensors.ts";
import { readZip, type ZipEntry, zipChunks, zipData } from "./zip.ts";

/** PyTorch's storage classes and their element types. */
const storages: readonly [name: string, type: StoredType][] = [
  ["FloatStorage", "F32"],
  ["HalfStorage", "F16"],
  ["BFloat16Storage", "BF16"],
  ["DoubleStorage", "F64"],
  ["LongStorage", "I64"],
  ["IntStorage", "I32"],
  ["ShortStorage", "I16"],
  ["CharStorage", "I8"],
  ["ByteStorage", "U8"],
  ["BoolStorage", "BOOL"],
];

/** A storage that the pickle refers to. Several tensors may share it. */
class Storage {
  constructor(
    readonly type: StoredType,
    readonly key: string,
    readonly count: number,
  ) {}
}

/** A view of a storage. Offset and strides count elements. */
class View {
  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: Shape,
    readonly strides: readonly number[],
  ) {}
}

/** The globals that the pickle of a checkpoint may name. */
const globals: Globals = new Map<string, unknown>([
  ...storages.map(([name, type]): [string, unknown] => [`torch.${name}`, type]),
  ["torch._utils._rebuild_tensor_v2", (...[s, offset, shape, strides]: any[]) => new View(s, offset, shape, strides)],
  ["torch._utils._rebuild_parameter", (tensor: unknown) => tensor],
  ["collections.OrderedDict", (items: [unknown, unknown][] = []) => new Map(items)],
]);

/**
 * Reads the table of a .bin, .pt or .pth file: a state dict, or a dict that holds one as `state_dict` or `model`.
 * @throws if the file is damaged, or its pickle names anything but tensors and dicts.
 */
export async function readTorch(source: FileSource, path: string): Promise<Header> {
  const where = `${source.location}/${path}`;
  const zip = await openZip(source, path);
  const pickle = [...zip.keys()].find((name) => name.endsWith("/data.pkl"));
  if (!pickle) throw new Error(`${where}: there is no data.pkl in it: not a checkpoint of torch.save`);
  const folder = pickle.slice(0, -"data.pkl".length);
  const order = zip.get(`${folder}byteorder`);
  if (order && new TextDecoder().decode(await record(source, path, order)) !== "little")
    throw new Error(`${where}: the checkpoint is big-endian; only little-endian ones are supported`);
  const root = unpickle(await record(source, path, zip.get(pickle)!), where, globals, ([kind, type, key, , count]) => {
    if (kind !== "storage" || !storages.some(([, known]) => known === type))
      throw new Error(`${where}: expected a storage, got ${String(kind)} of ${String(type)}`);
    return new Storage(type as StoredType, String(key), count as number);
  });
  const entries = new Map<string, Entry>();
  for (const [name, value] of stateOf(root, where)) {
    if (!(value instanceof View)) continue; // numbers and strings are allowed, and ignored
    const at = zip.get(`${folder}data/${value.storage?.key}`);
    if (!at || !(value.storage instanceof Storage))
      throw new Error(`${where}: tensor ${name}: its storage ${value.storage?.key} is not in the file`);
    let base: Promise<number> | undefined;
    entries.set(String(name), {
      ...entryOf(where, String(name), value, at),
      base: () => (base ??= zipData(source, path, at)),
    });
  }
  return { entries, metadata: { format: "pt" } };
}

async function openZip(source: FileSource, path: string): Promise<Map<string, ZipEntry>> {
  const start = await source.read(path, 0, 4);
  if (start[0] === 0x80)
    throw new Error(
      `${source.location}/${path}: a plain pickle (PyTorch before 1.6) is not supported: save it again with a newer torch.save, or as safetensors`,
    );
  return readZip(source, path);
}

/** The bytes of a record. */
async function record(source: FileSource, path: string, entry: ZipEntry): Promise<Uint8Array> {
  const start = await zipData(source, path, entry);
  return source.read(path, start, start + entry.size);
}

/** The state dict in the root object. */
function stateOf(root: unknown, where: string): Map<unknown, unknown> {
  if (!(root instanceof Map)) throw new Error(`${where}: expected a state dict, that is a dict of tensors`);
  for (const key of ["state_dict", "model"]) {
    const inner = root.get(key);
    if (inner instanceof Map) return inner;
  }
  return root;
}

/** The entry of a view. `start` and `end` count from the first byte of its storage. */
function entryOf(where: string, name: string, { storage, offset, shape, strides }: View, record: ZipEntry): Entry {
  const size = elementBytes(storage.type);
  const sizes = [offset, ...shape, ...strides];
  if (shape.length !== strides.length || !sizes.every((n) => Number.isSafeInteger(n) && n >= 0))
    throw new Error(
      `${where}: tensor ${name}: offset ${offset}, shape ${show(shape)} and strides ${show(strides)} are no view of a storage`,
    );
  const span = numel(shape) === 0 ? 0 : 1 + shape.reduce((n, dim, i) => n + (dim - 1) * strides[i], 0);
  const end = (offset + span) * size;
  if (end > record.size) throw new Error(`${where}: tensor ${name} ends at byte ${end} of a storage of ${record.size}`);
  let step = 1;
  const isRowMajor = shape.every((_, i) => {
    const dim = shape.length - 1 - i;
    const fits = shape[dim] <= 1 || strides[dim] === step;
    step *= shape[dim];
    return fits;
  });
  const entry = { dtype: storage.type, shape, start: offset * size, end };
  return isRowMajor || span === 0 ? entry : { ...entry, strides };
}

/**
 * Writes a state dict for torch.load, also with weights_only, atomically. At most 4 GiB.
 * @example await saveTorch(await openFolder("./out"), "pytorch_model.bin", writeEntries(model.stateDict()))
 */
export async function saveTorch(
  source: FileSource,
  path: string,
  tensors: Readonly<Record<string, WriteEntry>>,
  { float }: Pick<WriteOptions, "float"> = {},
): Promise<void> {
  const stored = Object.entries(tensors).map(([name, tensor]) => ({ name, tensor, type: storedType(tensor, float) }));
  const text = (value: string): number[] => {
    const bytes = new TextEncoder().encode(value);
    return [0x58, ...int(bytes.length), ...bytes];
  };
  const code = (ops: string): number[] => [...ops].map((c) => c.charCodeAt(0));
  const tuple = (items: readonly number[]): number[] => [...code("("), ...items.flatMap(number), ...code("t")];
  const pickle = stored.flatMap(({ name, tensor: { shape }, type }, i) => {
    const storage = storages.find(([, known]) => known === type)?.[0];
    if (!storage) throw new Error(`saveTorch: PyTorch has no storage for ${name}, which is ${type}`);
    const strides = shape.map((_, dim) => numel(shape.slice(dim + 1)));
    return [
      ...text(name),
      ...code(`ctorch._utils\n_rebuild_tensor_v2\n((`),
      ...[...text("storage"), ...code(`ctorch\n${storage}\n`), ...text(`${i}`), ...text("cpu")],
      ...[...number(numel(shape)), ...code("tQ"), ...number(0), ...tuple(shape), ...tuple(strides)],
      ...code("\x89ccollections\nOrderedDict\n)RtR"),
    ];
  });
  const utf8 = (value: string) => () => new TextEncoder().encode(value);
  const entries: [string, () => Uint8Array | Promise<Uint8Array>][] = [
    ["archive/data.pkl", () => Uint8Array.from([...code("\x80\x02}("), ...pickle, ...code("u.")])],
    ["archive/byteorder", utf8("little")],
    ...stored.map(({ name, tensor, type }, i): [string, () => Promise<Uint8Array>] => [
      `archive/data/${i}`,
      () => encode(name, tensor, type),
    ]),
    ["archive/version", utf8("3\n")],
  ];
  await writeFile(source, path, zipChunks(entries));
}

const int = (n: number): number[] => [n, n >>> 8, n >>> 16, n >>> 24].map((b) => b & 255);

/** A pickled integer: BININT (4 bytes) if it fits, else LONG1 of 8 bytes. */
const number = (n: number): number[] =>
  n < 2 ** 31 ? [0x4a, ...int(n)] : [0x8a, 8, ...int(n), ...int(Math.floor(n / 2 ** 32))];
