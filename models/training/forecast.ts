import { setMemoryBudget, type Tensor } from "../../src/index.ts";
import type { Module, Optimizer } from "../../src/nn/index.ts";

/** GPU bytes of a training run, computed before it runs. */
export interface MemoryForecast {
  /** All tensors of the model. Those that train are copied into one buffer per group, and exist twice during the copy. */
  readonly weights: number;
  readonly packed: number;
  readonly moments: number;
  /** Gradients kept between micro-batches, and their mean. */
  readonly accumulated: number;
  /**
   * Temporary memory of the largest batch: activations, gradients and intermediates, within the memory budget. Batches of other
   * lengths reuse it. 0 on the reference backend, which has no plans.
   */
  readonly activations: number;
  /** With a memory budget: the same without one. */
  readonly unbudgeted?: number;
  readonly total: number;
}

const bytesOf = (tensors: Iterable<Tensor>): number =>
  [...tensors].reduce((n, { nbytes }) => n + Math.max(16, Math.ceil(nbytes / 16) * 16), 0); // buffers are multiples of 16 bytes

/**
 * The memory that a run needs. Call it after `backward` of the largest batch: the plan of that step is computed, nothing runs.
 * @param accumulates whether gradients of several micro-batches are added
 * @param budget the current memory budget, for a forecast without it as well
 * @throws if the step cannot fit the memory budget, naming its peak
 */
export async function forecastMemory(
  model: Module,
  optimizer: Optimizer,
  accumulates: boolean,
  budget: number | null = null,
): Promise<MemoryForecast> {
  const weights = bytesOf(model.parameters());
  const packed = optimizer.groups.reduce((n, { size }) => n + 4 * size, 0);
  const moments = optimizer.groups.reduce((n, { state }) => n + bytesOf(Object.values(state)), 0);
  const accumulated = accumulates ? 2 * packed : 0;
  const peak = async () => (await optimizer.plan())?.peakBytes ?? 0;
  const activations = await peak();
  if (budget !== null) await setMemoryBudget(undefined);
  const unbudgeted = budget === null ? undefined : await peak();
  if (budget !== null) await setMemoryBudget(budget);
  return {
    weights,
    packed,
    moments,
    accumulated,
    activations,
    unbudgeted,
    total: weights + packed + moments + accumulated + activations,
  };
}
