/** The training loop: batches in, a loss curve out. */

import { type Tensor, zeros } from "../../src/index.ts";
import { type LossScaler, type Module, type Optimizer, QuantizedWeight } from "../../src/nn/index.ts";

export interface Progress {
  /** Steps whose loss is known, and steps in all (undefined when the batches do not say). */
  readonly step: number;
  readonly total?: number;
  /** Loss of that step, and its running mean (decay 0.98). */
  readonly loss: number;
  readonly meanLoss: number;
  readonly learningRate: number;
  readonly stepsPerSecond: number;
  /** Of `work`, per second; 0 without it. */
  readonly workPerSecond: number;
  readonly seconds: number;
  /** With a scaler: steps skipped so far because gradients overflowed. */
  readonly skipped: number;
}

/** Figures taken between two steps. */
export interface Evaluation {
  readonly step: number;
  readonly values: Readonly<Record<string, number>>;
}

/** What a pause between two steps is told. All losses up to the step are known then. */
export interface Pause {
  readonly step: number;
  readonly losses: readonly number[];
}

export interface TrainOptions<B> {
  batches: Iterable<B> | AsyncIterable<B>;
  /** Builds the graph of a batch's mean loss. */
  loss: (batch: B) => Tensor;
  optimizer: Optimizer;
  /** Stop after this many steps, however many batches there are. */
  steps?: number;
  /** Micro-batches a step: gradients are averaged over them. A number (default 1), or whether a batch ends its step. */
  accumulate?: number | ((batch: B) => boolean);
  /** Scales the loss, for gradients in f16; steps whose gradients overflow are skipped and counted. */
  scaler?: LossScaler;
  /** Give zero gradients to parameters that a batch does not reach, as batches of text do not reach a projector. */
  allowUnused?: boolean;
  /** Losses of the steps before, when a run goes on. */
  resumed?: readonly number[];
  /** Runs between steps, after every `every`th (the steps of earlier runs count) and not after the last. */
  pauses?: readonly { every: number; run: (pause: Pause) => Promise<void> }[];
  /** Work of a batch, for rates: FLOPs, tokens, images. */
  work?: (batch: B) => number;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface TrainResult {
  /** Loss of every step (mean over its micro-batches). */
  readonly losses: number[];
  readonly seconds: number;
}

/** Steps whose loss may be unread: the host builds these while the device works. */
const READ_BEHIND = 2;

/** Trains until the batches or `steps` end. A loss that is not finite stops it with an error. */
export async function train<B>(options: TrainOptions<B>): Promise<TrainResult> {
  const { batches, loss, optimizer, steps = Infinity, accumulate = 1, scaler, work, onProgress, signal } = options;
  const { resumed = [], pauses = [], allowUnused = false } = options;
  if (!(steps > 0)) throw new RangeError(`train: steps must be positive, got ${steps}`);
  if (typeof accumulate === "number" && !(Number.isInteger(accumulate) && accumulate >= 1))
    throw new RangeError(`train: accumulate must be a positive integer, got ${accumulate}`);
  const total = Number.isFinite(steps) ? steps : undefined;
  const began = performance.now();
  const losses: number[] = [...resumed];
  const unread: { losses: Tensor[]; learningRate: number; done: number; skipped: boolean }[] = [];
  let mean = runningMean(losses);
  let done = 0; // work so far

  const readOldest = async (): Promise<void> => {
    const { losses: parts, learningRate, done: workDone, skipped } = unread.shift()!;
    const values = await Promise.all(parts.map((part) => part.item()));
    const value = values.reduce((a, b) => a + b, 0) / values.length;
    const count = losses.push(value);
    if (!Number.isFinite(value) && !skipped)
      throw new Error(
        `train: the loss of step ${count} is ${value}; lower the learning rate, or clip gradients (maxNorm)`,
      );
    mean = nextMean(mean, value);
    const seconds = (performance.now() - began) / 1000;
    onProgress?.({
      step: count,
      total,
      loss: value,
      meanLoss: mean,
      learningRate,
      stepsPerSecond: (count - resumed.length) / seconds,
      workPerSecond: workDone / seconds,
      seconds,
      skipped: scaler?.state.skipped ?? 0,
    });
  };

  let parts: Tensor[] = [];
  const step = async (): Promise<void> => {
    const learningRate = optimizer.learningRates()[0];
    const skipped = scaler ? !(await scaler.step(optimizer)) : (await optimizer.step(), false);
    unread.push({ losses: parts, learningRate, done, skipped });
    parts = [];
    if (unread.length > READ_BEHIND) await readOldest();
  };
  /** The pauses due after the last step, unless no further one follows. */
  const pause = async (): Promise<void> => {
    const at = losses.length + unread.length;
    const due = at === resumed.length ? [] : pauses.filter(({ every }) => every > 0 && at % every === 0);
    if (due.length) while (unread.length) await readOldest();
    for (const { run } of due) await run({ step: at, losses });
  };
  for await (const batch of batches) {
    signal?.throwIfAborted();
    if (parts.length === 0) await pause();
    const value = loss(batch);
    (scaler ? scaler.scale(value) : value).backward();
    if (allowUnused) fillGradients(optimizer);
    parts.push(value);
    done += work?.(batch) ?? 0;
    if (typeof accumulate === "number" ? parts.length < accumulate : !accumulate(batch)) {
      await (scaler ? scaler.accumulate(optimizer) : optimizer.accumulate());
      continue;
    }
    await step();
    if (losses.length + unread.length >= steps) break;
  }
  if (parts.length) await step(); // the batches ended within a step
  while (unread.length) await readOldest();
  if (losses.length === 0) throw new Error("train: no batches");
  return { losses, seconds: (performance.now() - began) / 1000 };
}

/** Zeros for the parameters without a gradient. */
export function fillGradients(optimizer: Optimizer): void {
  for (const { params } of optimizer.groups) for (const p of params) p.grad ??= zeros(p.shape);
}

/** The running mean that progress shows: decay 0.98. Steps without a finite loss (skipped ones) leave it as it is. */
const nextMean = (mean: number, value: number): number =>
  !Number.isFinite(value) ? mean : Number.isNaN(mean) ? value : 0.98 * mean + 0.02 * value;
const runningMean = (losses: readonly number[]): number => losses.reduce(nextMean, NaN);

/** How many values of each part of a model train: the table of what is frozen. */
export function parameterTable(model: Module): { part: string; values: number; trained: number }[] {
  const values = new Map<Tensor, number>(); // a quantised matrix has as many as the one it stands for
  for (const [, module] of model.namedModules()) {
    if (!(module instanceof QuantizedWeight)) continue;
    values.set(module.packed, module.shape[0] * module.shape[1]);
    for (const p of module.parameters()) if (p !== module.packed) values.set(p, 0);
  }
  const parts = new Map<string, { part: string; values: number; trained: number }>();
  for (const [name, tensor] of model.namedParameters()) {
    const part = name.split(".")[0];
    const row = parts.get(part) ?? { part, values: 0, trained: 0 };
    row.values += values.get(tensor) ?? tensor.numel;
    row.trained += tensor.requiresGrad ? tensor.numel : 0;
    parts.set(part, row);
  }
  return [...parts.values()];
}
