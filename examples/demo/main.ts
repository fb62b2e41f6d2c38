/** `npm run demo`: trains a small bilingual LLaVA on real pictures, evaluates it, writes a report; or answers about a picture. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Bar, bold, dim, duration, green, short, table, yellow } from "../../scripts/cli/terminal.ts";
import { init, manualSeed } from "../../src/index.ts";
import { Batcher } from "./batches.ts";
import { Chat, readPng, type Tiles, tilesToPng, toTiles } from "./chat.ts";
import { saveCheckpoint } from "./checkpoint.ts";
import { loadEmoji } from "./emoji.ts";
import { evaluate } from "./evaluate.ts";
import { createModel } from "./model.ts";
import { TextIds, trainTokenizer } from "./pack.ts";
import { Random } from "./random.ts";
import { type PresetName, presets } from "./recipes.ts";
import { beats, percent, renderReport } from "./report.ts";
import { showcase } from "./showcase.ts";
import { Splits } from "./splits.ts";
import { type StageProgress, type StageResult, Trainer } from "./stages.ts";

const help = `npm run demo -- [options]

Train, evaluate, and write a report:
  (no options)     about 4 TFLOP: 10 to 20 minutes on two CPU cores
  --quick          3 minutes: enough for colours and backgrounds
  --full           about an hour on two CPU cores: more names, better answers
  --out <folder>   where report.html and the checkpoint go (default .cache/demo/run)
  --seed <n>       default 1; the same seed shows the same pictures in the same order
  --scale <x>      multiplies the number of steps of all stages

Ask about a picture, with the checkpoint that ships or one you trained:
  --image <x.png>  an emoji, or a square of four (2 x 2) on one colour
  --ask "<text>"   English or Chinese; without it, questions are read line by line
  --checkpoint <folder>     --temperature <t>   (default 0: the likeliest answer)
`;

/** The checkout. The running bundle is in .build/. */
function projectRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) {
    if (folder === dirname(folder)) throw new Error("the demo runs from a checkout of the project");
    folder = dirname(folder);
  }
  return folder;
}

const root = projectRoot();
const say = (text: string): void => console.log(text);
const shown = (path: string): string => relative(process.cwd(), path) || ".";

function options() {
  const { values } = parseArgs({
    options: {
      help: { type: "boolean", short: "h" },
      quick: { type: "boolean" },
      full: { type: "boolean" },
      seed: { type: "string", default: "1" },
      scale: { type: "string", default: "1" },
      out: { type: "string", default: join(root, ".cache/demo/run") },
      image: { type: "string" },
      ask: { type: "string" },
      checkpoint: { type: "string", default: join(root, "examples/demo/checkpoint") },
      temperature: { type: "string", default: "0" },
    },
  });
  const number = (name: "seed" | "scale" | "temperature", ok: (x: number) => boolean, what: string): number => {
    const value = Number(values[name]);
    if (values[name]!.trim() === "" || !ok(value)) throw new Error(`--${name} takes ${what}, got "${values[name]}"`);
    return value;
  };
  if (values.quick && values.full) throw new Error("--quick and --full exclude each other");
  if (values.ask !== undefined && !values.image) throw new Error("--ask needs a picture: --image x.png");
  return {
    ...values,
    preset: (values.quick ? "quick" : values.full ? "full" : "default") as PresetName,
    seed: number("seed", Number.isInteger, "a whole number"),
    scale: number("scale", (x) => x > 0 && Number.isFinite(x), "a positive number"),
    temperature: number("temperature", (x) => x >= 0 && Number.isFinite(x), "a number of at least 0"),
  };
}
type Options = ReturnType<typeof options>;

async function chat({ image, ask, checkpoint, temperature }: Options): Promise<void> {
  if (ask !== undefined && !ask.trim())
    throw new Error('--ask is empty; ask something, for example: --ask "What is this?"');
  const tiles = toTiles(readPng(image!));
  await init();
  const model = await Chat.open(checkpoint);
  const answer = async (question: string): Promise<void> => {
    for await (const piece of model.stream(tiles, question, temperature)) process.stdout.write(piece);
    process.stdout.write("\n");
  };
  if (ask !== undefined) return answer(ask);
  say(
    dim(
      `${shown(checkpoint)}, ${tiles.count === 1 ? "one picture" : "four cells"}; ask in English or Chinese, end with Ctrl-D`,
    ),
  );
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: "> " });
  lines.prompt();
  for await (const line of lines) {
    if (line.trim()) await answer(line);
    lines.prompt();
  }
}

