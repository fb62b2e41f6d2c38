import { readFileSync } from "node:fs";
import { join } from "node:path";
import { listFiles, root } from "../../scripts/environment.mjs";

export const list: (folder: string, pattern: RegExp) => string[] = listFiles;

export const read = (path: string): string => readFileSync(join(root, path), "utf8");
