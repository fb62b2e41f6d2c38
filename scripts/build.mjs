// `npm run build`: dist/ with one ES module per entry point of package.json, shared chunks and declarations.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { build } from "esbuild";
import { entryPoints, nodeApart, nodeOnly, shared } from "./bundle-options.mjs";
import { root } from "./environment.mjs";

const dist = join(root, "dist");
rmSync(dist, { recursive: true, force: true });
const main = await build({
  ...shared,
  entryPoints: entryPoints(),
  outdir: dist,
  splitting: true, // a program has one engine, whichever entry points it imports
  platform: "neutral", // an import of a Node module is an error here
  chunkNames: "chunk-[hash]",
  plugins: [nodeApart],
});
const node = await build({ ...shared, entryPoints: [nodeOnly], outfile: join(dist, "node.js"), platform: "node" });
/** The command line imports the built entry points: it shares their engine, and can use only what users can import. */
const libraryApart = {
  name: "library-apart",
  setup({ onResolve }) {
    const names = Object.entries(entryPoints());
    onResolve({ filter: /^\.\.?\// }, ({ path, resolveDir }) => {
      const entry = names.find(([, file]) => file === join(resolveDir, path));
      return entry && { path: `./${entry[0]}.js`, external: true };
    });
  },
};
const cli = await build({
  ...shared,
  entryPoints: { cli: join(root, "scripts/cli/main.ts") },
  outdir: dist,
  platform: "node",
  banner: { js: "#!/usr/bin/env node" },
  plugins: [libraryApart],
});
const outside = Object.keys(cli.metafile.inputs).filter((path) => !path.startsWith("scripts/cli/"));
if (outside.length > 0) throw new Error(`the command line may import entry points of the library only, not ${outside}`);
writeFileSync(join(dist, "node-absent.js"), `throw new Error("files on disk need Node, Deno or Bun");\n`);

const packages = new Set(
  Object.keys(main.metafile.inputs).flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []),
);
writeFileSync(
  join(dist, "THIRD-PARTY.txt"),
  [...packages]
    .map((name) => `${name}\n\n${readFileSync(join(root, "node_modules", name, "LICENSE"), "utf8")}`)
    .join("\n\n"),
);
// path.ts has no state, so a second copy in node.js is harmless.
const inputs = Object.keys(node.metafile.inputs).filter((path) => path !== "src/runtime/path.ts");
if (inputs.length > 1)
  throw new Error(`${relative(root, nodeOnly)} must import types only, but imports ${inputs.join(", ")}`);
if (main.warnings.length + node.warnings.length + cli.warnings.length > 0) process.exit(1);

const tsc = join(root, "node_modules/typescript/bin/tsc");
const types = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
if (types.status !== 0) process.exit(1);

const outputs = Object.entries({ ...main.metafile.outputs, ...node.metafile.outputs, ...cli.metafile.outputs });
console.log(outputs.map(([file, { bytes }]) => `${file} ${(bytes / 1024).toFixed(0)} KB`).join("\n"));