async function trainAndReport({ preset: name, seed, scale, out }: Options): Promise<void> {
  const began = performance.now();
  const { size, recipe, named, about } = presets[name];
  for (const stage of ["vision", "text", "projector", "joint"] as const)
    recipe[stage].steps = Math.max(2, Math.round(recipe[stage].steps * scale));
  const device = await init();
  say(`${bold("shadegrad demo")}: a bilingual LLaVA on emoji artwork, from nothing (${name}: ${about})`);
  say(`  ${device ? device.description : "f64 interpreter on the CPU"}`);

  say(bold("\nData"));
  const cache = join(root, ".cache/demo");
  mkdirSync(cache, { recursive: true });
  const set = loadEmoji(cache, say);
  const splits = new Splits(set, named);
  const tokenizer = trainTokenizer(Batcher.corpus(splits), size.vocabulary);
  const texts = new TextIds(tokenizer);
  const batcher = new Batcher(splits, texts, new Random(seed));
  say(
    `  ${splits.train.length} pictures to train on, ${batcher.classes.identity} emoji taught by name, ${tokenizer.size} tokens`,
  );

  manualSeed(seed);
  const model = createModel(size, seed);
  const count = model.parameters().reduce((n, p) => n + p.numel, 0);
  say(bold(`\nTraining ${count.toLocaleString("en")} parameters`));
  const results: StageResult[] = [];
  let bar = new Bar("");
  const trainer = new Trainer(model, batcher, recipe, seed, (stage, p) => {
    if (bar.name !== stage) bar = new Bar(stage);
    bar.update(p.step, p.total!, progressFacts(p));
  });
  for (const stage of ["vision", "text", "projector", "joint"] as const) {
    results.push(await trainer[stage]());
    bar.end();
  }
  say("");
  const total = { flops: 0, seconds: 0 };
  for (const r of results) (total.flops += r.flops), (total.seconds += r.seconds);
  const stageRow = (
    r: { name: string; steps: number; trained?: number; flops: number; seconds: number },
    last = "",
  ): string[] => [
    r.name,
    `${r.steps}`,
    r.trained === undefined ? "" : short(r.trained),
    `${short(r.flops)}FLOP`,
    duration(r.seconds),
    `${short(r.flops / r.seconds)}FLOP/s`,
    last,
  ];
  const mean = (losses: number[]): string => (losses.reduce((a, b) => a + b, 0) / losses.length).toFixed(2);
  say(
    table(
      ["stage", "steps", "trained", "work", "time", "rate", "loss"],
      [
        ...results.map((r) =>
          stageRow(r, `${r.losses[0].toFixed(2)} → ${mean(r.losses.slice(-Math.ceil(r.losses.length / 20)))}`),
        ),
        stageRow({ name: "all", steps: results.reduce((n, r) => n + r.steps, 0), ...total }),
      ],
    ),
  );

  await saveCheckpoint(out, model, tokenizer);
  say(bold("\nEvaluation") + dim("  (exact match in %, English/Chinese; test splits)"));
  const judging = new Bar("evaluation");
  const scores = await evaluate(model, splits, texts, "test", (done, all) => judging.update(done, all, ""));
  judging.end();
  say(
    table(
      ["split and task", "n", "model", "blank", "majority", ""],
      scores.map((s) => [
        s.row,
        s.n.join("/"),
        bold(percent(s.right, s.n)),
        percent(s.blank, s.n),
        percent(s.majority, s.n),
        beats(s) ? green("beats both") : yellow("does not"),
      ]),
    ),
  );

  const examples = await showcase(new Chat(model, texts), splits);
  const seconds = (performance.now() - began) / 1000;
  const facts: [string, string][] = [
    ["run", `${name}, seed ${seed}, ${duration(seconds)} in all`],
    ["device", device?.description ?? "f64 interpreter"],
    [
      "model",
      `${count.toLocaleString("en")} parameters: ViT ${size.visionDim} x ${size.visionLayers}, LLaMA ${size.textDim} x ${size.textLayers}, ${tokenizer.size} tokens`,
    ],
    ["work", `${short(total.flops)}FLOP in ${duration(total.seconds)}`],
  ];
  writeFileSync(
    join(out, "report.html"),
    renderReport({ title: "A bilingual LLaVA trained from nothing", facts, stages: results, scores, shown: examples }),
  );
  writeFileSync(
    join(out, "results.json"),
    `${JSON.stringify({ run: name, seed, parameters: count, flops: total.flops, seconds, scores }, null, 1)}\n`,
  );
  const sample = (list: { tiles: Tiles }[], file: string): string => {
    writeFileSync(join(out, file), tilesToPng(list[0].tiles, 4));
    return shown(join(out, file));
  };
  const single = sample(
    examples.filter((s) => s.tiles.count === 1),
    "single.png",
  );
  sample(
    examples.filter((s) => s.tiles.count > 1),
    "composite.png",
  );
  say(`\n${bold("Done")} in ${duration(seconds)}. Report: ${shown(join(out, "report.html"))}`);
  say(`Ask the model:  npm run demo -- --checkpoint ${shown(out)} --image ${single} --ask "图里是什么？"`);
}

function progressFacts(p: StageProgress): string {
  const left = ((p.total! - p.step) * p.seconds) / p.step;
  const rate = (value: number, unit: string): string[] => (value ? [`${short(value / p.seconds)} ${unit}/s`] : []);
  return [
    `loss ${p.meanLoss.toFixed(2)}`,
    ...rate(p.images, "images"),
    ...rate(p.tokens, "tokens"),
    `${(p.flops / p.seconds / 1e9).toFixed(1)} GFLOP/s`,
    `${duration(left)} left`,
  ].join("  ");
}

try {
  if (process.argv.slice(2).some((arg) => arg === "--help" || arg === "-h")) process.stdout.write(help);
  else {
    const chosen = options();
    await (chosen.image === undefined ? trainAndReport(chosen) : chat(chosen));
  }
} catch (error) {
  console.error(`demo: ${process.env.SHADEGRAD_DEBUG ? (error as Error).stack : (error as Error).message}`);
  process.exitCode = 1;
}
