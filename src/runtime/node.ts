/** Everything that needs Node: no other file of the library imports a Node module. */
import { spawn } from "node:child_process";
import { closeSync, constants, fstatSync, openSync, readFileSync, unlinkSync, writeFileSync, writeSync } from "node:fs";
import { mkdir, open, realpath, rename, rm, stat } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join, relative, sep } from "node:path";
import { isatty } from "node:tty";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isMainThread } from "node:worker_threads";
import type { FileSource, NewFiles } from "./file-source.ts";
import { namedPath } from "./path.ts";

let collect: (() => void) | undefined;

/** Runs V8's garbage collector. Needed because V8 does not count the GPU memory of dropped tensors. */
export function collectGarbage(): void {
  if (!collect) {
    try {
      setFlagsFromString("--expose-gc");
      collect = runInNewContext("gc") as () => void;
    } catch {
      collect = () => {}; // Deno has these modules, but not the flag
    }
  }
  collect();
}

/** Folder of stored measurements: SHADEGRAD_CACHE, else the user's cache folder. */
export const cacheFolder = (): string =>
  process.env.SHADEGRAD_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "shadegrad");

/** Writes a file when the process exits, also by an exception or process.exit(). */
export function writeAtExit(path: string, text: () => string): void {
  process.on("exit", () => writeFileSync(path, text()));
}

let unique = 0;

/**
 * The path on disk of `path` inside `root`. Files inside may be links to elsewhere, as in Hugging Face's cache. An absolute
 * path is inside "/" only.
 * @throws if the path leaves `root`.
 */
const diskPath = (root: string, path: string): string =>
  join(root, namedPath(root === "/" && typeof path === "string" ? path.replace(/^\/+/, "") : path, root));

/** A folder on disk. Files appear whole or not at all. */
export function folder(root: string): FileSource {
  return {
    location: root,
    async read(path, start = 0, end) {
      const full = diskPath(root, path);
      const file = await open(full).catch((error: NodeJS.ErrnoException) => {
        throw error.code === "ENOENT" ? new Error(`${full}: no such file`) : error;
      });
      try {
        const size = (await file.stat()).size;
        const bytes = new Uint8Array(Math.max(0, Math.min(end ?? size, size) - start));
        for (let done = 0; done < bytes.length; ) {
          const { bytesRead } = await file.read(bytes, done, Math.min(bytes.length - done, 1 << 30), start + done);
          if (bytesRead === 0) throw new Error(`${full}: the file ended at byte ${start + done} while it was read`);
          done += bytesRead;
        }
        return bytes;
      } finally {
        await file.close();
      }
    },
    async size(path) {
      const info = await stat(diskPath(root, path)).catch(() => undefined);
      return info?.isFile() ? info.size : undefined;
    },
    write: (path, chunks) => replace(root, [[path, () => chunks]], []),
    replace: (files, stale) => replace(root, files, stale),
  };
}

/** Writes and syncs files under temporary names. Once all are complete, renames them in order and removes stale files. */
async function replace(root: string, files: NewFiles, stale: readonly string[]): Promise<void> {
  const written: { partial: string; target: string }[] = [];
  try {
    for (const [path, chunks] of files) {
      const target = diskPath(root, path);
      const partial = `${target}.${process.pid}.${unique++}.partial`;
      await mkdir(dirname(target), { recursive: true });
      const file = await open(partial, "wx");
      written.push({ partial, target });
      try {
        for await (const chunk of chunks()) await file.writeFile(chunk);
        await file.sync();
      } finally {
        await file.close();
      }
    }
    for (const { partial, target } of written) await rename(partial, target);
  } catch (error) {
    for (const { partial } of written) await rm(partial, { force: true });
    throw error;
  }
  await removeInside(root, stale, new Set(written.map(({ target }) => target)));
  for (const folder of new Set(written.map(({ target }) => dirname(target)))) await syncFolder(folder);
}

/** Removes stale files. Skips files that a linked folder puts outside `root`, and files of `kept` under another spelling. */
async function removeInside(root: string, stale: readonly string[], kept: Iterable<string>): Promise<void> {
  const real = async (path: string): Promise<string> => join(await realpath(dirname(path)), basename(path));
  const written = new Set<string>();
  for (const path of kept) written.add(await real(path));
  const from = await realpath(root).catch(() => root);
  for (const path of stale) {
    const file = await real(diskPath(root, path)).catch(() => undefined);
    if (file === undefined || written.has(file)) continue;
    const inside = relative(from, file);
    if (inside !== ".." && !inside.startsWith(`..${sep}`) && !isAbsolute(inside)) await rm(file, { force: true });
  }
}

