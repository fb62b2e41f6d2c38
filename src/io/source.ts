import type { ByteChunks, FileSource, NewFiles } from "../runtime/file-source.ts";
import { namedPath } from "../runtime/path.ts";

export type { ByteChunks, FileSource, NewFiles } from "../runtime/file-source.ts";

/**
 * Files in memory, for tests, uploads in a page, and checkpoints without a disk. Can be written.
 * @example memoryFiles(new Map([["config.json", new TextEncoder().encode("{}")]]))
 */
export function memoryFiles(
  files: Map<string, Uint8Array> = new Map(),
): FileSource & { files: Map<string, Uint8Array> } {
  return {
    files,
    location: "memory",
    async read(path, start = 0, end) {
      const bytes = files.get(path);
      if (!bytes)
        throw new Error(`memory: there is no file ${path}; there are ${[...files.keys()].join(", ") || "none"}`);
      return bytes.subarray(start, end);
    },
    size: async (path) => files.get(path)?.byteLength,
    async write(path, chunks) {
      files.set(path, await concatBytes(chunks));
    },
    async replace(fresh, stale) {
      const complete: [string, Uint8Array][] = [];
      for (const [path, chunks] of fresh) complete.push([path, await concatBytes(chunks())]);
      for (const path of stale) files.delete(path);
      for (const [path, bytes] of complete) files.set(path, bytes);
    },
  };
}

/**
 * Files that a user has chosen in a page: by `<input type="file" multiple>`, with or without `webkitdirectory`, or dropped. Paths
 * are relative to the chosen folder. Only requested parts of a file are read.
 */
export function browserFiles(chosen: Iterable<File>): FileSource {
  const all = Array.from(chosen, (file): [string, File] => {
    const path = file.webkitRelativePath;
    return [path ? path.slice(path.indexOf("/") + 1) : file.name, file];
  });
  const files = new Map(all);
  return {
    location: "chosen files",
    async read(path, start = 0, end) {
      const file = files.get(path);
      if (!file) throw new Error(`chosen files: there is no file ${path}; there are ${[...files.keys()].join(", ")}`);
      return new Uint8Array(await file.slice(start, end ?? file.size).arrayBuffer());
    },
    size: async (path) => files.get(path)?.size,
  };
}

const MAX_UNRANGED = 1 << 24; // bytes

/**
 * Files below a URL, read by HTTP range requests. From a server without them, files of up to 16 MiB can be read.
 * @throws (when read) with the URL and the HTTP status.
 */
export function httpFiles(base: string): FileSource {
  const request = async (path: string, init: RequestInit): Promise<Response> => {
    try {
      return await fetch(url(path), init);
    } catch (error) {
      const { message, cause } = error as Error; // the message "fetch failed" does not name the cause
      throw new Error(`${url(path)}: ${cause instanceof Error ? cause.message || cause.name : message}`, {
        cause: error,
      });
    }
  };
  const url = (path: string) =>
    `${base.replace(/\/+$/, "")}/${namedPath(path, base).split("/").map(encodeURIComponent).join("/")}`;
  return {
    location: base,
    async read(path, start = 0, end) {
      const ranged = start > 0 || end !== undefined;
      const headers: Record<string, string> = ranged
        ? { Range: `bytes=${start}-${end === undefined ? "" : end - 1}` }
        : {};
      const response = await request(path, { headers });
      if (!response.ok) throw new Error(`${url(path)}: HTTP ${response.status} ${response.statusText}`);
      if (!ranged || response.status === 206) return new Uint8Array(await response.arrayBuffer());
      const length = Number(response.headers.get("content-length") ?? Infinity);
      if (length > MAX_UNRANGED) {
        await response.body?.cancel();
        throw new Error(
          `${url(path)}: the server ignores range requests, which files of more than ${MAX_UNRANGED} bytes need; this one has ${length}`,
        );
      }
      return new Uint8Array(await response.arrayBuffer()).subarray(start, end);
    },
    async size(path) {
      const response = await request(path, { method: "HEAD" });
      if (response.status === 404) return undefined;
      if (!response.ok) throw new Error(`${url(path)}: HTTP ${response.status} ${response.statusText}`);
      return Number(response.headers.get("content-length") ?? NaN);
    },
  };
}

/** Opens a folder by path (Node, Deno, Bun) or URL. A FileSource is returned as is. */
export async function openFolder(where: string | FileSource): Promise<FileSource> {
  if (typeof where !== "string") return where;
  if (/^https?:\/\//.test(where)) return httpFiles(where);
  const { folder } = await import("../runtime/node.ts");
  return folder(where);
}

/**
 * A folder inside `source`.
 * @throws if `name` lies outside the folder of `source`; later, if a requested path lies outside the new folder.
 */
export function subfolder(source: FileSource, name: string): FileSource {
  const inside = namedPath(name, source.location);
  const location = `${source.location}/${name}`;
  const below = (path: string): string => [inside, namedPath(path, location)].filter(Boolean).join("/");
  return {
    location,
    read: async (path, start, end) => source.read(below(path), start, end),
    size: async (path) => source.size(below(path)),
    write: source.write && (async (path, chunks) => source.write!(below(path), chunks)),
    replace:
      source.replace &&
      (async (files, stale) =>
        source.replace!(
          Array.from(files, ([path, chunks]) => [below(path), chunks] as const),
          stale.map(below),
        )),
  };
}

/**
 * Writes a file.
 * @throws if the source is read-only.
 */
export async function writeFile(source: FileSource, path: string, chunks: ByteChunks): Promise<void> {
  if (!source.write) throw new Error(`${source.location} is read-only: ${path} cannot be written there`);
  await source.write(path, chunks);
}

/** Writes `files` and removes `stale`, as one change if the source can do that. Else it only writes, one file after another. */
export async function replaceFiles(source: FileSource, files: NewFiles, stale: readonly string[] = []): Promise<void> {
  if (source.replace) return source.replace(files, stale);
  for (const [path, chunks] of files) await writeFile(source, path, chunks());
}

/**
 * Reads and parses a JSON file.
 * @throws with the path if the file is missing or no JSON.
 */
export async function readJson(source: FileSource, path: string): Promise<any> {
  const text = new TextDecoder().decode(await source.read(path));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${source.location}/${path} is not valid JSON: ${(error as Error).message}`);
  }
}

/** A JSON file: `value`, indented by two spaces. */
export const jsonBytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);

async function concatBytes(chunks: ByteChunks): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  const out = new Uint8Array(parts.reduce((n, part) => n + part.byteLength, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.byteLength;
  }
  return out;
}
