// What every script needs to know of the machine. Node's own modules only: it runs before `npm ci`.
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The environment of child processes: Vulkan drivers warn, and some fail, without XDG_RUNTIME_DIR. */
export function childEnvironment(extra = {}) {
  const env = { ...process.env, ...extra };
  if (!env.XDG_RUNTIME_DIR) {
    env.XDG_RUNTIME_DIR = join(tmpdir(), `shadegrad-xdg-${process.getuid?.() ?? 0}`);
    mkdirSync(env.XDG_RUNTIME_DIR, { recursive: true, mode: 0o700 });
  }
  return env;
}
