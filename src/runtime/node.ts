/** Everything that needs Node: no other file of the library imports a Node module. */
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { FileSource } from "../io/source.ts";

let collect: (() => void) | undefined;

/** V8's garbage collector, switched on at run time: JavaScript alone does not see how much GPU memory dropped tensors hold. */
export function collectGarbage(): void {
  if (!collect) {
    try {
      setFlagsFromString("--expose-gc");
      collect = runInNewContext("gc") as () => void;
    } catch {
      collect = () => {}; // Deno has the modules, not the flag
    }
  }
  collect();
}

/** Where what was learnt of the machine is kept: SHADEGRAD_CACHE, else the user's cache folder. */
export const cacheFolder = (): string =>
  process.env.SHADEGRAD_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "shadegrad");

let unique = 0;

/** A folder on disk. A file is written beside its final name, flushed and renamed, so it appears whole or not at all. */
export function folder(root: string): FileSource {
  return {
    location: root,
    async read(path, start = 0, end) {
      const file = await open(join(root, path)).catch((error: NodeJS.ErrnoException) => {
        throw error.code === "ENOENT" ? new Error(`${join(root, path)}: no such file`) : error;
      });
      try {
        const size = (await file.stat()).size;
        const bytes = new Uint8Array(Math.max(0, Math.min(end ?? size, size) - start));
        for (let done = 0; done < bytes.length; ) {
          const { bytesRead } = await file.read(bytes, done, Math.min(bytes.length - done, 1 << 30), start + done);
          if (bytesRead === 0)
            throw new Error(`${join(root, path)}: the file ended at byte ${start + done} while it was read`);
          done += bytesRead;
        }
        return bytes;
      } finally {
        await file.close();
      }
    },
    async size(path) {
      const info = await stat(join(root, path)).catch(() => undefined);
      return info?.isFile() ? info.size : undefined;
    },
    async write(path, chunks) {
      const target = join(root, path);
      const partial = `${target}.${process.pid}.${unique++}.partial`;
      await mkdir(dirname(target), { recursive: true });
      const file = await open(partial, "wx");
      try {
        for await (const chunk of chunks) await file.writeFile(chunk);
        await file.sync();
        await file.close();
        await rename(partial, target);
      } catch (error) {
        await file.close().catch(() => undefined); // already closed when the rename failed
        await rm(partial, { force: true });
        throw error;
      }
    },
  };
}
