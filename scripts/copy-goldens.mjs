// Copies part of the golden data (at most 8 MB) to tests/goldens, so that a clone can test itself:
//   node scripts/copy-goldens.mjs [folder with goldens, goldens-torch and goldens-family]
// Copies cases whole, except operations (small variants only) and gradients of models (small tensors only).
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const target = join(dirname(fileURLToPath(import.meta.url)), "../tests/goldens");
const shared = process.argv[2] ?? join(target, "../../../shared");

const LIMIT = 8e6;
const GRADIENT_BYTES = 50_000; // of a model, small tensors first
/** What is copied of each root. `variantBytes`: most bytes of an operation's variant. The smallest variant is always copied. */
const parts = [
  {
    from: "goldens",
    to: ".",
    variantBytes: 8_000,
    whole: ["conversation", "formats", "tokenizer", "preprocess", "training"].concat(
      ["adamw", "adamw-clip", "adamw-groups", "adamw-cosine", "sgd-nesterov", "schedules"].map(
        (name) => `optim/${name}`,
      ),
    ),
    models: ["llama-mha", "clip-vision", "llava-hf", "llava-original-linear", "llava-original-mlp2x"],
  },
  {
    from: "goldens-torch",
    to: "torch",
    variantBytes: 3_000,
    whole: ["autograd", "nn"].concat(
      ["adam", "adamw-amsgrad", "lion", "muon", "sgd-dampening", "schedulers"].map((name) => `optim/${name}`),
    ),
    models: [],
  },
  {
    from: "goldens-family",
    to: "family",
    variantBytes: 0,
    whole: ["asm-region", "ms-deform-attn", "roi-align", "kosmos2-processing"].map((name) => `models/${name}`),
    models: [],
  },
];

let bytes = 0;
for (const { from, to, variantBytes, whole, models } of parts) {
  const source = join(shared, from);
  if (!existsSync(source)) throw new Error(`${source}: there is no golden data`);
  const kinds = readdirSync(source, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of kinds) rmSync(join(target, to, name), { recursive: true, force: true });
  for (const path of whole) copy(source, path, join(target, to));
  for (const name of models) {
    copy(source, `models/${name}`, join(target, to));
    let room = GRADIENT_BYTES;
    const small = readTensors(join(source, "models", name, "grads.safetensors"))
      .sort((a, b) => a.data.length - b.data.length)
      .filter(({ data }) => (room -= data.length) >= 0);
    writeTensors(join(target, to, "models", name, "grads.safetensors"), small);
  }
  if (existsSync(join(source, "ops")))
    for (const name of readdirSync(join(source, "ops")))
      copyVariants(source, `ops/${name}`, join(target, to), variantBytes);
  for (const { name } of kinds) if (existsSync(join(target, to, name))) bytes += folderBytes(join(target, to, name));
}
console.log(`${(bytes / 1e6).toFixed(2)} MB in ${target}`);
if (bytes > LIMIT) throw new Error(`the copy has ${bytes} bytes, more than ${LIMIT}`);

/** Copies the variants of an operation that have at most `most` bytes, at least the smallest. */
function copyVariants(source, path, target, most) {
  const tensors = readTensors(join(source, path, "data.safetensors"));
  const json = JSON.parse(readFileSync(join(source, path, "case.json"), "utf8"));
  const belongs =
    (variant) =>
    ({ name: key }) =>
      key.startsWith(`${variant.name}/`);
  const sizes = json.variants.map((variant) => total(tensors.filter(belongs(variant))));
  const variants = json.variants.filter((_, i) => sizes[i] <= most || sizes[i] === Math.min(...sizes));
  mkdirSync(join(target, path), { recursive: true });
  writeFileSync(join(target, path, "case.json"), `${JSON.stringify({ ...json, variants })}\n`);
  writeTensors(
    join(target, path, "data.safetensors"),
    tensors.filter((tensor) => variants.some((variant) => belongs(variant)(tensor))),
  );
}

/** Copies a folder. Its JSON is written without whitespace. */
function copy(source, path, target) {
  for (const entry of readdirSync(join(source, path), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const from = join(entry.parentPath, entry.name);
    const to = join(target, relative(source, from));
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(
      to,
      entry.name.endsWith(".json") ? `${JSON.stringify(JSON.parse(readFileSync(from, "utf8")))}\n` : readFileSync(from),
    );
  }
}

function readTensors(file) {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...entries } = JSON.parse(bytes.subarray(8, 8 + length).toString());
  return Object.entries(entries).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [from, to],
      },
    ]) => ({
      name,
      dtype,
      shape,
      data: bytes.subarray(8 + length + from, 8 + length + to),
    }),
  );
}

function writeTensors(file, tensors) {
  let offset = 0;
  const header = {};
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const head = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, 0x20);
  head.writeBigUInt64LE(BigInt(head.length - 8));
  text.copy(head, 8);
  writeFileSync(file, Buffer.concat([head, ...tensors.map(({ data }) => data)]));
}

function total(tensors) {
  return tensors.reduce((sum, { data }) => sum + data.length, 0);
}

function folderBytes(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
