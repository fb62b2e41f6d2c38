/** A training run as a recipe describes it: data, model, steps, evaluation, checkpoints, result. */
import { type FileSource, openFolder, subfolder } from "../../src/io/index.ts";
import { jsonBytes, writeFile } from "../../src/io/source.ts";
import {
  AdamW,
  constantSchedule,
  cosineSchedule,
  LossScaler,
  linearSchedule,
  type Schedule,
} from "../../src/nn/index.ts";
import { manualSeed, restoreGenerator, saveGenerator } from "../../src/random.ts";
import { noGrad, untracked } from "../../src/tensor.ts";
import { bucket } from "../batch.ts";
import { decodeImage } from "../decode.ts";
import { preprocess } from "../image.ts";
import { type Evaluation, fillGradients, type Progress, parameterTable, train } from "../train.ts";
import { collate, type TrainingInput } from "./collate.ts";
import { lossCurve } from "./curve.ts";
import { checkFiles, type EncoderOptions, encodeSample, openFile, readSamples, type Sample } from "./data.ts";
import { forecastMemory, type MemoryForecast } from "./forecast.ts";
import { type Decode, FeatureCache, ImageLoader, stackPixels } from "./images.ts";
import { type OpenedModel, openModel, parameterGroups, prepareModel, saveResult, type TrainedModel } from "./model.ts";
import type { Recipe } from "./recipe.ts";
import { epochSteps, type MicroBatch, type SampleSize, type Step } from "./sampler.ts";
import { type Identity, resumeRun, saveRun } from "./state.ts";

export interface RunOptions {
  /** Go on from the last checkpoint in output_dir, if there is one. Default false. */
  resume?: boolean;
  /** Everything up to the first step: data are read and checked, memory is forecast. */
  dryRun?: boolean;
  signal?: AbortSignal;
  /** Pixels of an image file. Default: PNG and JPEG, and in browsers what they know. */
  decode?: Decode;
  /** What is known before the first step. */
  onStart?: (facts: RunFacts) => void;
  onProgress?: (progress: Progress) => void;
  onEvaluation?: (evaluation: Evaluation) => void;
  /** Further figures at each evaluation, beside the loss on eval_data_path. */
  evaluate?: (model: TrainedModel, step: number) => Promise<Record<string, number>>;
}

export interface RunFacts {
  readonly parameters: ReturnType<typeof parameterTable>;
  /** Layers with a LoRA. */
  readonly adapted: readonly string[];
  /** Parameters of a part that trains which no batch reaches (layers behind the one that is read): they stay as they are. */
  readonly unused: readonly string[];
  readonly memory: MemoryForecast;
  readonly samples: number;
  /** Rows that they take in an epoch: fewer with packing. */
  readonly rows: number;
  /** Samples longer than model_max_length, which lose their end. */
  readonly cut: number;
  readonly evaluationSamples: number;
  readonly steps: number;
  /** Steps of an earlier run that this one goes on from. */
  readonly resumedAt: number;
}

export interface RunResult extends RunFacts {
  readonly model: TrainedModel;
  readonly losses: readonly number[];
  readonly evaluations: readonly Evaluation[];
  /** Steps skipped because gradients overflowed (fp16). */
  readonly skipped: number;
  /** The file with what was trained, in output_dir; undefined after a dry run. */
  readonly written?: string;
}

