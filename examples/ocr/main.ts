/** `npm run ocr -- line.png …`: reads lines of Chinese and English text with the published weights of PP-OCRv4. */
import { readFileSync } from "node:fs";
import { decodeImage } from "../../src/image/index.ts";
import { init } from "../../src/index.ts";
import { readLine } from "./read.ts";
import { loadRecognizer } from "./weights.ts";

const files = process.argv.slice(2);
try {
  if (files.length === 0)
    throw new Error("give image files with one line of text each, e.g. examples/ocr/lines/mixed.png");
  await init();
  const { model, characters } = loadRecognizer();
  for (const file of files) {
    const image = await decodeImage(readFileSync(file));
    console.log(`${file}: ${await readLine(model, characters, image)}`);
  }
} catch (error) {
  console.error(`ocr: ${(error as Error).message}`);
  process.exitCode = 1;
}
