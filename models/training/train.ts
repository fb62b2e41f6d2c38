/** The training loop: from batches to a loss curve. */

import { type Tensor, zeros } from "../../src/index.ts";
import { type LossScaler, type Module, type Optimizer, QuantizedWeight } from "../../src/nn/index.ts";

export interface Progress {
  /** Number of steps with a known loss, and of all steps (undefined if unknown). */
  readonly step: number;
  readonly total?: number;
  /** Loss of that step, and its running mean (decay 0.98). */
  readonly loss: number;
  readonly meanLoss: number;
  readonly learningRate: number;
  readonly stepsPerSecond: number;
  /** `work` per second; 0 without it. */
  readonly workPerSecond: number;
  readonly seconds: number;
  /** With a scaler: steps skipped so far because gradients overflowed. */
  readonly skipped: number;
}

/** Metrics between two steps. */
export interface Evaluation {
  readonly step: number;
  readonly values: Readonly<Record<string, number>>;
}

/** Arguments of a pause between two steps, when all losses so far are known. */
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
  /** Micro-batches per step, over which gradients are averaged: a number (default 1), or a test for the last one of a step. */
  accumulate?: number | ((batch: B) => boolean);
  /** Scales the loss for gradients in f16. Steps with overflowing gradients are skipped and counted. */
  scaler?: LossScaler;
  /** Use zero gradients for parameters that a batch does not reach, such as a projector in a batch of text. */
  allowUnused?: boolean;
  /** Losses of the earlier steps, for a run that continues. */
  resumed?: readonly number[];
  /** Runs after every `every`-th step, earlier runs included, but not after the last. */
  pauses?: readonly { every: number; run: (pause: Pause) => Promise<void> }[];
  /** Work of a batch for the rate: FLOPs, tokens or images. */
  work?: (batch: B) => number;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface TrainResult {
  /** Loss of every step (mean over its micro-batches). */
  readonly losses: number[];
  readonly seconds: number;
}

/** Most steps with an unread loss: the host builds them while the device works. */
const READ_BEHIND = 2;

/**
 * Trains until the batches or `steps` end.
 * @throws if a loss is not finite
 */
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
  if (parts.length) await step(); // the batches ended before the last micro-batch of a step
  while (unread.length) await readOldest();
  if (losses.length === 0) throw new Error("train: no batches");
  return { losses, seconds: (performance.now() - began) / 1000 };
}

/** Gives zero gradients to the parameters without one. */
export function fillGradients(optimizer: Optimizer): void {
  for (const { params } of optimizer.groups) for (const p of params) p.grad ??= zeros(p.shape);
}

/** The running mean of losses, decay 0.98. Steps without a finite loss, which are skipped ones, do not change it. */
const nextMean = (mean: number, value: number): number =>
  !Number.isFinite(value) ? mean : Number.isNaN(mean) ? value : 0.98 * mean + 0.02 * value;
const runningMean = (losses: readonly number[]): number => losses.reduce(nextMean, NaN);

/** Number of values and of trained values, by part of a model. */
export function parameterTable(model: Module): { part: string; values: number; trained: number }[] {
  const values = new Map<Tensor, number>(); // of a quantised matrix: those of the dense one
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
