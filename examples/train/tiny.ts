/**
 * Training from scratch in three commands: draws a small data set, makes a tiny untrained LLaVA, then runs `shadegrad train`,
 * `evaluate` and `chat`. All files are in .build/train. Arguments are passed to `train`.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PNG } from "pngjs";
import { Llava } from "../../models/index.ts";
import { init, manualSeed } from "../../src/index.ts";
import { Tokenizer, template, trainBPE } from "../../src/text/index.ts";

const root = process.cwd();
const place = join(".build", "train");
const SIDE = 32;
const colours = { red: [214, 40, 40], green: [40, 160, 70], blue: [40, 70, 200], yellow: [240, 200, 40] } as const;
const shapes = {
  circle: (x: number, y: number) => x * x + y * y < 1,
  square: (x: number, y: number) => Math.max(Math.abs(x), Math.abs(y)) < 0.85,
  ring: (x: number, y: number) => x * x + y * y < 1 && x * x + y * y > 0.35,
} as const;
type Colour = keyof typeof colours;
type Shape = keyof typeof shapes;

/** A generator of numbers in [0, 1) from a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A shape of random size and position on a light ground. */
function draw(colour: Colour, shape: Shape, next: () => number): Buffer {
  const image = new PNG({ width: SIDE, height: SIDE });
  const size = 6 + 7 * next();
  const [cx, cy] = [0, 1].map(() => size + (SIDE - 2 * size) * next());
  const ground = 200 + 55 * next();
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const inside = shapes[shape]((x - cx) / size, (y - cy) / size);
      const pixel = inside ? colours[colour] : [ground, ground, ground];
      image.data.set([...pixel, 255], 4 * (y * SIDE + x));
    }
  }
  return PNG.sync.write(image);
}

const CAPTION = "Describe this image briefly.";
const caption = (colour: Colour, shape: Shape): string => `This is a ${colour} ${shape}.`;

/** Images with LLaVA's JSON to train on, and others with captions to evaluate on. */
function makeData(): string[] {
  const next = random(5);
  const pictures = Array.from({ length: 624 }, (_, i) => {
    const colour = Object.keys(colours)[i % 4] as Colour;
    const shape = Object.keys(shapes)[Math.floor(i / 4) % 3] as Shape;
    const image = `${i}.png`;
    writeFileSync(join(place, "images", image), draw(colour, shape, next));
    return { image, colour, shape };
  });
  const [training, held] = [pictures.slice(0, 576), pictures.slice(576)];
  const samples = training.map(({ image, colour, shape }, id) => {
    const asked = [
      [CAPTION, caption(colour, shape)],
      ["What colour is it?", colour],
      ["Which shape is it?", shape],
    ];
    const [question, answer] = asked[Math.floor(next() * asked.length)];
    const conversations = [
      { from: "human", value: `<image>\n${question}` },
      { from: "gpt", value: answer },
    ];
    return { id, image, conversations };
  });
  writeFileSync(join(place, "train.json"), JSON.stringify(samples));
  const captions = held.map(({ image, colour, shape }) => ({ image, caption: caption(colour, shape) }));
  writeFileSync(join(place, "images", "held-out.json"), JSON.stringify(captions));
  return samples.flatMap(({ conversations }) => conversations.map(({ value }) => value));
}

/** An untrained LLaVA of 0.2 M parameters, with a tokenizer for the words of the data. */
async function makeModel(texts: readonly string[]): Promise<void> {
  const corpus = [...texts, `${template("v1").system} USER: ASSISTANT:`].map((text) => [text, 2] as const);
  const json = trainBPE(corpus, { vocabSize: 512, specialTokens: ["<s>", "</s>"] }) as unknown as Record<
    string,
    unknown
  >;
  // LLaVA's label masks need a begin token.
  json.post_processor = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [],
    special_tokens: { "<s>": { id: "<s>", ids: [0], tokens: ["<s>"] } },
  };
  const tokenizer = new Tokenizer(json as never);
  manualSeed(1);
  const model = new Llava({
    text_config: {
      vocab_size: tokenizer.size,
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      bos_token_id: 0,
      eos_token_id: 1,
      max_position_embeddings: 256,
    },
    vision_config: {
      model_type: "vit_conv_stem",
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      image_size: SIDE,
      patch_size: 8,
      stem_channels: [16, 32, 64],
      hidden_act: "gelu",
    },
    vision_feature_layer: -1,
    image_token_index: -200,
    mm_projector_type: "linear",
  });
  await model.savePretrained(join(place, "model"));
  writeFileSync(join(place, "model", "tokenizer.json"), JSON.stringify(json));
  const settings = { size: SIDE, crop_size: SIDE, image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] };
  writeFileSync(join(place, "model", "preprocessor_config.json"), JSON.stringify(settings));
}

/** LLaVA's second stage without the first: all parts train. */
const recipe = {
  preset: "llava-v1-stage2",
  model_name_or_path: join(place, "model"),
  data_path: join(place, "train.json"),
  image_folder: join(place, "images"),
  output_dir: join(place, "out"),
  trainable: ["vision", "projector", "language"],
  learning_rate: 3e-3,
  train_batch_size: 24,
  micro_batch_size: 24,
  num_train_epochs: 12,
  model_max_length: 128,
  gradient_checkpointing: false,
};

function shadegrad(...args: string[]): void {
  console.log(`\n$ npx shadegrad ${args.map((arg) => (/\s/.test(arg) ? `"${arg}"` : arg)).join(" ")}`);
  const command = [join(root, "scripts/run.mjs"), join(root, "scripts/cli/main.ts"), ...args];
  const { status } = spawnSync(process.execPath, command, { stdio: "inherit" });
  if (status) process.exit(status);
}

rmSync(place, { recursive: true, force: true });
mkdirSync(join(place, "images"), { recursive: true });
await init({ backend: "reference" }); // initial values; the commands open the GPU
await makeModel(makeData());
writeFileSync(join(place, "recipe.json"), `${JSON.stringify(recipe, null, 2)}\n`);
shadegrad("train", join(place, "recipe.json"), ...process.argv.slice(2));
const held = ["--data", join(place, "images", "held-out.json"), "--prompt", CAPTION, "--max-new-tokens", "8"];
shadegrad("evaluate", "captions", join(place, "out"), ...held, "--output", join(place, "evaluation"));
shadegrad("chat", join(place, "out"), "--image", join(place, "images", "623.png"), "--prompt", "What colour is it?");
process.exit();
