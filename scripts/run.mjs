// Runs a TypeScript file with Node: `node scripts/run.mjs file.ts [arguments]`.
import { spawn } from "node:child_process";
import { existsSync, fstatSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { isatty } from "node:tty";
import { pathToFileURL } from "node:url";
import { childEnvironment, limitWarningFilter, root } from "./environment.mjs";

/** Source files of the entry points of package.json, by the name that a user imports. Long names come first. */
function sourcesOf(name) {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const entries = Object.entries(exports).filter(([, { types }]) => types);
  const source = ({ types }) => join(root, types.replace("./dist/types/", "").replace(".d.ts", ".ts"));
  return Object.fromEntries(entries.map(([path, entry]) => [path.replace(".", name), source(entry)]).reverse());
}

/** Bundles `file` into .build/, with .wgsl imports as strings, and returns the path of the bundle. */
export async function bundle(file) {
  const { build } = await import("esbuild");
  const entry = resolve(file);
  const outfile = join(
    root,
    ".build",
    relative(root, entry)
      .replace(/[\\/]|\.\./g, "_")
      .replace(/\.m?ts$/, "") + ".mjs",
  );
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    loader: { ".wgsl": "text" },
    sourcemap: "inline",
    logLevel: "warning",
    // Examples import the package by name, as a user's code does: the name means this checkout.
    alias: sourcesOf("shadegrad"),
  });
  return outfile;
}

/** Runs `file` in a child process and returns its exit code. */
export async function run(file, args = [], nodeOptions = []) {
  const outfile = await bundle(file);
  const filter = !isatty(2) && !fstatSync(2).isFIFO();
  const child = spawn(process.execPath, ["--enable-source-maps", ...nodeOptions, outfile, ...args], {
    stdio: ["inherit", "inherit", filter ? "pipe" : "inherit"],
    env: childEnvironment(),
  });
  if (filter) {
    const kept = limitWarningFilter();
    child.stderr.setEncoding("utf8").on("data", (text) => process.stderr.write(kept(text)));
    child.stderr.on("end", () => process.stderr.write(kept("\n").slice(0, -1)));
  }
  process.on("SIGINT", () => {}); // the child gets it too, and decides when to exit
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  return new Promise((done, fail) => {
    child.on("error", fail);
    child.on("close", (code, signal) => done(code ?? (signal === "SIGINT" ? 130 : 1)));
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) {
  // Flags before the file go to Node: `node scripts/run.mjs --expose-gc bench/train.ts`.
  const args = process.argv.slice(2);
  const at = args.findIndex((arg) => !arg.startsWith("-"));
  if (at < 0 || !existsSync(args[at])) {
    console.error(
      at < 0 ? "usage: node scripts/run.mjs [node flags] file.ts [arguments]" : `run: no such file: ${args[at]}`,
    );
    process.exit(2);
  }
  process.exitCode = await run(args[at], args.slice(at + 1), args.slice(0, at));
}
