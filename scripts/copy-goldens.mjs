// Copies a compact part (at most 5 MB) of the golden data into tests/goldens, so that a clone can check itself:
//   node scripts/copy-goldens.mjs [folder of the golden data]
// Whole cases of everything but: operations (small variants only), model gradients (small tensors only).
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const target = join(dirname(fileURLToPath(import.meta.url)), "../tests/goldens");
const source = process.argv[2] ?? process.env.SHADEGRAD_GOLDENS ?? join(target, "../../../shared/goldens");
if (!existsSync(join(source, "ops"))) throw new Error(`${source}: there is no golden data (expected ops/, models/, …)`);

const LIMIT = 5e6;
const VARIANT_BYTES = 8_000; // of an operation's variant; the smallest is always taken
const GRADIENT_BYTES = 50_000; // of a model, small tensors first
const kinds = ["conversation", "formats", "tokenizer", "preprocess", "training", "ops", "optim", "models"];
const whole = ["conversation", "formats", "tokenizer", "preprocess", "training"];
const optim = ["adamw", "adamw-clip", "adamw-groups", "adamw-cosine", "sgd-nesterov", "schedules"];
const models = ["llama-mha", "clip-vision", "llava-hf", "llava-original-linear", "llava-original-mlp2x"];

for (const kind of kinds) rmSync(join(target, kind), { recursive: true, force: true });
for (const kind of whole) copy(kind);
for (const name of optim) copy(`optim/${name}`);
for (const name of models) {
  copy(`models/${name}`);
  const grads = readTensors(join(source, "models", name, "grads.safetensors"));
  let room = GRADIENT_BYTES;
  const small = [...grads]
    .sort((a, b) => a.data.length - b.data.length)
    .filter(({ data }) => (room -= data.length) >= 0);
  writeTensors(join(target, "models", name, "grads.safetensors"), small);
}
for (const name of readdirSync(join(source, "ops"))) {
  const tensors = readTensors(join(source, "ops", name, "data.safetensors"));
  const json = JSON.parse(readFileSync(join(source, "ops", name, "case.json"), "utf8"));
  const belongs =
    (variant) =>
    ({ name: key }) =>
      key.startsWith(`${variant.name}/`);
  const sizes = json.variants.map((variant) => total(tensors.filter(belongs(variant))));
  const variants = json.variants.filter((_, i) => sizes[i] <= VARIANT_BYTES || sizes[i] === Math.min(...sizes));
  mkdirSync(join(target, "ops", name), { recursive: true });
  writeFileSync(join(target, "ops", name, "case.json"), `${JSON.stringify({ ...json, variants })}\n`);
  writeTensors(
    join(target, "ops", name, "data.safetensors"),
    tensors.filter((tensor) => variants.some((variant) => belongs(variant)(tensor))),
  );
}

const bytes = kinds.reduce((sum, kind) => sum + folderBytes(join(target, kind)), 0);
console.log(`${(bytes / 1e6).toFixed(2)} MB in ${target}`);
if (bytes > LIMIT) throw new Error(`the copy has ${bytes} bytes, more than ${LIMIT}`);

/** Copies a folder with its JSON packed. */
function copy(path) {
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
