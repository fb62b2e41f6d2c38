/**
 * `npm run demo:ablate`: recipes and choices of the papers at the demo's scale, one run per cell. All runs start from one frozen
 * ViT, that of the shipped checkpoint, as LLaVA starts from CLIP. They start from one LLaMA that has learnt to answer about
 * scenes in words, as LLaVA starts from an instructed LLM.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { Abstractor, type Adapter, type Llava, type LlavaConfig, loadWeights } from "../../models/index.ts";
import { Bar, duration, short } from "../../scripts/cli/terminal.ts";
import { init, manualSeed, type Tensor } from "../../src/index.ts";
import { openCheckpoint, openFolder, saveCheckpoint } from "../../src/io/index.ts";
import { addLoRA, Module, truncatedNormal } from "../../src/nn/index.ts";
import { Batcher, TILE_TOKENS } from "./batches.ts";
import { Chat } from "./chat.ts";
import { loadEmoji } from "./emoji.ts";
import { evaluate, evaluationItems, type Score } from "./evaluate.ts";
import { createModel, initialise } from "./model.ts";
import { TextIds } from "./pack.ts";
import { Random } from "./random.ts";
import { presets } from "./recipes.ts";
import { percent } from "./report.ts";
import { tilesOf } from "./showcase.ts";
import { Splits } from "./splits.ts";
import { type StagePlan, Trainer } from "./stages.ts";
import type { Scene, Turn } from "./tasks.ts";
import { categories } from "./words.ts";

const { size, named } = presets.full;
const PLANS = {
  words: { steps: 3000, lr: 2e-3 },
  stage1: { steps: 1500, lr: 2e-3 },
  stage2: { steps: 900, lr: 1.5e-3 },
  lora: { steps: 900, lr: 6e-3 },
  owl1: { steps: 1500, lr: 1e-3 },
} satisfies Record<string, StagePlan>;
const LORA = { r: 4, alpha: 8 };
const LORA_LAYERS = /language_model.*\.(q|k|v|o|gate|up|down)_proj$|multi_modal_projector\.linear_\d$/;

/** mPLUG-Owl's abstractor in place of the projector, with as many tokens per tile. The last one is its end token. */
class QueryAdapter extends Module implements Adapter {
  query_tokens: Tensor; // [1, Q, D]
  abstractor: Abstractor;

  constructor(dim: number, outDim: number) {
    super();
    this.query_tokens = truncatedNormal([1, TILE_TOKENS - 1, dim], 0.02);
    const config = {
      hidden_size: dim,
      intermediate_size: 2 * dim,
      num_hidden_layers: 2,
      num_attention_heads: dim / 32,
    };
    this.abstractor = new Abstractor(config, outDim);
  }

  tokens(): number {
    return TILE_TOKENS;
  }

  forward(features: Tensor): Tensor {
    return this.abstractor.forward(this.query_tokens, features);
  }
}

/** The answer after its reason: a count after the kinds of things, a kind after the first tag of the thing. */
function reasonFirst(splits: Splits) {
  const facts = (scene: Scene) => scene.cells.flatMap((cell) => (cell ? [splits.set.emoji[cell.emoji]] : []));
  return (turns: Turn[], scene: Scene): Turn[] =>
    turns.map((turn) => {
      const { task, language, answer } = turn;
      const [comma, colon] = language ? ["、", "："] : [", ", ": "];
      if (task === "count") {
        const kinds = facts(scene).map((e) => categories[e.category].name[language]);
        return { ...turn, answer: `${kinds.join(comma)}${colon}${answer}` };
      }
      const tag = task === "category" ? facts(scene)[0].tags[language][0] : undefined;
      return tag ? { ...turn, answer: `${tag}${colon}${answer}` } : turn;
    });
}
const REASONED = ["A  other vendor: category", "B  never seen: category", "C  unseen positions: how many things"];

