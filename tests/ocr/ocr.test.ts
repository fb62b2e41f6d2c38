/** Real pretrained weights: PP-OCRv4's recogniser from our modules gives what onnxruntime gave (examples/ocr/compare.ts). */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { decode, probabilities } from "../../examples/ocr/read.ts";
import { loadRecognizer, onnxConstants, recognizerFile } from "../../examples/ocr/weights.ts";
import { decodeImage } from "../../src/image/index.ts";
import { init, tensor } from "../../src/index.ts";

const folder = "examples/ocr/lines";
const expected: Record<string, { text: string; classes: number[][]; probabilities: number[][] }> = JSON.parse(
  readFileSync(`${folder}/expected.json`, "utf8"),
);

beforeAll(async () => {
  await init();
});

describe("PP-OCRv4", () => {
  const { model, characters } = loadRecognizer();

  test("every float constant of the file is a weight of ours", () => {
    const values = [...onnxConstants(readFileSync(recognizerFile)).values()].filter(({ shape }) => shape.length > 0);
    const total = values.reduce((sum, { data }) => sum + data.length, 0);
    expect(Object.values(model.stateDict()).reduce((sum, { numel }) => sum + numel, 0)).toBe(total);
  });

  test.each(Object.entries(expected))("%s line", async (line, want) => {
    const image = await decodeImage(readFileSync(`${folder}/${line}.png`));
    const found = probabilities(model, image);
    const data = Float32Array.from(await found.data());
    const count = characters.length;
    expect(found.shape).toEqual([1, want.classes.length, count]);
    want.classes.forEach((classes, t) => {
      classes.forEach((id, i) => expect(Math.abs(data[t * count + id] - want.probabilities[t][i])).toBeLessThan(1e-3));
      const rest = 1 - want.probabilities[t].reduce((a, b) => a + b, 0);
      const ours = data.subarray(t * count, (t + 1) * count).reduce((a, b) => a + b, 0);
      expect(Math.abs(ours - classes.reduce((sum, id) => sum + data[t * count + id], 0) - rest)).toBeLessThan(1e-3);
    });
    expect(decode(await found.argmax(-1).data(), characters)).toBe(want.text);
  });

  test("input of another height is refused", () => {
    expect(() => model.forward(tensor(new Float32Array(3 * 32 * 64), { shape: [1, 3, 32, 64] }))).toThrow(
      "pixels must be [B, 3, 48, W]",
    );
  });
});
