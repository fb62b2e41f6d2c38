// `npm run lint` checks rules and format of every source file with Biome. `npm run format` also writes safe fixes.
// Biome runs as WebAssembly: its command is a native package per platform, which some registry mirrors lack.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Biome } from "@biomejs/js-api/nodejs";
import { listFiles, root } from "./environment.mjs";

const args = process.argv.slice(2);
const write = args.includes("--write");
const paths = args.filter((arg) => !arg.startsWith("--"));
const files = listFiles(".", /\.(ts|mjs)$/).filter(
  (file) => paths.length === 0 || paths.some((p) => file.startsWith(p)),
);

const biome = new Biome();
const { projectKey } = biome.openProject("/");
biome.applyConfiguration(projectKey, JSON.parse(readFileSync(join(root, "biome.json"), "utf8")));

let problems = 0;
for (const filePath of files) {
  const source = readFileSync(join(root, filePath), "utf8");
  const linted = biome.lintContent(projectKey, source, { filePath, ...(write && { fixFileMode: "safeFixes" }) });
  const formatted = biome.formatContent(projectKey, write ? linted.content : source, { filePath });
  const broken = [...linted.diagnostics, ...formatted.diagnostics].filter(
    (d) =>
      !d.category?.startsWith("assist") &&
      (d.severity === "error" || d.severity === "fatal" || d.severity === "warning"),
  );
  for (const { category, description, location } of broken) {
    const line = Buffer.from(source)
      .subarray(0, location.span?.[0] ?? 0)
      .toString()
      .split("\n").length;
    console.log(`${filePath}:${line} ${category} ${description}`);
  }
  problems += broken.length;
  if (formatted.content === source || formatted.content === "") continue;
  if (write) writeFileSync(join(root, filePath), formatted.content);
  else {
    problems++;
    console.log(`${filePath}: not formatted (npm run format)`);
  }
}
console.log(`${files.length} files, ${problems} problems`);
process.exitCode = problems > 0 ? 1 : 0;