interface Cell {
  about: string;
  /** Number of parameters that the last stage trains, and its FLOPs. */
  trained: number;
  flops: number;
  seconds: number;
  scores: Score[];
}

const { values: given } = parseArgs({
  options: {
    out: { type: "string", default: ".cache/demo/ablations" },
    scale: { type: "string", default: "1" },
    only: { type: "string" },
    part: { type: "string", default: "test" },
  },
});
const scale = Number(given.scale);
if (!(scale > 0)) throw new Error(`--scale takes a positive number, got "${given.scale}"`);
if (given.part !== "test" && given.part !== "validation")
  throw new Error(`--part takes test or validation, got "${given.part}"`);
const part = given.part;
for (const plan of Object.values(PLANS)) plan.steps = Math.max(2, Math.round(plan.steps * scale));

await init();
mkdirSync(given.out!, { recursive: true });
const splits = new Splits(loadEmoji(dirname(given.out!), console.log), named);
const shipped = await Chat.open("examples/demo/checkpoint");
const texts = new TextIds(shipped.texts.tokenizer);
const recipe = { ...presets.full.recipe };

/** Models that several cells start from are saved with the results and their plan, so that a stopped run can continue. */
async function shared<M extends Module>(
  name: string,
  model: M,
  plan: StagePlan,
  fit: () => Promise<unknown>,
): Promise<M> {
  const folder = join(given.out!, name);
  if (existsSync(join(folder, "config.json"))) {
    const { config, tensors } = await openCheckpoint(await openFolder(folder));
    if (JSON.stringify(config.plan) === JSON.stringify(plan)) {
      await loadWeights(model, [tensors], []);
      return model;
    }
  }
  await fit();
  bar.end();
  await saveCheckpoint(await openFolder(folder), { plan }, model.stateDict());
  return model;
}

let bar = new Bar("");
function trainer(model: Llava, retell?: ConstructorParameters<typeof Batcher>[3]): Trainer {
  const batcher = new Batcher(splits, texts, new Random(1), retell);
  return new Trainer(model, batcher, recipe, 1, (stage, p) => {
    if (bar.name !== stage) bar = new Bar(stage);
    const left = ((p.total! - p.step) * p.seconds) / p.step;
    bar.update(p.step, p.total!, `loss ${p.meanLoss.toFixed(2)}  ${duration(left)} left`);
  });
}

/** A fresh model with the shared ViT and LLaMA. */
function begin(change: Partial<LlavaConfig> = {}): Llava {
  manualSeed(1);
  const model = createModel(size, 1, change);
  model.vision_tower.loadStateDict(shipped.model.vision_tower.stateDict());
  if (words) model.language_model.loadStateDict(words.stateDict());
  return model;
}

/** Trains the last stage of a cell, all parameters that require gradients, and evaluates it. */
async function cell(
  name: string,
  about: string,
  model: Llava,
  plan: StagePlan,
  retell?: ConstructorParameters<typeof Batcher>[3],
): Promise<void> {
  const last = await trainer(model, retell).conversations(`${name}: stage 2`, plan);
  bar.end();
  const scores = await evaluate(model, splits, texts, part);
  if (retell) await judgeReasoned(model, scores);
  cells[name] = { about, trained: last.trained, flops: last.flops, seconds: last.seconds, scores };
  writeFileSync(file, `${JSON.stringify({ part, plans: PLANS, lora: LORA, cells }, null, 1)}\n`);
  console.log(`${name}: mean exact match ${(100 * mean(scores)).toFixed(1)} %, ${short(last.trained)} trained`);
}

/** Answers after a reason are generated, and compared by the text after the colon. */
async function judgeReasoned(model: Llava, scores: Score[]): Promise<void> {
  const chat = new Chat(model, texts);
  for (const row of REASONED) {
    const score = scores.find((s) => s.row === row)!;
    score.right = [0, 0];
    const items = evaluationItems(splits, part).filter((item) => item.row === row);
    for (let i = 0; i < items.length; i += 32) {
      const some = items.slice(i, i + 32);
      const answers = await chat.answers(
        some.map(({ scene, turn }) => ({ tiles: tilesOf(splits, scene), question: turn.question })),
      );
      some.forEach(({ turn }, k) => {
        if (answers[k].split(/[:：]/).pop()!.trim() === turn.answer) score.right[turn.language as 0]++;
      });
    }
  }
}

