// `npm run features`: writes FEATURES.md from the exports of the package's entry points.
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { listFiles, root } from "../environment.mjs";
import { groups } from "./rows.mjs";

/** Entry points and classes that are searched for each group of PyTorch's names. */
const PLACES = {
  nn: { entries: ["shadegrad/nn"], classes: ["Module"] },
  init: { entries: ["shadegrad/nn"], classes: [] },
  optim: { entries: ["shadegrad/nn"], classes: ["Optimizer"] },
  data: { entries: ["shadegrad", "shadegrad/data", "shadegrad/io"], classes: [] },
};
const ELSE = { entries: ["shadegrad", "shadegrad/nn/functional", "shadegrad/custom"], classes: ["Tensor"] };

/** Names that PyTorch uses for something else. */
const OTHER_MEANING = { linalg: ["`trace` in `shadegrad`"], functional: ["`Tensor.unfold`"] };

const TITLES = {
  creation: "Creation",
  unary: "Elementwise, one operand",
  binary: "Elementwise, several operands",
  reduce: "Reductions",
  shape: "Shapes",
  index: "Indexing",
  linalg: "Linear algebra",
  autograd: "Gradients",
  tensor: "Tensor",
  functional: "Functions of `torch.nn.functional`",
  nn: "Modules",
  init: "Initialisation",
  optim: "Optimisers and schedules",
  data: "Data",
};

/** Every entry point's exports: { "shadegrad/nn": module }. */
async function entryPoints() {
  const { name, exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const sources = Object.entries(exports).flatMap(([key, { types }]) =>
    types ? [[join(name, key), join(root, types.replace("./dist/types/", "").replace(".d.ts", ".ts"))]] : [],
  );
  const outfile = join(root, ".build/features.mjs");
  await build({
    stdin: {
      contents: sources
        .map(([key, file]) => `export * as ${JSON.stringify(key)} from ${JSON.stringify(file)};`)
        .join("\n"),
      resolveDir: root,
    },
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    loader: { ".wgsl": "text" },
    logLevel: "warning",
  });
  return { ...(await import(`${pathToFileURL(outfile).href}?${process.hrtime.bigint()}`)) };
}

/** Names of a class's own and inherited members. */
function members(value) {
  const names = [];
  for (let p = value.prototype; p && p !== Object.prototype; p = Object.getPrototypeOf(p))
    names.push(...Object.getOwnPropertyNames(p));
  return new Set(names);
}

/** Where a name is exported: "`where` in `shadegrad`", "`Tensor.where`", "`linalg.svd` in `shadegrad`". */
function placesOf(name, entries, { entries: allowed, classes }) {
  const found = [];
  for (const entry of allowed) {
    const exports = entries[entry] ?? {};
    if (name in exports) found.push(`\`${name}\` in \`${entry}\``);
    for (const [space, value] of Object.entries(exports))
      if (value && typeof value === "object" && Object.hasOwn(value, name))
        found.push(`\`${space}.${name}\` in \`${entry}\``);
  }
  for (const kind of classes)
    if (Object.values(entries).some((exports) => exports[kind] && members(exports[kind]).has(name)))
      found.push(`\`${kind}.${name}\``);
  return found;
}

/** Whether the proof of a row exists. */
function proved(proof, entries, files) {
  if (/\.(test\.ts|wgsl)$/.test(proof)) return files.some((path) => path.endsWith(`/${proof}`));
  const [name, member] = proof.split(".");
  return Object.values(entries).some(
    (exports) => name in exports && (member === undefined || members(exports[name]).has(member)),
  );
}

const mark = (there) => (there ? "✓" : "✗");

/** Why names of torch are not there. */
const WHY_NOT = {
  vmap: "needs a rule for the batch dim in every op; a loop over slices would build one graph per slice",
};

/** Contents of FEATURES.md. */
export async function features() {
  const entries = await entryPoints();
  const lists = JSON.parse(readFileSync(join(root, "scripts/features/torch-names.json"), "utf8"));
  const files = [...listFiles("kernels", /\.wgsl$/), ...listFiles("tests", /\.test\.ts$/)];

  const missing = groups.flatMap(([, rows]) => rows.filter(([, proof]) => proof && !proved(proof, entries, files)));
  if (missing.length > 0)
    throw new Error(
      `features: scripts/features/rows.mjs names what is not there: ${missing.map(([what, proof]) => `${proof} (${what})`).join(", ")}`,
    );

  const other = groups.flatMap(([title, rows]) => [
    `## ${title}`,
    "| | | |",
    "| :-: | --- | --- |",
    ...rows.map(([what, proof, remark = ""]) => `| ${mark(proof)} | ${what} | ${remark} |`),
    "",
  ]);
  const torch = Object.entries(lists).map(([group, names]) => {
    const rows = names.map((alternatives) => {
      const all = alternatives.split("|");
      const found = all
        .flatMap((name) => placesOf(name, entries, PLACES[group] ?? ELSE))
        .filter((place) => !OTHER_MEANING[group]?.includes(place));
      return { name: all[0], found };
    });
    return { title: TITLES[group], rows, there: rows.filter(({ found }) => found.length > 0).length };
  });
  const [there, of] = torch.reduce(([a, b], { there, rows }) => [a + there, b + rows.length], [0, 0]);
  const summary = torch.map(({ title, rows, there }) => {
    const without = rows.filter(({ found }) => found.length === 0).map(({ name }) => `\`${name}\``);
    return `| ${title} | ${there} of ${rows.length} | ${without.join(" ")} |`;
  });
  return `${[
    "# Features",
    "",
    "What is there (✓) and what is not (✗). `npm run features` writes this page from the exports of the package; a test " +
      "asserts that it is current. A ✓ stands for an export, a kernel or a test (`scripts/features/rows.mjs`).",
    "",
    `Contents: ${groups.map(([title]) => `[${title}](#${title.toLowerCase().replaceAll(" ", "-")})`).join(" · ")} · [PyTorch's names](#pytorchs-names)`,
    "",
    ...other,
    "## PyTorch's names",
    `${there} of ${of} everyday names of PyTorch are there. Names are torch's in camelCase. Values change in place only through ` +
      "`assign` and optimisers, so there are no names with a trailing underscore.",
    "",
    "| group | there | not there |",
    "| --- | ---: | --- |",
    ...summary,
    "",
    ...torch.flatMap(({ title, rows }) => [
      `### ${title}`,
      "| | torch's name | here |",
      "| :-: | --- | --- |",
      ...rows.map(
        ({ name, found }) => `| ${mark(found.length)} | \`${name}\` | ${found.join(", ") || (WHY_NOT[name] ?? "")} |`,
      ),
      "",
    ]),
  ]
    .join("\n")
    .trimEnd()}\n`;
}

if (process.argv[1] && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) {
  writeFileSync(join(root, "FEATURES.md"), await features());
  console.log("FEATURES.md written");
}
