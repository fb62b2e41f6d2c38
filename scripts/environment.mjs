// Functions that several scripts need. Imports only Node's modules, because it runs before `npm ci`.
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The environment of child processes: Vulkan drivers warn, and some fail, without XDG_RUNTIME_DIR. */
export function childEnvironment() {
  const env = { ...process.env };
  if (!env.XDG_RUNTIME_DIR) env.XDG_RUNTIME_DIR = runtimeFolder(tmpdir());
  return env;
}

let privateFolder;

/** A folder in `parent` that only this user can use. Another user may own the fixed name in /tmp; then the name is random. */
export function runtimeFolder(parent) {
  const fixed = join(parent, `shadegrad-xdg-${process.getuid?.() ?? 0}`);
  try {
    mkdirSync(fixed, { mode: 0o700 });
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  if (ownedAlone(fixed)) return fixed;
  if (privateFolder === undefined) {
    privateFolder = mkdtempSync(join(parent, "shadegrad-xdg-"));
    process.on("exit", () => rmSync(privateFolder, { recursive: true, force: true }));
  }
  return privateFolder;
}

/** Whether `path` is a folder (no link) of this user without rights for others. Windows has neither users nor rights here. */
function ownedAlone(path) {
  const info = lstatSync(path);
  if (!info.isDirectory()) return false;
  return process.getuid === undefined || (info.uid === process.getuid() && (info.mode & 0o077) === 0);
}

/** As in src/runtime/node.ts, which cannot hold these lines back where stderr is a socket or a file on disk. */
export const LIMIT_WARNING =
  /^Warning: maxDynamic(?:Uniform|Storage)BuffersPerPipelineLayout artificially reduced from \d+ to \d+ to fit dynamic offset allocation limit\.\r?\n/gm;

/**
 * A filter for text that comes in pieces: gives back each without Dawn's limit warnings. It holds back only a last line
 * that may yet become one, as the C library of newer systems writes a warning in two pieces.
 */
export function limitWarningFilter() {
  let held = "";
  return (piece) => {
    const text = held + piece;
    const lastLine = text.slice(text.lastIndexOf("\n") + 1);
    held = lastLine.startsWith("Warning: maxDynamic") ? lastLine : "";
    return text.slice(0, text.length - held.length).replace(LIMIT_WARNING, "");
  };
}

const foreign = new Set(["node_modules", "dist", ".build", ".cache", ".git", "goldens", "results"]);

/** The project's files in `folder` whose names match `pattern`: sorted paths relative to the checkout, with `/`. */
export function listFiles(folder, pattern) {
  const paths = [];
  const walk = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) {
        if (!foreign.has(entry.name) || child === join(root, "tests/goldens")) walk(child);
      } else if (pattern.test(entry.name)) paths.push(relative(root, child).split(sep).join("/"));
    }
  };
  walk(join(root, folder));
  return paths.sort();
}