/** Mean share of right answers over rows and languages. */
const mean = (scores: readonly Score[]): number =>
  scores.flatMap(({ right, n }) => right.map((r, i) => r / n[i])).reduce((a, b, _, { length }) => a + b / length, 0);

let words: Module | undefined;
const text = begin();
words = await shared("words", text.language_model, PLANS.words, () => trainer(text).described(PLANS.words));

const file = join(given.out!, "ablations.json");
const cells: Record<string, Cell> = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).cells : {};
const wanted = (name: string): boolean => !given.only || given.only.split(",").includes(name);

/** Stage 1: the projector alone. */
async function align(name: string, change: Partial<LlavaConfig> = {}): Promise<Llava> {
  const model = begin(change);
  model.requiresGrad_(false);
  model.multi_modal_projector.requiresGrad_();
  model.image_slots!.requiresGrad_();
  return shared(name, model, PLANS.stage1, () => trainer(model).conversations(`${name}: stage 1`, PLANS.stage1));
}
const unfreeze = (model: Llava): Llava => {
  model.requiresGrad_();
  model.vision_tower.requiresGrad_(false);
  return model;
};

if (wanted("llava"))
  await cell("llava", "LLaVA: stage 1, then projector + LLaMA", unfreeze(await align("llava")), PLANS.stage2);
if (wanted("lora")) {
  const model = await align("llava");
  addLoRA(model, LORA_LAYERS, LORA);
  await cell("lora", `LLaVA, stage 2 LoRA (r ${LORA.r})`, model, PLANS.lora);
}
if (wanted("owl")) {
  const model = begin();
  const adapter = new QueryAdapter(size.visionDim, size.textDim);
  initialise(adapter, 2, 2 * 2);
  model.multi_modal_projector = adapter;
  model.requiresGrad_();
  model.language_model.requiresGrad_(false);
  await shared("owl", model, PLANS.owl1, () => trainer(model).conversations("owl: stage 1", PLANS.owl1));
  addLoRA(model, LORA_LAYERS, LORA);
  await cell("owl", "mPLUG-Owl: ViT + abstractor, then LoRA", model, PLANS.lora);
}
if (wanted("layer")) {
  const model = await align("layer", { vision_feature_layer: -2 });
  await cell("layer", "LLaVA, second-to-last ViT layer", unfreeze(model), PLANS.stage2);
}
if (wanted("nostage1")) await cell("nostage1", "LLaVA without stage 1", unfreeze(begin()), PLANS.stage2);
if (wanted("reason"))
  await cell(
    "reason",
    "LLaVA, reason before answer",
    unfreeze(await align("llava")),
    PLANS.stage2,
    reasonFirst(splits),
  );

const names = Object.keys(cells);
const head = ["", ...names.map((name) => cells[name].about)];
const rows = [
  ["trained in the last stage", ...names.map((name) => short(cells[name].trained))],
  ["work of the last stage", ...names.map((name) => `${short(cells[name].flops)}FLOP`)],
  ...Object.values(cells)[0].scores.map((score, i) => [
    score.row,
    ...names.map((name) => percent(cells[name].scores[i].right, score.n)),
  ]),
  ["**mean of all rows**", ...names.map((name) => `**${(100 * mean(cells[name].scores)).toFixed(1)}**`)],
];
const markdown = [head, head.map((_, i) => (i ? "---:" : "---")), ...rows]
  .map((row) => `| ${row.join(" | ")} |`)
  .join("\n");
writeFileSync(join(given.out!, "ablations.md"), `${markdown}\n`);
console.log(markdown);