/** Makes renames in a folder durable, on systems that can sync a folder. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path).catch(() => undefined); // fails on Windows
  await folder?.sync().catch(() => undefined);
  await folder?.close();
}

/** The two lines that Dawn prints if a driver allows more dynamic buffers than Dawn. They are harmless, and Dawn has no switch. */
export const LIMIT_WARNING =
  /^Warning: maxDynamic(?:Uniform|Storage)BuffersPerPipelineLayout artificially reduced from \d+ to \d+ to fit dynamic offset allocation limit\.\r?\n/gm;

/**
 * Calls `discover`, in which Dawn looks for drivers, without its limit warnings on stderr. Other output to stderr appears after
 * it returns. Works on Linux only, where Dawn's Vulkan prints these lines, and if stderr is a terminal or pipe: reopening any
 * other file loses its position. SHADEGRAD_DEBUG shows the warnings.
 */
export async function withoutLimitWarnings<T>(discover: () => T): Promise<T> {
  // Native code writes to descriptor 2 directly, so descriptor 2 must point elsewhere. While it is closed, a file that another
  // thread opens would get its number. So wait until no requests are in flight.
  for (let i = 0; i < 100 && filesInFlight(); i++) await new Promise((done) => setTimeout(done, 1));
  const release = filesInFlight() || Number(process.env.SHADEGRAD_DEBUG) > 0 ? undefined : captureStderr();
  if (!release) return discover();
  try {
    return discover();
  } finally {
    const text = release().replace(LIMIT_WARNING, "");
    if (text !== "") writeSync(STDERR, text);
  }
}

const STDERR = 2;
const { O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_NONBLOCK, O_NOCTTY } = constants;

const filesInFlight = (): boolean =>
  process.getActiveResourcesInfo().some((name) => /^FSReq|^GetAddrInfo|^GetNameInfo/.test(name));

/** Redirects stderr to a file. The function that it returns restores stderr and returns the output. Undefined if impossible. */
function captureStderr(): (() => string) | undefined {
  if (process.platform !== "linux" || !isMainThread) return undefined;
  let stderr: number | undefined;
  try {
    if (!isatty(STDERR) && !fstatSync(STDERR).isFIFO()) return undefined;
    stderr = reopened(STDERR);
    const path = join(tmpdir(), `shadegrad-${process.pid}-${Date.now()}.stderr`);
    const file = openSync(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
    unlinkSync(path);
    pointStderr(`/proc/self/fd/${file}`);
    return () => {
      pointStderr(canWrite(stderr!) ? `/proc/self/fd/${stderr}` : "/dev/null");
      const text = readFileSync(file, "utf8");
      for (const descriptor of [stderr!, file]) closeSync(descriptor);
      return text;
    };
  } catch {
    if (stderr !== undefined) closeSync(stderr);
    return undefined; // no /proc, no temporary folder, or a terminal of another user: the warnings appear
  }
}

/** Opens the file of a descriptor again. Non-blocking, so that it throws for a pipe without a reader. */
const reopened = (descriptor: number): number =>
  openSync(`/proc/self/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);

function canWrite(descriptor: number): boolean {
  try {
    closeSync(reopened(descriptor));
    return true;
  } catch {
    return false; // the reader of the pipe has gone
  }
}

function pointStderr(path: string): void {
  closeSync(STDERR);
  openSync(path, O_WRONLY | O_NOCTTY); // takes the lowest free number
}

/** Runs a module's text in a child process, which messages reach as structured clones. It ends with this process. */
export function childProcess(
  program: string,
  receive: (message: unknown) => void,
  ended: (reason: string) => void,
): { send(message: unknown): void; close(): void } {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    serialization: "advanced",
  });
  child.on("message", receive);
  child.on("error", (error) => ended(error.message));
  child.on("exit", (code, signal) => ended(signal ? `signal ${signal}` : `exit code ${code}`));
  const pending = new Set<unknown>();
  child.on("message", () => pending.delete(pending.values().next().value) && pending.size === 0 && rest(false));
  /** An idle worker does not keep the program running. */
  const rest = (busy: boolean): void => {
    const method = busy ? "ref" : "unref";
    child[method]();
    child.channel?.[method]();
  };
  rest(false);
  return {
    send(message) {
      pending.add(message);
      rest(true);
      child.send(message as object);
    },
    close: () => void child.kill(),
  };
}
