// What every script needs to know of the machine. Node's own modules only: it runs before `npm ci`.
import { mkdirSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The environment of child processes: Vulkan drivers warn, and some fail, without XDG_RUNTIME_DIR. */
export function childEnvironment() {
  const env = { ...process.env };
  if (!env.XDG_RUNTIME_DIR) {
    env.XDG_RUNTIME_DIR = join(tmpdir(), `shadegrad-xdg-${process.getuid?.() ?? 0}`);
    mkdirSync(env.XDG_RUNTIME_DIR, { recursive: true, mode: 0o700 });
  }
  return env;
}

const foreign = new Set(["node_modules", "dist", ".build", ".cache", ".git", "goldens", "results"]);

/** The project's own files below `folder` whose names match `pattern`: paths from the checkout with `/`, sorted. */
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
