/** The package as a user gets it: built, packed, unpacked in a folder of its own, next to the README's example. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { childEnvironment, root } from "../../scripts/environment.mjs";

export const folder = join(root, ".build/smoke");
export const installed = join(folder, "node_modules/shadegrad");

/** The README's first TypeScript block. It has no type annotations, so that it runs everywhere as it is. */
export function readmeExample(): string {
  const block = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, "README.md"), "utf8"));
  if (!block) throw new Error("README.md has no ```ts block");
  return block[1];
}

/** The README's page: its import map, and its module. */
export function readmePage(): { importMap: object; module: string } {
  const [, page] = /```html\n([\s\S]*?)```/.exec(readFileSync(join(root, "README.md"), "utf8")) ?? [];
  const script = (type: string): string | undefined =>
    new RegExp(`<script type="${type}">([\\s\\S]*?)</script>`).exec(page ?? "")?.[1];
  const [importMap, module] = [script("importmap"), script("module")];
  if (!importMap || !module) throw new Error("README.md has no ```html block with an import map and a module");
  return { importMap: JSON.parse(importMap), module };
}

const npm = (args: string[]) =>
  execFileSync("npm", args, {
    cwd: root,
    encoding: "utf8",
    env: childEnvironment(),
    shell: process.platform === "win32",
  });

/** Builds and unpacks the package; returns the paths of its files. */
export function installPackage(): string[] {
  execFileSync(process.execPath, [join(root, "scripts/build.mjs")], { cwd: root, stdio: "pipe" });
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(installed, { recursive: true });
  const [packed] = JSON.parse(npm(["pack", "--json", "--ignore-scripts", "--pack-destination", folder]));
  execFileSync("tar", ["-xzf", packed.filename, "-C", installed, "--strip-components=1"], { cwd: folder });
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", dependencies: { shadegrad: "*" } }));
  writeFileSync(join(folder, "example.mjs"), readmeExample());
  writeFileSync(join(folder, "example.ts"), readmeExample());
  return packed.files.map((file: { path: string }) => file.path);
}

/** The numbers that the example prints, one a line. */
export function losses(output: string): number[] {
  const lines = output.trim().split("\n");
  const values = lines.map((line) => Number(line.trim().split(/\s+/).at(-1)));
  if (!values.every((value) => Number.isFinite(value))) throw new Error(`not losses:\n${output}`);
  return values;
}