/** Trains as the recipe says and writes the result to its output_dir, with loss.svg and log.json beside it. */
export async function trainRecipe(recipe: Recipe, options: RunOptions = {}): Promise<RunResult> {
  manualSeed(recipe.seed);
  const opened = await openModel(recipe);
  const { model } = opened;
  const adapted = prepareModel(model, recipe);
  const folder = await openFolder(recipe.image_folder);
  const output = await openFolder(recipe.output_dir);
  const data = await DataSet.open([recipe.data_path].flat(), opened, recipe, folder);
  const heldOut = recipe.eval_data_path
    ? await DataSet.open([recipe.eval_data_path], opened, recipe, folder)
    : undefined;
  const batches = new Batches(opened, recipe, folder, output, options.decode ?? decodeImage);

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
    memory: await forecast(model, optimizer, await batches.largest(data, false), recipe),
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

/** Samples of one or several files, all of them checked. */
class DataSet {
  private constructor(
    readonly samples: readonly Sample[],
    readonly sizes: readonly SampleSize[],
    /** Samples that are longer than the longest sequence. */
    readonly cut: number,
    readonly encoder: EncoderOptions,
    private readonly recipe: Recipe,
  ) {}

  static async open(
    paths: readonly string[],
    opened: OpenedModel,
    recipe: Recipe,
    folder: FileSource,
  ): Promise<DataSet> {
    const samples: Sample[] = [];
    for (const path of paths) {
      const { source, name } = await openFile(path);
      for (const sample of await readSamples(source, name)) samples.push(sample);
    }
    await checkFiles(samples, folder);
    const { processor, legacy, imageToken, tokensPerImage } = opened;
    const encoder: EncoderOptions = {
      tokenizer: processor.tokenizer,
      version: recipe.version,
      legacy,
      imStartEnd: processor.options.imStartEnd,
      imageToken,
      tokensPerImage,
      maxLength: recipe.model_max_length,
    };
    // Every sample is tokenised once before the first step, so that a bad one does not end a run after hours.
    let cut = 0;
    const sizes = samples.map((sample): SampleSize => {
      const encoded = encodeSample(sample, encoder);
      if (encoded.cut) cut++;
      return { length: encoded.length, hasImage: sample.images.length > 0 };
    });
    return new DataSet(samples, sizes, cut, encoder, recipe);
  }

  /** The steps of an epoch. */
  steps(epoch: number): Step[] {
    const { train_batch_size: batch, micro_batch_size: micro, seed, packing, model_max_length } = this.recipe;
    const grouped = this.recipe.group_by_modality_length;
    return epochSteps(this.sizes, epoch, {
      batch,
      micro,
      seed,
      grouped,
      packTo: packing ? model_max_length : undefined,
    });
  }
}

interface TrainingBatch {
  readonly input: TrainingInput;
  /** Positions that are not padding. */
  readonly tokens: number;
  /** Whether it ends its step. */
  readonly last: boolean;
}

/** Makes batches of a data set: ids, and images as pixels or as features of the frozen tower. */
class Batches {
  readonly cache?: FeatureCache;
  readonly #images: ImageLoader;
  readonly #plainImages: ImageLoader;

  constructor(
    readonly opened: OpenedModel,
    readonly recipe: Recipe,
    folder: FileSource,
    output: FileSource,
    decode: Decode,
  ) {
    const { model, processor, pixelShape, featureShape } = opened;
    const { augment_crop: crop, augment_flip: flip, augment_jitter: jitter, seed } = recipe;
    const { aspect } = processor.options;
    const images = {
      folder,
      decode,
      preprocess: (image: Parameters<typeof preprocess>[0]) => preprocess(image, processor.images, aspect).data,
      size: pixelShape[1],
      seed,
    };
    this.#plainImages = new ImageLoader(images);
    this.#images =
      crop || flip || jitter > 0 ? new ImageLoader({ ...images, augment: { crop, flip, jitter } }) : this.#plainImages;
    if (recipe.feature_cache === "off") return;
    this.cache = new FeatureCache({
      compute: (pixels) => model.visionFeatures(pixels),
      pixelShape,
      featureShape,
      chunk: recipe.micro_batch_size,
      budget: recipe.feature_cache_bytes,
      disk: recipe.feature_cache === "disk" ? subfolder(output, "features") : undefined,
    });
  }

  /** The micro-batches of the steps from `first` on, until `steps` are done. */
  async *training(data: DataSet, first: number, steps: number): AsyncGenerator<TrainingBatch> {
    const perEpoch = data.steps(0).length;
    for (let at = first; at < steps; ) {
      const epoch = Math.floor(at / perEpoch);
      for (const step of data.steps(epoch).slice(at % perEpoch)) {
        for (const [i, micro] of step.entries())
          yield { ...(await this.make(data, micro, epoch)), last: i === step.length - 1 };
        if (++at === steps) return;
      }
    }
  }

  /** One batch. Without an epoch its images are as they are: not augmented. */
  async make(data: DataSet, rows: MicroBatch, epoch?: number): Promise<Omit<TrainingBatch, "last">> {
    const { maxLength } = data.encoder;
    const encoded = rows.map((row) => row.map((id) => encodeSample(data.samples[id], data.encoder)));
    const input = collate(encoded, maxLength);
    const tokens = encoded.flat().reduce((n, { length }) => n + length, 0);
    const wanted = rows.flat().flatMap((id) => data.samples[id].images.map((_, index) => ({ id, index })));
    if (wanted.length === 0) return { input, tokens };
    const loader = epoch === undefined ? this.#plainImages : this.#images;
    const load = (i: number): Promise<Float32Array> =>
      loader.pixels(data.samples[wanted[i].id], wanted[i].index, wanted[i].id, epoch ?? 0);
    if (this.cache) {
      const names = wanted.map(({ id, index }) => data.samples[id].images[index]);
      return { input: { ...input, visionFeatures: await this.cache.get(names, load) }, tokens };
    }
    const pixels = await Promise.all(wanted.map((_, i) => load(i)));
    return { input: { ...input, pixelValues: stackPixels(pixels, this.opened.pixelShape) }, tokens };
  }

  /** The batch of the first epoch that takes the most positions; `pictured`: among those with images, if there are any. */
  async largest(data: DataSet, pictured: boolean): Promise<TrainingInput> {
    const lengthOf = (row: readonly number[]): number => row.reduce((n, id) => n + data.sizes[id].length, 0);
    const area = (rows: MicroBatch): number => rows.length * bucket(Math.max(...rows.map(lengthOf)));
    const all = data.steps(0).flat();
    const some = pictured ? all.filter((rows) => rows.flat().some((id) => data.sizes[id].hasImage)) : all;
    const batch = (some.length ? some : all).reduce((a, b) => (area(b) > area(a) ? b : a));
    return (await this.make(data, batch)).input;
  }

  /** Mean loss over all labels of a data set. */
  async meanLoss(data: DataSet): Promise<number> {
    let [sum, count] = [0, 0];
    for (const rows of data.steps(0).flat()) {
      const { input } = await this.make(data, rows);
      const labels = ((await input.labels.data()) as Int32Array).reduce((n, label) => n + (label >= 0 ? 1 : 0), 0);
      sum += labels * (await noGrad(() => this.opened.model.loss(input)).item());
      count += labels;
    }
    return sum / count;
  }
}

/** Gradients of a batch as graphs, which nothing computes; the generator stays where it is. */
function probe(model: TrainedModel, input: TrainingInput): void {
  const generator = saveGenerator();
  untracked(() => model.loss(input)).backward();
  restoreGenerator(generator);
}

/** Freezes what trains by the recipe but is not reached by gradients; returns the names. */
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

async function forecast(
  model: TrainedModel,
  optimizer: AdamW,
  input: TrainingInput,
  recipe: Recipe,
): Promise<MemoryForecast> {
  probe(model, input);
  fillGradients(optimizer);
  const memory = await forecastMemory(
    model,
    optimizer,
    recipe.train_batch_size > recipe.micro_batch_size || recipe.fp16,
  );
  optimizer.zeroGrad();
  return memory;
}

function scheduleOf(recipe: Recipe, total: number): Schedule {
  const warmup = Math.min(total, recipe.warmup_steps ?? Math.ceil(recipe.warmup_ratio * total));
  const min = recipe.min_lr / recipe.learning_rate;
  if (recipe.lr_scheduler_type === "constant") return constantSchedule({ warmup });
  return (recipe.lr_scheduler_type === "linear" ? linearSchedule : cosineSchedule)({ warmup, total, min });
}

/** Keys that may differ when a run goes on: places, and what does not change the numbers. */
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
