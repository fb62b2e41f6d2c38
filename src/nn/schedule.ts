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

/** The factor falls to `gamma` times itself every `size` steps. */
export function stepSchedule({ size, gamma = 0.1 }: { size: number; gamma?: number }): Schedule {
  checkWhole("stepSchedule", { size });
  return (step) => gamma ** Math.floor(step / size);
}

/** The factor falls to `gamma` times itself at every milestone. A step that is listed twice counts twice. */
export const multiStepSchedule = ({
  milestones,
  gamma = 0.1,
}: {
  milestones: readonly number[];
  gamma?: number;
}): Schedule => {
  return (step) => gamma ** milestones.filter((m) => m <= step).length;
};

/** gamma ^ step. */
export const exponentialSchedule =
  ({ gamma }: { gamma: number }): Schedule =>
  (step) =>
    gamma ** step;

/** (1 - step / total) ^ power, then 0. */
export function polynomialSchedule({ total, power = 1 }: { total: number; power?: number }): Schedule {
  checkWhole("polynomialSchedule", { total });
  return (step) => (1 - Math.min(step, total) / total) ** power;
}

/** The factor goes linearly from `start` to `end` in `total` steps, then stays. torch's LinearLR; ConstantLR is `start = end` and then 1. */
export function rampSchedule({
  start = 1 / 3,
  end = 1,
  total = 5,
}: {
  start?: number;
  end?: number;
  total?: number;
}): Schedule {
  checkWhole("rampSchedule", { total });
  return (step) => start + ((end - start) * Math.min(step, total)) / total;
}

/** `factor` for the first `total` steps, then 1: torch's ConstantLR. */
export function reducedSchedule({ factor = 1 / 3, total = 5 }: { factor?: number; total?: number } = {}): Schedule {
  checkWhole("reducedSchedule", { total });
  return (step) => (step < total ? factor : 1);
}

/** The product of factors[1] … factors[step], from a function of the step: torch's MultiplicativeLR. */
export const multiplicativeSchedule =
  (factor: (step: number) => number): Schedule =>
  (step) => {
    let product = 1;
    for (let i = 1; i <= step; i++) product *= factor(i);
    return product;
  };

/** Any function of the step, as torch's LambdaLR. */
export const lambdaSchedule = (factor: (step: number) => number): Schedule => factor;

/** Half a cosine period from 1 down to `min` in `period` steps, and from 1 again; each period is `growth` times as long. */
export function cosineRestarts({
  period,
  growth = 1,
  min = 0,
}: {
  period: number;
  growth?: number;
  min?: number;
}): Schedule {
  checkWhole("cosineRestarts", { period, growth });
  return (step) => {
    let [at, length] = [step, period];
    if (growth === 1) at %= period;
    else for (; at >= length; length *= growth) at -= length;
    return min + (1 - min) * 0.5 * (1 + Math.cos((Math.PI * at) / length));
  };
}

export interface OneCycleOptions {
  /** Steps of the whole cycle. */
  total: number;
  /** Share of the steps in which the rate rises. Default 0.3. */
  rise?: number;
  /** Shape of each phase. Default "cos". */
  anneal?: "cos" | "linear";
  /** The factor starts at 1 / divFactor. Default 25. */
  divFactor?: number;
  /** It ends at 1 / (divFactor * finalDivFactor). Default 1e4. */
  finalDivFactor?: number;
  /** A fall that mirrors the rise, then one to the end. Default false: one fall. */
  threePhase?: boolean;
}

/**
 * One cycle (https://arxiv.org/abs/1708.07120): the factor rises to 1, then falls far below its start. Give the largest rate
 * as the optimizer's lr.
 * @example new SGD(params, { lr: 1, schedule: oneCycleSchedule({ total: 100 }), momentum: oneCycleMomentum({ total: 100 }) })
 */
export function oneCycleSchedule(options: OneCycleOptions): Schedule {
  const { divFactor = 25, finalDivFactor = 1e4 } = options;
  const start = 1 / divFactor;
  return cycle("oneCycleSchedule", options, start, 1, start / finalDivFactor);
}

/** The momentum of one cycle: from `max` (default 0.95) down to `min` (0.85) as the rate rises, and back. */
export const oneCycleMomentum = ({
  max = 0.95,
  min = 0.85,
  ...options
}: OneCycleOptions & { max?: number; min?: number }): Schedule => cycle("oneCycleMomentum", options, max, min, max);

function cycle(name: string, options: OneCycleOptions, start: number, top: number, end: number): Schedule {
  const { total, rise = 0.3, anneal = "cos", threePhase = false } = options;
  checkWhole(name, { total });
  if (!(rise > 0 && rise <= 1)) throw new RangeError(`${name}: rise must be in (0, 1], got ${rise}`);
  if (anneal !== "cos" && anneal !== "linear")
    throw new TypeError(`${name}: anneal must be "cos" or "linear", got ${JSON.stringify(anneal)}`);
  const up = { until: rise * total - 1, from: start, to: top };
  const phases = threePhase
    ? [up, { until: 2 * rise * total - 2, from: top, to: start }, { until: total - 1, from: start, to: end }]
    : [up, { until: total - 1, from: top, to: end }];
  return (step) => {
    let began = 0;
    for (const { until, from, to } of phases) {
      if (step <= until || until === total - 1) {
        const part = Math.min(1, (step - began) / (until - began));
        return anneal === "linear"
          ? from + (to - from) * part
          : to + ((from - to) / 2) * (1 + Math.cos(Math.PI * part));
      }
      began = until;
    }
    return end;
  };
}

