// Entry points of package.json, and the esbuild options that all bundles of the library share.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./environment.mjs";

export const nodeOnly = join(root, "src/runtime/node.ts");

/**
 * Source files of the entry points, by the exports map of package.json: { index: "src/index.ts", nn: "src/nn/index.ts" }.
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
 * Makes the one file that needs Node the import "#node". package.json maps it to that file in Node, Deno and Bun, and to a stub
 * elsewhere: bundlers for browsers never see a Node module.
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
  // Two packages (tokenizers and chat templates) are bundled. Their licences go to the end of the file.
  legalComments: "eof",
  charset: "utf8",
  loader: { ".wgsl": "text" },
  metafile: true,
  logLevel: "warning",
};
