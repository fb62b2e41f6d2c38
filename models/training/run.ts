/** A training run by a recipe: data, model, steps, evaluation, checkpoints, result. */

import { decodeImage } from "../../src/image/index.ts";
import { getRngState, lazily, manualSeed, plan, setMemoryBudget, setRngState } from "../../src/index.ts";
import { jsonBytes, openFolder, writeFile } from "../../src/io/index.ts";
import {
  AdamW,
  constantSchedule,
  cosineSchedule,
  LossScaler,
  linearSchedule,
  type Schedule,
} from "../../src/nn/index.ts";
import { Batches, DataSet } from "./batches.ts";
import type { TrainingInput } from "./collate.ts";
import { lossCurve } from "./curve.ts";
import { forecastMemory, type MemoryForecast } from "./forecast.ts";
import type { Decode } from "./images.ts";
import { openModel, parameterGroups, prepareModel, saveResult, type TrainedModel } from "./model.ts";
import type { Recipe } from "./recipe.ts";
import { type Identity, resumeRun, saveRun } from "./state.ts";
import { type Evaluation, fillGradients, type Progress, parameterTable, train } from "./train.ts";

export interface RunOptions {
  /** Continue from the last checkpoint in output_dir, if there is one. Default false. */
  resume?: boolean;
  /** Stop before the first step: data are read and checked, memory is forecast. */
  dryRun?: boolean;
  signal?: AbortSignal;
  /** Decodes an image file. Default `decodeImage`. */
  decode?: Decode;
  /** Called before the first step. */
  onStart?: (facts: RunFacts) => void;
  onProgress?: (progress: Progress) => void;
  onEvaluation?: (evaluation: Evaluation) => void;
  /** Further metrics at each evaluation, besides the loss on eval_data_path. */
  evaluate?: (model: TrainedModel, step: number) => Promise<Record<string, number>>;
}

export interface RunFacts {
  readonly parameters: ReturnType<typeof parameterTable>;
  /** Layers with a LoRA. */
  readonly adapted: readonly string[];
  /** Parameters of trained parts that no gradient reaches, such as layers after the one that is read. They are frozen. */
  readonly unused: readonly string[];
  readonly memory: MemoryForecast;
  readonly samples: number;
  /** Number of their rows in an epoch: fewer with packing. */
  readonly rows: number;
  /** Number of samples longer than model_max_length, whose end is cut. */
  readonly cut: number;
  readonly evaluationSamples: number;
  readonly steps: number;
  /** Number of steps of the earlier run that this one continues. */
  readonly resumedAt: number;
}

export interface RunResult extends RunFacts {
  readonly model: TrainedModel;
  readonly losses: readonly number[];
  readonly evaluations: readonly Evaluation[];
  /** Number of steps skipped because gradients overflowed (fp16). */
  readonly skipped: number;
  /** Name of the result in output_dir; undefined after a dry run. */
  readonly written?: string;
}

/**
 * Trains by a recipe and writes the result, loss.svg and log.json to its output_dir.
 * ```ts
 * await trainRecipe(parseRecipe({ preset: "llava-1.5-stage2", model_name_or_path: "…", data_path: "…", … }));
 * ```
 */
export async function trainRecipe(recipe: Recipe, options: RunOptions = {}): Promise<RunResult> {
  if (recipe.memory_budget === null) return run(recipe, options);
  const before = await setMemoryBudget(recipe.memory_budget);
  try {
    return await run(recipe, options);
  } finally {
    await setMemoryBudget(before);
  }
}

