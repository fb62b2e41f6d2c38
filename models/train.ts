/** The training loop: batches in, a loss curve out. */
import type { Module, Optimizer } from "../src/nn/index.ts";
import type { Tensor } from "../src/tensor.ts";

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
}

export interface TrainOptions<B> {
  batches: Iterable<B> | AsyncIterable<B>;
  /** Builds the graph of a batch's mean loss. */
  loss: (batch: B) => Tensor;
  optimizer: Optimizer;
  /** Stop after this many steps, however many batches there are. */
  steps?: number;
  /** Micro-batches a step: gradients are averaged over them. Default 1. */
  accumulate?: number;
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
  const { batches, loss, optimizer, steps = Infinity, accumulate = 1, work, onProgress, signal } = options;
  if (!(steps > 0)) throw new RangeError(`train: steps must be positive, got ${steps}`);
  if (!Number.isInteger(accumulate) || accumulate < 1)
    throw new RangeError(`train: accumulate must be a positive integer, got ${accumulate}`);
  const total = Number.isFinite(steps) ? steps : undefined;
  const began = performance.now();
  const losses: number[] = [];
  const unread: { losses: Tensor[]; learningRate: number; done: number }[] = [];
  let mean = 0;
  let done = 0; // work so far

  const readOldest = async (): Promise<void> => {
    const { losses: parts, learningRate, done: workDone } = unread.shift()!;
    const values = await Promise.all(parts.map((part) => part.item()));
    const value = values.reduce((a, b) => a + b, 0) / values.length;
    const count = losses.push(value);
    if (!Number.isFinite(value))
      throw new Error(
        `train: the loss of step ${count} is ${value}; lower the learning rate, or clip gradients (maxNorm)`,
      );
    mean = count === 1 ? value : 0.98 * mean + 0.02 * value;
    const seconds = (performance.now() - began) / 1000;
    onProgress?.({
      step: count,
      total,
      loss: value,
      meanLoss: mean,
      learningRate,
      stepsPerSecond: count / seconds,
      workPerSecond: workDone / seconds,
      seconds,
    });
  };

  let parts: Tensor[] = [];
  const step = async (): Promise<void> => {
    const learningRate = optimizer.learningRates()[0];
    await optimizer.step();
    unread.push({ losses: parts, learningRate, done });
    parts = [];
    if (unread.length > READ_BEHIND) await readOldest();
  };
  for await (const batch of batches) {
    signal?.throwIfAborted();
    const value = loss(batch);
    value.backward();
    parts.push(value);
    done += work?.(batch) ?? 0;
    if (parts.length < accumulate) {
      await optimizer.accumulate();
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

/** How many values of each part of a model train: the table of what is frozen. */
export function parameterTable(model: Module): { part: string; values: number; trained: number }[] {
  const parts = new Map<string, { part: string; values: number; trained: number }>();
  for (const [name, tensor] of model.namedParameters()) {
    const part = name.split(".")[0];
    const row = parts.get(part) ?? { part, values: 0, trained: 0 };
    row.values += tensor.numel;
    row.trained += tensor.requiresGrad ? tensor.numel : 0;
    parts.set(part, row);
  }
  return [...parts.values()];
}
