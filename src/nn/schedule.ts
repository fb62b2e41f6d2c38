/** The factor on the learning rate at a step. Steps count from 0. */
export type Schedule = (step: number) => number;

export interface ScheduleOptions {
  /** Steps in which the factor rises linearly from 0. Default 0. */
  warmup?: number;
  /** All steps, warm-up included. */
  total: number;
  /** Factor at the end. Default 0. */
  min?: number;
}

/** Linear warm-up, then 1. */
export const constantSchedule = ({ warmup = 0 }: { warmup?: number } = {}): Schedule => {
  checkCounts("constantSchedule", warmup, Infinity, 0);
  return (step) => (step < warmup ? step / warmup : 1);
};

/**
 * Linear warm-up, then linear decay to `min` at step `total`, then constant.
 * @example new SGD(model.parameters(), { lr: 0.1, schedule: linearSchedule({ warmup: 10, total: 100 }) })
 */
export const linearSchedule = ({ warmup = 0, total, min = 0 }: ScheduleOptions): Schedule => {
  checkCounts("linearSchedule", warmup, total, min);
  return (step) =>
    step < warmup ? step / warmup : min + (1 - min) * Math.max(0, (total - step) / Math.max(1, total - warmup));
};

/** Linear warm-up, then half a cosine period down to `min` at step `total`. After that the cosine rises, as in transformers. */
export const cosineSchedule = ({ warmup = 0, total, min = 0 }: ScheduleOptions): Schedule => {
  checkCounts("cosineSchedule", warmup, total, min);
  return (step) => {
    if (step < warmup) return step / warmup;
    const progress = (step - warmup) / Math.max(1, total - warmup);
    return min + (1 - min) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
};

function checkCounts(name: string, warmup: number, total: number, min: number): void {
  if (!(warmup >= 0 && total > 0 && warmup <= total))
    throw new RangeError(`${name}: expected 0 <= warmup <= total, got warmup ${warmup}, total ${total}`);
  if (!(min >= 0 && min <= 1))
    throw new RangeError(`${name}: min must be in [0, 1], a fraction of the learning rate, got ${min}`);
}
