/**
 * A folder of files: on disk, on a web server or in memory. Checkpoints are read and written through it,
 * so nothing above knows where the bytes live. Paths are relative, with `/` between parts.
 */
export interface FileSource {
  /** What error messages call this place. */
  readonly location: string;
  /** Bytes [start, end) of a file; the whole file by default. Throws when the file does not exist. */
  read(path: string, start?: number, end?: number): Promise<Uint8Array>;
  /** Size in bytes, or undefined when there is no such file. */
  size(path: string): Promise<number | undefined>;
  /** Writes a whole file, or nothing: a reader never sees a part of it. Absent where one cannot write. */
  write?(path: string, chunks: ByteChunks): Promise<void>;
}

/** The bytes of a file in order. */
export type ByteChunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Files in memory: for tests, uploads in a page, and checkpoints that never touch a disk. */
export function memoryFiles(
  files: Map<string, Uint8Array> = new Map(),
): FileSource & { files: Map<string, Uint8Array> } {
  return {
    files,
    location: "memory",
    async read(path, start = 0, end) {
      const bytes = files.get(path);
      if (!bytes) throw new Error(`memory: there is no file ${path}`);
      return bytes.subarray(start, end);
    },
    size: async (path) => files.get(path)?.byteLength,
    async write(path, chunks) {
      const parts: Uint8Array[] = [];
      for await (const chunk of chunks) parts.push(chunk);
      files.set(path, concatBytes(parts));
    },
  };
}

/** Files below a URL, read with HTTP range requests. */
export function httpFiles(base: string): FileSource {
  const url = (path: string) => `${base.replace(/\/+$/, "")}/${path.split("/").map(encodeURIComponent).join("/")}`;
  return {
    location: base,
    async read(path, start = 0, end) {
      const ranged = start > 0 || end !== undefined;
      const headers: Record<string, string> = ranged
        ? { Range: `bytes=${start}-${end === undefined ? "" : end - 1}` }
        : {};
      const response = await fetch(url(path), { headers });
      if (!response.ok) throw new Error(`${url(path)}: HTTP ${response.status} ${response.statusText}`);
      const bytes = new Uint8Array(await response.arrayBuffer());
      return ranged && response.status === 200 ? bytes.subarray(start, end) : bytes; // the server ignored the range
    },
    async size(path) {
      const response = await fetch(url(path), { method: "HEAD" });
      if (response.status === 404) return undefined;
      if (!response.ok) throw new Error(`${url(path)}: HTTP ${response.status} ${response.statusText}`);
      return Number(response.headers.get("content-length") ?? NaN);
    },
  };
}

/** A folder given as a path, a URL or a FileSource. */
export async function openFolder(where: string | FileSource): Promise<FileSource> {
  if (typeof where !== "string") return where;
  if (/^https?:\/\//.test(where)) return httpFiles(where);
  const { folder } = await import("../runtime/node.ts");
  return folder(where);
}

/** The same source one folder further down. */
export function subfolder(source: FileSource, name: string): FileSource {
  return {
    location: `${source.location}/${name}`,
    read: (path, start, end) => source.read(`${name}/${path}`, start, end),
    size: (path) => source.size(`${name}/${path}`),
    write: source.write && ((path, chunks) => source.write!(`${name}/${path}`, chunks)),
  };
}

/** Writes a file, or says that this place is read-only. */
export async function writeFile(source: FileSource, path: string, chunks: ByteChunks): Promise<void> {
  if (!source.write) throw new Error(`${source.location} is read-only: ${path} cannot be written there`);
  await source.write(path, chunks);
}

export async function readJson(source: FileSource, path: string): Promise<any> {
  const text = new TextDecoder().decode(await source.read(path));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${source.location}/${path} is not valid JSON: ${(error as Error).message}`);
  }
}

export const jsonBytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);

function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.byteLength, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.byteLength;
  }
  return out;
}
