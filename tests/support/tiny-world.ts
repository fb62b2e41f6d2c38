/** A tiny LLaVA on disk and data for it: coloured squares with a caption and a question each. */
import { cpSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { Llava } from "../../models/llava.ts";
import { root } from "../../scripts/environment.mjs";
import { manualSeed } from "../../src/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { tinyConfig } from "./tiny-llava.ts";

export const tokenizer = join(root, "tests/goldens/conversation/llava/tokenizer");

export const config = tinyConfig({
  text: { vocab_size: 640, hidden_size: 32, intermediate_size: 64, rms_norm_eps: 1e-5 },
  vision: { hidden_size: 16, intermediate_size: 24, image_size: 16, patch_size: 8 },
  image_token_index: -200,
  mm_projector_type: "linear",
});

const colours = { red: [220, 30, 30], green: [30, 200, 40], blue: [30, 40, 220], white: [250, 250, 250] } as const;
export type Colour = keyof typeof colours;
export const colourNames = Object.keys(colours) as Colour[];

export function png(colour: Colour, width = 20, height = 16): Buffer {
  const image = new PNG({ width, height });
  for (let i = 0; i < width * height; i++) image.data.set([...colours[colour], 255], i * 4);
  return PNG.sync.write(image);
}

/** A new folder with a model folder, images, and LLaVA JSON for both stages; the last sample of stage 2 is text alone. */
export async function tinyWorld(): Promise<string> {
  const path = mkdtempSync(join(tmpdir(), "shadegrad-training-"));
  manualSeed(7);
  await new Llava(config).savePretrained(folder(join(path, "model")));
  cpSync(tokenizer, join(path, "model"), { recursive: true });
  mkdirSync(join(path, "images/nested"), { recursive: true });
  for (const colour of colourNames) writeFileSync(join(path, imageOf(colour)), png(colour));
  const pairs = colourNames.map((colour, i) => ({
    id: `pair-${i}`,
    image: imageOf(colour).slice("images/".length),
    conversations: [
      { from: "human", value: "Describe it.\n<image>" },
      { from: "gpt", value: `a ${colour} square` },
    ],
  }));
  const talks = pairs.map(({ image }, i) => ({
    id: `talk-${i}`,
    image,
    conversations: [
      { from: "human", value: "<image>\nWhat colour is it?" },
      { from: "gpt", value: colourNames[i] },
      ...(i % 2
        ? []
        : [
            { from: "human", value: "Sure?" },
            { from: "gpt", value: "Yes." },
          ]),
    ],
  }));
  const text = {
    id: "words",
    conversations: [
      { from: "human", value: "Say hello." },
      { from: "gpt", value: "Hello!" },
    ],
  };
  writeFileSync(join(path, "pairs.json"), JSON.stringify(pairs));
  writeFileSync(join(path, "talks.json"), JSON.stringify([...talks, text]));
  return path;
}

export const imageOf = (colour: Colour): string => `images/nested/${colour}.png`;