export interface CyclicOptions {
  /** Highest factor; the lowest is 1. */
  max: number;
  /** Steps up, and down. Default 2000, and as many. */
  up?: number;
  down?: number;
  /** Height of later cycles: the same, half of the one before, or gamma ^ step. Default "triangular". */
  mode?: "triangular" | "triangular2" | "exp_range";
  /** Of "exp_range". Default 1. */
  gamma?: number;
}

/** Rises and falls between 1 and `max` (https://arxiv.org/abs/1506.01186). */
export function cyclicSchedule({ max, up = 2000, down = up, mode = "triangular", gamma = 1 }: CyclicOptions): Schedule {
  checkWhole("cyclicSchedule", { up, down });
  const heights = {
    triangular: () => 1,
    triangular2: (cycle: number) => 2 ** -cycle,
    exp_range: (_cycle: number, step: number) => gamma ** step,
  };
  const height = heights[mode];
  if (!height) throw new TypeError(`cyclicSchedule: mode must be ${Object.keys(heights).join(", ")}, got ${mode}`);
  return (step) => {
    const cycle = Math.floor(step / (up + down));
    const at = step - cycle * (up + down);
    const share = at <= up ? at / up : (up + down - at) / down;
    return 1 + (max - 1) * share * height(cycle, step);
  };
}

/** The schedules one after the other. Each counts from 0 at its milestone. */
export const sequentialSchedule =
  (schedules: readonly Schedule[], milestones: readonly number[]): Schedule =>
  (step) => {
    const i = milestones.filter((m) => m <= step).length;
    return schedules[i](step - (milestones[i - 1] ?? 0));
  };

/** The product of schedules: torch's ChainedScheduler. */
export const chainedSchedule =
  (...schedules: readonly Schedule[]): Schedule =>
  (step) =>
    schedules.reduce((product, schedule) => product * schedule(step), 1);

export interface PlateauOptions {
  /** Whether a smaller or a larger metric is better. Default "min". */
  mode?: "min" | "max";
  /** Factor of a reduction. Default 0.1. */
  factor?: number;
  /** Bad metrics in a row that are tolerated. Default 10. */
  patience?: number;
  /** Least improvement, relative to the best metric or absolute. Default 1e-4. */
  threshold?: number;
  /** Default "rel". */
  thresholdMode?: "rel" | "abs";
  /** Metrics after a reduction that do not count as bad. Default 0. */
  cooldown?: number;
  /** Least factor, a fraction of the learning rate. Default 0. */
  min?: number;
  /** A reduction by less than this is left out. Default 1e-8. */
  eps?: number;
}

/** A schedule that falls when a metric stops improving. Call `report` after every validation. */
export interface PlateauSchedule extends Schedule {
  report(metric: number): void;
  /** For checkpoints. */
  state(): PlateauState;
  restore(state: PlateauState): void;
}

export interface PlateauState {
  readonly current: number;
  readonly best: number;
  readonly bad: number;
  readonly cooling: number;
}

/**
 * As torch's ReduceLROnPlateau.
 * @example const schedule = reduceOnPlateau({ patience: 2 }); // schedule.report(validationLoss)
 */
export function reduceOnPlateau(options: PlateauOptions = {}): PlateauSchedule {
  const { mode = "min", factor = 0.1, patience = 10, threshold = 1e-4, thresholdMode = "rel" } = options;
  const { cooldown = 0, min = 0, eps = 1e-8 } = options;
  if (!(factor > 0 && factor < 1)) throw new RangeError(`reduceOnPlateau: factor must be in (0, 1), got ${factor}`);
  if (mode !== "min" && mode !== "max")
    throw new TypeError(`reduceOnPlateau: mode must be "min" or "max", got ${JSON.stringify(mode)}`);
  let state: PlateauState = { current: 1, best: mode === "min" ? Infinity : -Infinity, bad: 0, cooling: 0 };
  const improves = (metric: number): boolean => {
    const sign = mode === "min" ? -1 : 1;
    if (!Number.isFinite(state.best)) return Number.isFinite(metric);
    const margin = thresholdMode === "rel" ? state.best * (1 + sign * threshold) : state.best + sign * threshold;
    return mode === "min" ? metric < margin : metric > margin;
  };
  const report = (metric: number): void => {
    const better = improves(metric);
    let { current, best, bad, cooling } = state;
    if (better) best = metric;
    bad = better ? 0 : bad + 1;
    if (cooling > 0) {
      cooling--;
      bad = 0;
    }
    if (bad > patience) {
      const next = Math.max(current * factor, min);
      if (current - next > eps) current = next;
      [bad, cooling] = [0, cooldown];
    }
    state = { current, best, bad, cooling };
  };
  return Object.assign(() => state.current, {
    report,
    state: () => state,
    restore: (saved: PlateauState) => void (state = saved),
  });
}

/** @throws unless all are whole and at least 1. */
function checkWhole(name: string, values: Record<string, number>): void {
  for (const [key, value] of Object.entries(values))
    if (!(Number.isInteger(value) && value >= 1))
      throw new RangeError(`${name}: ${key} must be a whole number of at least 1, got ${value}`);
}

function checkCounts(name: string, warmup: number, total: number, min: number): void {
  if (!(warmup >= 0 && total > 0 && warmup <= total))
    throw new RangeError(`${name}: expected 0 <= warmup <= total, got warmup ${warmup}, total ${total}`);
  if (!(min >= 0 && min <= 1))
    throw new RangeError(`${name}: min must be in [0, 1], a fraction of the learning rate, got ${min}`);
}
