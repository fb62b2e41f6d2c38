/** Factor on the learning rate at a step, counted from 0. */
export type Schedule = (step: number) => number;

export interface ScheduleOptions {
  /** Steps over which the factor rises linearly from 0. */
  warmup?: number;
  /** Steps in all, warm-up included. */
  total: number;
  /** The factor decays to this instead of 0. */
  min?: number;
}

/** 1 after the warm-up. */
export const constantSchedule = ({ warmup = 0 }: { warmup?: number } = {}): Schedule => {
  checkCounts("constantSchedule", warmup, Infinity, 0);
  return (step) => (step < warmup ? step / warmup : 1);
};

/** Linear warm-up, then linear decay to `min`, which holds afterwards. */
export const linearSchedule = ({ warmup = 0, total, min = 0 }: ScheduleOptions): Schedule => {
  checkCounts("linearSchedule", warmup, total, min);
  return (step) =>
    step < warmup ? step / warmup : min + (1 - min) * Math.max(0, (total - step) / Math.max(1, total - warmup));
};

/** Linear warm-up, then half a cosine down to `min` at `total`; beyond it the cosine goes on (and rises), as in transformers. */
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
  if (!(min >= 0 && min <= 1)) throw new RangeError(`${name}: min is a fraction of the learning rate, got ${min}`);
}
