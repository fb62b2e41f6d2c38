import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { root } from "../../scripts/environment.mjs";

const skipped = new Set(["node_modules", "dist", ".build", ".cache", ".git", "goldens", "results"]);

/** Paths below the checkout's `folder` that match `pattern`, with `/` between parts, sorted. */
export function list(folder: string, pattern: RegExp): string[] {
  const paths: string[] = [];
  const walk = (path: string) => {
    for (const name of readdirSync(path)) {
      if (skipped.has(name)) continue;
      const child = join(path, name);
      if (statSync(child).isDirectory()) walk(child);
      else if (pattern.test(name)) paths.push(relative(root, child).split(sep).join("/"));
    }
  };
  walk(join(root, folder));
  return paths.sort();
}

export const read = (path: string): string => readFileSync(join(root, path), "utf8");

export const lines = (path: string): number => read(path).replace(/\n$/, "").split("\n").length;
