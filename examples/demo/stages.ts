/** The stages of training: the ViT on heads, the LLaMA on text, the projector alone, then projector and LLaMA. */

import type { Llava } from "../../models/index.ts";
import { type Progress, train } from "../../models/training/index.ts";
import { crossEntropy, type Tensor, tensor } from "../../src/index.ts";
import { AdamW, cosineSchedule, decayMatrices } from "../../src/nn/index.ts";
import { type Batcher, type ConversationBatch, type HeadBatch, TILE_TOKENS } from "./batches.ts";
import { TILE } from "./draw.ts";
import { createHeads, forwardFlops } from "./model.ts";
import type { Packed } from "./pack.ts";

export interface StagePlan {
  steps: number;
  lr: number;
}
export interface Recipe {
  /** Stage 0: pictures per step, and rows of text per step. */
  vision: StagePlan & { batch: number };
  text: StagePlan & { batch: number };
  projector: StagePlan;
  joint: StagePlan;
  /** Conversations per step in stages 1 and 2. */
  singles: number;
  composites: number;
  /** Share of the steps of stages 1 and 2 that show composites. */
  compositeShare: number;
}

export interface StageResult {
  name: string;
  steps: number;
  seconds: number;
  flops: number;
  losses: number[];
  trained: number;
}

/** Progress of a stage, for its bar. */
export interface StageProgress extends Progress {
  /** Pictures (tiles) and text tokens so far, and FLOPs. */
  images: number;
  tokens: number;
  flops: number;
}
type OnProgress = (stage: string, progress: StageProgress) => void;

const i32 = (data: Int32Array, shape: number[]): Tensor => tensor(data, { shape, dtype: "i32" });
export const pixelTensor = (pixels: Float32Array): Tensor =>
  tensor(pixels, { shape: [pixels.length / (3 * TILE * TILE), 3, TILE, TILE] });

/** Weights of the losses of stage 0. */
const headWeights = {
  identity: 1,
  subgroup: 0.5,
  category: 0.5,
  colour: 0.5,
  tone: 0.3,
  ground: 0.3,
  tags: 0.5,
} as const;

/** Sum of the heads' losses; tags are soft targets. */
export function headLoss(logits: Record<string, Tensor>, batch: HeadBatch): Tensor {
  const n = batch.classes.category.length;
  const losses = Object.entries(batch.classes).map(([task, classes]) =>
    crossEntropy(logits[task], i32(classes, [n]), { ignoreIndex: -100 }).mul(
      headWeights[task as keyof typeof headWeights],
    ),
  );
  const target = tensor(batch.tags, { shape: [n, batch.tags.length / n] });
  const tags = logits.tags
    .logSoftmax(-1)
    .mul(target)
    .sum()
    .mul(-headWeights.tags / n);
  return losses.reduce((a, b) => a.add(b), tags);
}

/** A packed batch as model inputs. A batch of text has no pixels. */
export function modelInput(batch: Packed & Partial<Pick<ConversationBatch, "pixels" | "tiles">>) {
  const shape = [batch.rows, batch.length];
  return {
    inputIds: i32(batch.inputIds, shape),
    segments: i32(batch.segments, shape),
    labels: i32(batch.labels, shape),
    padTo: batch.length,
    pixelValues: batch.pixels && pixelTensor(batch.pixels),
    tilesPerImage: batch.tiles ? batch.tiles / batch.rows : 1,
  };
}

export class Trainer {
  readonly #flops: ReturnType<typeof forwardFlops>;

  constructor(
    readonly model: Llava,
    readonly batcher: Batcher,
    readonly recipe: Recipe,
    readonly seed: number,
    readonly onProgress: OnProgress,
    readonly signal?: AbortSignal,
  ) {
    this.#flops = forwardFlops(model.config);
  }