async function run(recipe: Recipe, options: RunOptions): Promise<RunResult> {
  manualSeed(recipe.seed);
  const opened = await openModel(recipe);
  const { model } = opened;
  const adapted = prepareModel(model, recipe);
  const folder = await openFolder(recipe.image_folder);
  const output = await openFolder(recipe.output_dir);
  const { decode = decodeImage } = options;
  const dataOf = (paths: readonly string[]) => DataSet.open(paths, opened, recipe, folder, decode);
  const data = await dataOf([recipe.data_path].flat());
  const heldOut = recipe.eval_data_path ? await dataOf([recipe.eval_data_path]) : undefined;
  const batches = new Batches(opened, recipe, folder, output, decode);

  const stepsPerEpoch = data.steps(0).length;
  const steps = recipe.max_steps ?? Math.ceil(recipe.num_train_epochs * stepsPerEpoch);
  const unused = freezeUnused(model, await batches.largest(data, true));
  const optimizer = new AdamW(parameterGroups(model, recipe), {
    lr: recipe.learning_rate,
    betas: [recipe.adam_beta1, recipe.adam_beta2],
    eps: recipe.adam_epsilon,
    maxNorm: recipe.max_grad_norm ?? undefined,
    schedule: scheduleOf(recipe, steps),
  });
  const scaler = recipe.fp16 ? new LossScaler() : undefined;
  const parts = { model, optimizer, scaler };
  const identity = identityOf(recipe, data, steps);
  const before = options.resume ? await resumeRun(output, parts, identity) : undefined;
  const facts: RunFacts = {
    parameters: parameterTable(model),
    adapted,
    unused,
    memory: await forecast(
      model,
      optimizer,
      await batches.largest(data, false),
      recipe,
      heldOut && (await batches.largest(heldOut, false)),
    ),
    samples: data.samples.length,
    rows: data.steps(0).flat(2).length,
    cut: data.cut,
    evaluationSamples: heldOut?.samples.length ?? 0,
    steps,
    resumedAt: before?.step ?? 0,
  };
  options.onStart?.(facts);
  const evaluations: Evaluation[] = [...(before?.evaluations ?? [])];
  if (options.dryRun) return { ...facts, model, losses: [], evaluations, skipped: 0 };

  const evaluate = async (step: number): Promise<void> => {
    model.eval();
    const values = {
      ...(heldOut && { loss: await batches.meanLoss(heldOut) }),
      ...(await options.evaluate?.(model, step)),
    };
    model.train();
    if (Object.keys(values).length === 0) return;
    const evaluation = { step, values };
    evaluations.push(evaluation);
    options.onEvaluation?.(evaluation);
  };
  const write = async (losses: readonly number[]): Promise<void> => {
    const log = { recipe, losses, evaluations, skipped: scaler?.state.skipped ?? 0 };
    await writeFile(output, "log.json", [jsonBytes(log)]);
    const svg = lossCurve(losses, evaluations, recipe.preset ?? "loss");
    await writeFile(output, "loss.svg", [new TextEncoder().encode(svg)]);
  };
  const save = async (step: number, losses: readonly number[]): Promise<void> => {
    await saveRun(output, parts, { step, losses, evaluations, identity });
    await write(losses);
  };

  let losses: readonly number[] = before?.losses ?? [];
  if (losses.length < steps) {
    const done = await train({
      batches: batches.training(data, losses.length, steps),
      loss: ({ input }) => model.loss(input),
      optimizer,
      scaler,
      steps,
      accumulate: ({ last }) => last,
      allowUnused: true,
      resumed: losses,
      work: ({ tokens }) => tokens,
      pauses: [
        { every: recipe.eval_steps, run: ({ step }) => evaluate(step) },
        { every: recipe.save_steps, run: ({ step, losses }) => save(step, losses) },
      ],
      onProgress: options.onProgress,
      signal: options.signal,
    });
    losses = done.losses;
    await evaluate(steps);
  }
  const written = await saveResult(model, recipe);
  await write(losses);
  model.eval();
  model.language_model.model.activations = "f32";
  return { ...facts, model, losses, evaluations, skipped: scaler?.state.skipped ?? 0, written };
}

/** Builds the gradients of a batch as graphs. Nothing is computed, and the random generator keeps its state. */
function probe(model: TrainedModel, input: TrainingInput): void {
  const generator = getRngState();
  lazily(() => model.loss(input)).backward();
  setRngState(generator);
}

/** Freezes parameters that no gradient reaches. Returns their names. */
function freezeUnused(model: TrainedModel, input: TrainingInput): string[] {
  probe(model, input);
  const unused: string[] = [];
  for (const [name, t] of model.namedParameters()) {
    if (t.requiresGrad && !t.grad) {
      t.requiresGrad_(false);
      unused.push(name);
    }
    t.grad = null;
  }
  return unused;
}

/** Memory of the largest batches of training and of evaluation, whose plans keep the budget too. */
async function forecast(
  model: TrainedModel,
  optimizer: AdamW,
  input: TrainingInput,
  recipe: Recipe,
  evaluated?: TrainingInput,
): Promise<MemoryForecast> {
  const { memory_budget: budget, train_batch_size: batch, micro_batch_size: micro, fp16 } = recipe;
  probe(model, input);
  fillGradients(optimizer);
  const memory = await forecastMemory(model, optimizer, batch > micro || fp16, budget);
  optimizer.zeroGrad();
  model.eval();
  if (evaluated) await plan(() => model.loss(evaluated)); // throws if it cannot fit
  model.train();
  return memory;
}

function scheduleOf(recipe: Recipe, total: number): Schedule {
  const warmup = Math.min(total, recipe.warmup_steps ?? Math.ceil(recipe.warmup_ratio * total));
  const min = recipe.min_lr / recipe.learning_rate;
  if (recipe.lr_scheduler_type === "constant") return constantSchedule({ warmup });
  return (recipe.lr_scheduler_type === "linear" ? linearSchedule : cosineSchedule)({ warmup, total, min });
}

/** Keys that may differ when a run continues: paths, and settings that do not change results. */
const free: readonly (keyof Recipe)[] = [
  "preset",
  "model_name_or_path",
  "vision_tower",
  "pretrain_mm_mlp_adapter",
  "data_path",
  "image_folder",
  "output_dir",
  "eval_data_path",
  "eval_steps",
  "save_steps",
  "feature_cache_bytes",
];

function identityOf(recipe: Recipe, data: DataSet, steps: number): Identity {
  const kept = Object.entries(recipe).filter(([key]) => !free.includes(key as keyof Recipe));
  const positions = data.sizes.reduce((n, { length }) => n + length, 0);
  return { ...Object.fromEntries(kept), samples: data.samples.length, positions, steps };
}
