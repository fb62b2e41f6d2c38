// What every bundle of the library shares: the entry points of package.json, and how they are bundled.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./environment.mjs";

export const nodeOnly = join(root, "src/runtime/node.ts");

/**
 * The sources behind the entry points, read from the exports map: { index: "src/index.ts", nn: "src/nn/index.ts" }.
 * @returns {Record<string, string>}
 */
export function entryPoints() {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const entries = {};
  for (const target of Object.values(exports)) {
    if (!target.types) continue;
    const name = target.default.replace("./dist/", "").replace(".js", "");
    entries[name] = join(root, target.types.replace("./dist/types/", "").replace(".d.ts", ".ts"));
  }
  return entries;
}

/**
 * The one file that needs Node becomes the import "#node": package.json maps it to itself under Node, Deno and Bun,
 * and to a stub elsewhere, so that bundlers for browsers never meet a Node module.
 */
export const nodeApart = {
  name: "node-apart",
  setup({ onResolve }) {
    onResolve({ filter: /\/node\.ts$/ }, ({ path, resolveDir }) =>
      join(resolveDir, path) === nodeOnly ? { path: "#node", external: true } : undefined,
    );
  },
};

/** @type {import("esbuild").BuildOptions} */
export const shared = {
  bundle: true,
  format: "esm",
  target: "es2023",
  // The two packages of the library (tokenizers and chat templates) are taken in, with their licences at the end.
  legalComments: "eof",
  charset: "utf8",
  loader: { ".wgsl": "text" },
  metafile: true,
  logLevel: "warning",
};
