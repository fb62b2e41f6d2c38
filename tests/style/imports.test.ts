/** Which folder may import what: one table for all layers. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { list, read } from "./files.ts";

/** The sources of the entry points in package.json: what a user of the package can import. */
const entryPoints = Object.values<{ types?: string }>(JSON.parse(read("package.json")).exports).flatMap(({ types }) =>
  types ? types.replace("./dist/types/", "").replace(".d.ts", ".ts") : [],
);

const isEntryPoint = (path: string) => entryPoints.includes(path);
const inside = (...folders: string[]) => folders.map((folder) => `${folder}/`);

/** Files below `folder` must not import files below any of `forbidden`; entry points are exempt where `publicOnly`. */
interface Rule {
  readonly folder: string;
  readonly forbidden: readonly string[];
  readonly publicOnly?: boolean;
}

const rules: readonly Rule[] = [
  // Above src: only what a user of the package can import.
  { folder: "models", forbidden: inside("src", "kernels"), publicOnly: true },
  { folder: "scripts/cli", forbidden: inside("src", "kernels", "models"), publicOnly: true },
  { folder: "examples", forbidden: inside("src", "kernels", "models"), publicOnly: true },
  // src knows nothing of what is built on it.
  { folder: "src", forbidden: inside("models", "scripts", "examples", "bench", "tests") },
  // Rooms: text and image know no model; generation knows both; loading knows no architecture by value.
  { folder: "src/text", forbidden: inside("src/image", "src/generate", "src/data") },
  { folder: "src/image", forbidden: inside("src/text", "src/generate", "src/data") },
  { folder: "src/generate", forbidden: inside("src/data") },
  { folder: "src/data", forbidden: inside("src/image", "src/generate") },
  { folder: "src/nn", forbidden: inside("src/text", "src/image", "src/generate", "src/data") },
  { folder: "src/io", forbidden: inside("src/nn", "src/text", "src/image", "src/generate", "src/data") },
  { folder: "models/checkpoints", forbidden: inside("models/training", "models/evaluate", "models/chat") },
  { folder: "models/training", forbidden: inside("models/evaluate", "models/chat") },
];

/** Files that `path` imports or exports from, types included; with `values`, without imports of types alone. */
function imports(path: string, values = false): string[] {
  const statements =
    /(?:^|\n)\s*(?:import|export)\s+(type\s)?[^;"']*?from\s*["'](\.[^"']+)["']|import\(\s*["'](\.[^"']+)/g;
  return Array.from(read(path).matchAll(statements)).flatMap(([, type, from, dynamic]) =>
    values && type ? [] : [join(path, "..", from ?? dynamic)],
  );
}

function violations({ folder, forbidden, publicOnly = false }: Rule): string[] {
  return list(folder, /\.(ts|mjs)$/).flatMap((path) =>
    imports(path)
      .filter((target) => forbidden.some((prefix) => target.startsWith(prefix)))
      .filter((target) => !(publicOnly && isEntryPoint(target)))
      .map((target) => `${path} imports ${target}`),
  );
}

describe("imports", () => {
  test.each(rules)("$folder does not import $forbidden", (rule) => {
    expect(list(rule.folder, /\.(ts|mjs)$/).length).toBeGreaterThan(0);
    expect(violations(rule)).toEqual([]);
  });

  test("no folder of models, and no room of src, imports another that imports it back", () => {
    const rooms = ["models", "src/text", "src/image", "src/generate", "src/data", "src/nn", "src/io"];
    const arrows = new Set(
      rooms
        .flatMap((room) => list(room, /\.ts$/))
        .flatMap((path) => imports(path, true).map((target) => `${join(path, "..")} ${join(target, "..")}`)),
    );
    const both = [...arrows].filter((arrow) => {
      const [from, to] = arrow.split(" ");
      return from < to && arrows.has(`${to} ${from}`);
    });
    expect(both).toEqual([]);
  });

  test("the table finds an import of an inner file", () => {
    expect(violations({ folder: "src/text", forbidden: inside("src/io") })).not.toEqual([]);
    expect(violations({ folder: "models", forbidden: inside("src"), publicOnly: false })).not.toEqual([]);
  });
});
