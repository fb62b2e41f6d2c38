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
  { folder: "bench", forbidden: inside("src", "models", "examples", "tests"), publicOnly: true }, // files of kernels/ are public
  // src knows nothing of what is built on it.
  { folder: "src", forbidden: inside("models", "scripts", "examples", "bench", "tests") },
  // Text and image know no model; generation knows both; loading knows no architecture by value.
  { folder: "src/text", forbidden: inside("src/image", "src/generate", "src/data") },
  { folder: "src/image", forbidden: inside("src/text", "src/generate", "src/data") },
  { folder: "src/generate", forbidden: inside("src/data") },
  { folder: "src/data", forbidden: inside("src/image", "src/generate") },
  { folder: "src/nn", forbidden: inside("src/text", "src/image", "src/generate", "src/data") },
  { folder: "src/io", forbidden: inside("src/nn", "src/text", "src/image", "src/generate", "src/data") },
  { folder: "models/checkpoints", forbidden: inside("models/training", "models/evaluate", "models/chat") },
  { folder: "models/training", forbidden: inside("models/evaluate", "models/chat") },
  // The layers of src, from the bottom up. tensor and ops are the one knot: methods call ops, ops build tensors.
  ...layers(
    ["graph"],
    ["reference", "lowering"],
    ["compile"],
    ["runtime"],
    ["tensor", "ops"],
    ["custom"],
    ["bench"],
    ["io"],
    ["nn"],
    ["text", "image", "generate", "data"],
  ),
  { folder: "src/reference", forbidden: inside("src/lowering", "kernels") },
  { folder: "src/lowering", forbidden: inside("src/reference", "kernels") },
  { folder: "kernels", forbidden: inside("src") },
  // What lies below the compiler knows no kernel files; ops leave the choice of kernels to lowerings.
  { folder: "src/graph", forbidden: inside("kernels") },
  { folder: "src/ops", forbidden: inside("kernels", "src/compile", "src/lowering") },
  { folder: "src/tensor", forbidden: inside("kernels", "src/compile", "src/lowering") },
];

/** No layer imports one above it. */
function layers(...levels: readonly string[][]): Rule[] {
  return levels.slice(0, -1).flatMap((level, i) =>
    level.map((folder) => ({
      folder: `src/${folder}`,
      forbidden: inside(
        ...levels
          .slice(i + 1)
          .flat()
          .map((above) => `src/${above}`),
      ),
    })),
  );
}

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

  test("no two folders above the tensors import each other", () => {
    const folders = ["models", "src/text", "src/image", "src/generate", "src/data", "src/nn", "src/io"];
    const arrows = new Set(
      folders
        .flatMap((folder) => list(folder, /\.ts$/))
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

  test.each([
    { by: "values", most: 14, values: true },
    { by: "values and types", most: 16, values: false },
  ])("the largest knot by $by has at most $most files: Tensor, and the ops that its methods call", (rule) => {
    const knot = largestKnot(rule.values);
    console.log(`largest import knot by ${rule.by}: ${knot.length} files: ${knot.join(" ")}`);
    expect(knot.length).toBeGreaterThan(1); // Tensor and its ops at least, or the search finds nothing
    expect(knot.length).toBeLessThanOrEqual(rule.most);
    expect(knot.filter((path) => !/^src\/(tensor|ops)\//.test(path))).toEqual([]);
  });
});

/** The largest set of files of src that all import each other, directly or not (Tarjan's algorithm). */
function largestKnot(values: boolean): string[] {
  const files = list("src", /\.ts$/);
  const edges = new Map(files.map((path) => [path, imports(path, values).filter((target) => files.includes(target))]));
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  let largest: string[] = [];
  const visit = (path: string): void => {
    index.set(path, index.size);
    low.set(path, index.get(path)!);
    stack.push(path);
    for (const target of edges.get(path)!) {
      if (!index.has(target)) visit(target);
      if (stack.includes(target)) low.set(path, Math.min(low.get(path)!, low.get(target)!));
    }
    if (low.get(path) !== index.get(path)) return;
    const knot = stack.splice(stack.indexOf(path));
    if (knot.length > largest.length) largest = knot;
  };
  for (const path of files) if (!index.has(path)) visit(path);
  return largest.sort();
}
