/**
 * `node scripts/run.mjs examples/ocr/compare.ts [--write]`: compares all probabilities of the lines with onnxruntime's
 * (`npm i --no-save onnxruntime-node`). `--write` keeps its likeliest classes for the test that runs without it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { decodeImage } from "../../src/image/index.ts";
import { init } from "../../src/index.ts";
import { decode, linePixels, probabilities } from "./read.ts";
import { loadRecognizer, recognizerFile } from "./weights.ts";

const LINES = ["chinese", "english", "mixed"];
const KEPT = 5;
const folder = "examples/ocr/lines";

/** The part of onnxruntime-node that is used here. It is not one of the project's packages. */
interface Runtime {
  InferenceSession: {
    create(model: Uint8Array): Promise<{
      run(inputs: Record<string, unknown>): Promise<Record<string, { data: Float32Array; dims: number[] }>>;
    }>;
  };
  Tensor: new (type: "float32", data: Float32Array, dims: readonly number[]) => unknown;
}
const name = "onnxruntime-node";
const ort = (await import(name)).default as Runtime;

await init();
const { model, characters } = loadRecognizer();
const session = await ort.InferenceSession.create(readFileSync(recognizerFile));
const expected: Record<string, { text: string; classes: number[][]; probabilities: number[][] }> = {};
for (const line of LINES) {
  const image = await decodeImage(readFileSync(`${folder}/${line}.png`));
  const { data, shape } = linePixels(image);
  const [theirs] = Object.values(await session.run({ x: new ort.Tensor("float32", data, shape) }));
  const ours = await probabilities(model, image).data();
  const difference = theirs.data.reduce((most, value, i) => Math.max(most, Math.abs(value - ours[i])), 0);
  const [, positions, classes] = theirs.dims;
  const rows = Array.from({ length: positions }, (_, t) => {
    const row = theirs.data.subarray(t * classes, (t + 1) * classes);
    return Array.from(row, (p, id) => ({ p, id }))
      .sort((a, b) => b.p - a.p)
      .slice(0, KEPT);
  });
  const text = decode(
    rows.map((row) => row[0].id),
    characters,
  );
  console.log(
    `${line}: ${positions} x ${classes} probabilities, largest difference ${difference.toExponential(1)}, "${text}"`,
  );
  expected[line] = {
    text,
    classes: rows.map((row) => row.map(({ id }) => id)),
    probabilities: rows.map((row) => row.map(({ p }) => Number(p.toPrecision(7)))),
  };
}
if (process.argv.includes("--write")) writeFileSync(`${folder}/expected.json`, `${JSON.stringify(expected)}\n`);