  /** Stage 0: the ViT learns identity, kind, colour, skin tone, ground and tags of single pictures. */
  async vision(): Promise<StageResult> {
    const { model, batcher, recipe } = this;
    const heads = createHeads(model, batcher.classes, batcher.tagWords.length, this.seed);
    model.requiresGrad_(false);
    model.vision_tower.requiresGrad_();
    const parameters = [...model.vision_tower.parameters(), ...heads.parameters()];
    const next = (): HeadBatch => batcher.heads(recipe.vision.batch);
    return this.#run("stage 0: ViT", recipe.vision, parameters, next, {
      loss: (batch) => headLoss(heads.forward(model.visionFeatures(pixelTensor(batch.pixels))), batch),
      images: () => recipe.vision.batch,
      tokens: () => 0,
      flops: () => 3 * recipe.vision.batch * this.#flops.tile,
    });
  }

  /** Stage 0: the LLaMA learns the words: names in both languages, kinds and tags, without pictures. */
  async text(): Promise<StageResult> {
    const { model, batcher, recipe } = this;
    model.requiresGrad_(false);
    model.language_model.requiresGrad_();
    const next = (): Packed => batcher.text(recipe.text.batch);
    return this.#run("stage 0: LLaMA", recipe.text, model.language_model.parameters(), next, {
      loss: (batch) => model.loss(modelInput(batch)),
      images: () => 0,
      tokens: tokensOf,
      flops: (batch) => 3 * (batch.rows * this.#flops.row(batch.length) + labelsOf(batch) * this.#flops.label),
    });
  }

  /** Stage 0, in place of `text`: the LLaMA learns to answer about scenes in words. */
  described(plan: StagePlan): Promise<StageResult> {
    const { model, batcher, recipe } = this;
    model.requiresGrad_(false);
    model.language_model.requiresGrad_();
    const next = (): Packed =>
      batcher.described(batcher.random.next() < recipe.compositeShare ? "composite" : "single", recipe.singles);
    return this.#run("stage 0: LLaMA, scenes in words", plan, model.language_model.parameters(), next, {
      loss: (batch) => model.loss(modelInput(batch)),
      images: () => 0,
      tokens: tokensOf,
      flops: (batch) => 3 * (batch.rows * this.#flops.row(batch.length) + labelsOf(batch) * this.#flops.label),
    });
  }

  /** Stage 1: the projector trains, the LLaMA is frozen. */
  async projector(): Promise<StageResult> {
    this.model.requiresGrad_(false);
    this.model.multi_modal_projector.requiresGrad_();
    this.model.image_slots!.requiresGrad_();
    return this.conversations("stage 1: projector", this.recipe.projector);
  }

  /** Stage 2: projector and LLaMA train, the ViT is frozen. */
  async joint(): Promise<StageResult> {
    this.model.requiresGrad_();
    this.model.vision_tower.requiresGrad_(false);
    return this.conversations("stage 2: projector + LLaMA", this.recipe.joint);
  }

  /** Trains all parameters that require gradients, on conversations about pictures. */
  conversations(name: string, plan: StagePlan): Promise<StageResult> {
    const { model, batcher, recipe } = this;
    const parameters = model.parameters().filter((p) => p.requiresGrad);
    const passes = model.vision_tower.parameters()[0].requiresGrad ? 3 : 1;
    const next = (): ConversationBatch => {
      const composite = batcher.random.next() < recipe.compositeShare;
      return batcher.conversations(composite ? "composite" : "single", composite ? recipe.composites : recipe.singles);
    };
    return this.#run(name, plan, parameters, next, {
      loss: (batch) => model.loss(modelInput(batch)),
      images: (batch) => batch.tiles,
      tokens: tokensOf,
      flops: (batch) =>
        passes * batch.tiles * this.#flops.tile +
        3 * (batch.rows * this.#flops.row(batch.length) + labelsOf(batch) * this.#flops.label),
    });
  }

  async #run<B>(
    name: string,
    { steps, lr }: StagePlan,
    parameters: Tensor[],
    next: () => B,
    of: {
      loss: (batch: B) => Tensor;
      images: (batch: B) => number;
      tokens: (batch: B) => number;
      flops: (batch: B) => number;
    },
  ): Promise<StageResult> {
    const optimizer = new AdamW(decayMatrices(parameters, 0.05), {
      lr,
      betas: [0.9, 0.98],
      maxNorm: 1,
      schedule: cosineSchedule({ warmup: Math.ceil(0.04 * steps), total: steps, min: 0.05 }),
    });
    // The loss of a step is read after later batches are made, so totals are kept per step.
    const totals: { images: number; tokens: number; flops: number }[] = [];
    const sum = { images: 0, tokens: 0, flops: 0 };
    const batches = function* (): Generator<B> {
      for (;;) {
        const batch = next();
        for (const key of ["images", "tokens", "flops"] as const) sum[key] += of[key](batch);
        totals.push({ ...sum });
        yield batch;
      }
    };
    const report = (progress: Progress): void => this.onProgress(name, { ...progress, ...totals[progress.step - 1] });
    const { losses, seconds } = await train({
      batches: batches(),
      loss: of.loss,
      optimizer,
      steps,
      onProgress: report,
      signal: this.signal,
    });
    const trained = parameters.reduce((n, p) => n + p.numel, 0);
    return { name, steps, seconds, flops: sum.flops, losses, trained };
  }
}

const tokensOf = (batch: Packed): number => batch.segments.reduce((n, s) => n + (s >= 0 ? 1 : 0), 0);
const labelsOf = (batch: Packed): number => batch.labels.reduce((n, label) => n + (label >= 0 ? 1 : 0), 0);
/** Number of positions of one picture in a row. */
export const imageTokens = (tiles: number): number => tiles * TILE_TOKENS;
