import * as nn from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { camelCase } from "./calls/call.ts";
import type { Case } from "./cases.ts";

const { cosineSchedule, linearSchedule } = nn;

/** Two layers with gelu between; the sizes are those of the weights. */
export class MLP extends nn.Module {
  readonly fc1: nn.Linear;
  readonly fc2: nn.Linear;

  /** `first` and `second` are the shapes of the weights: [hidden, in] and [out, hidden]. */
  constructor(first: readonly number[], second: readonly number[]) {
    super();
    this.fc1 = new nn.Linear(first[1], first[0]);
    this.fc2 = new nn.Linear(second[1], second[0]);
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.fc1.forward(x).gelu());
  }
}

interface Known {
  /** Keys of `hyper` it takes, in torch's spelling. */
  readonly keys: readonly string[];
  make(params: any, options: any, hyper: any): nn.Optimizer;
}

const shared = ["lr", "weight_decay", "max_norm", "groups", "warmup_steps", "total_steps", "clip_value"];

type Class = new (params: any, options: any) => nn.Optimizer;

/** An optimizer whose options are torch's in camelCase. */
const plain = (type: Class, keys: readonly string[]): Known => ({
  keys: [...shared, ...keys],
  make: (params, options, hyper) =>
    new type(params, {
      ...options,
      ...Object.fromEntries(keys.filter((key) => hyper[key] !== undefined).map((key) => [camelCase(key), hyper[key]])),
    }),
});

/** One cycle as this library spells it. */
const cycleOf = (given: any): nn.OneCycleOptions => ({
  total: given.total_steps,
  rise: given.pct_start,
  anneal: given.anneal_strategy,
  divFactor: given.div_factor,
  finalDivFactor: given.final_div_factor,
  threePhase: given.three_phase,
});

/** Optimisers by the first word of the case's name. */
const optimizers: Readonly<Record<string, Known>> = {
  adadelta: plain(nn.Adadelta, ["rho", "eps", "maximize"]),
  adagrad: plain(nn.Adagrad, ["lr_decay", "initial_accumulator_value", "eps", "maximize"]),
  adam: plain(nn.Adam, ["betas", "eps", "amsgrad", "maximize"]),
  adamax: plain(nn.Adamax, ["betas", "eps", "maximize"]),
  adamw: plain(nn.AdamW, ["betas", "eps", "amsgrad", "maximize"]),
  lion: plain(nn.Lion, ["betas"]),
  muon: {
    keys: [...shared, "momentum", "nesterov", "ns_steps", "ns_coefficients", "eps", "adjust_lr", "others"],
    make: (params, options, { others, ...hyper }) =>
      new nn.Muon(params, {
        ...options,
        momentum: hyper.momentum,
        nesterov: hyper.nesterov,
        nsSteps: hyper.ns_steps,
        nsCoefficients: hyper.ns_coefficients,
        eps: hyper.eps,
        adjustLr: hyper.adjust_lr,
        others: { lr: others.lr, betas: others.betas, eps: others.eps, weightDecay: others.weight_decay },
      }),
  },
  nadam: plain(nn.NAdam, ["betas", "eps", "momentum_decay", "maximize"]),
  radam: plain(nn.RAdam, ["betas", "eps", "maximize"]),
  rmsprop: plain(nn.RMSprop, ["alpha", "eps", "momentum", "centered", "maximize"]),
  rprop: plain(nn.Rprop, ["etas", "step_sizes", "maximize"]),
  sgd: {
    keys: [...shared, "momentum", "nesterov", "dampening", "maximize", "one_cycle"],
    make: (params, options, { momentum, nesterov, dampening, maximize, one_cycle: cycle }) =>
      new nn.SGD(params, {
        ...options,
        nesterov,
        dampening,
        maximize,
        momentum: cycle
          ? nn.oneCycleMomentum({ ...cycleOf(cycle), max: cycle.max_momentum, min: cycle.base_momentum })
          : momentum,
        ...(cycle && { lr: cycle.max_lr, schedule: nn.oneCycleSchedule(cycleOf(cycle)) }),
      }),
  },
};

/** What the optimiser lacks for this case: its own name, or hyper-parameters that are not neutral. Empty: it runs. */
export function lacking({ name, json }: Case): string[] {
  const word = name.split("-")[0];
  const known = optimizers[word];
  if (!known) return [word];
  return Object.keys(json.hyper).filter((key) => json.hyper[key] && !known.keys.includes(key));
}

export function makeOptimizer({ name, json: { hyper } }: Case, model: MLP): nn.Optimizer {
  const options: nn.OptimizerOptions = {
    lr: hyper.lr,
    weightDecay: hyper.weight_decay,
    maxNorm: hyper.max_norm,
    clipValue: hyper.clip_value,
    schedule:
      hyper.total_steps === undefined
        ? undefined
        : cosineSchedule({ warmup: hyper.warmup_steps, total: hyper.total_steps }),
  };
  const state = model.stateDict();
  const params = hyper.groups
    ? hyper.groups.map((group: any) => ({
        params: group.params.map((key: string) => state[key]),
        lr: group.lr,
        weightDecay: group.weight_decay,
      }))
    : model.parameters();
  return optimizers[name.split("-")[0]].make(params, options, hyper);
}

/** Learning-rate schedules by the `kind` of the file: the factor at a step. */
export const schedules: Readonly<Record<string, (given: any) => nn.Schedule>> = {
  ChainedScheduler: ({ schedulers, base_lr }) => nn.chainedSchedule(...schedulers.map((s: any) => parts(s, base_lr))),
  ConstantLR: ({ factor, total_iters: total }) => nn.reducedSchedule({ factor, total }),
  CosineAnnealingLR: ({ T_max: total, eta_min, base_lr }) => cosineSchedule({ total, min: eta_min / base_lr }),
  CosineAnnealingWarmRestarts: ({ T_0: period, T_mult: growth, eta_min, base_lr }) =>
    nn.cosineRestarts({ period, growth, min: eta_min / base_lr }),
  CyclicLR: ({ max_lr, step_size_up: up, step_size_down: down, mode, gamma, base_lr }) =>
    nn.cyclicSchedule({ max: max_lr / base_lr, up, down, mode, gamma }),
  ExponentialLR: ({ gamma }) => nn.exponentialSchedule({ gamma }),
  LambdaLR: ({ factors }) => nn.lambdaSchedule((step) => factors[step]),
  LinearLR: ({ start_factor: start, end_factor: end, total_iters: total }) => nn.rampSchedule({ start, end, total }),
  MultiStepLR: ({ milestones, gamma }) => nn.multiStepSchedule({ milestones, gamma }),
  MultiplicativeLR: ({ factors }) => nn.multiplicativeSchedule((step) => factors[step]),
  OneCycleLR: (given) => {
    const schedule = nn.oneCycleSchedule(cycleOf(given));
    return (step) => (schedule(step) * given.max_lr) / given.base_lr;
  },
  PolynomialLR: ({ total_iters: total, power }) => nn.polynomialSchedule({ total, power }),
  ReduceLROnPlateau: (given) => {
    const schedule = nn.reduceOnPlateau({
      mode: given.mode,
      factor: given.factor,
      patience: given.patience,
      threshold: given.threshold,
      thresholdMode: given.threshold_mode,
      cooldown: given.cooldown,
      min: given.min_lr / given.base_lr,
      eps: given.eps / given.base_lr,
    });
    // The factor of step i, then the metric that follows it.
    return (step) => {
      const factor = schedule(step);
      schedule.report(given.metrics[step]);
      return factor;
    };
  },
  SequentialLR: ({ schedulers, milestones, base_lr }) =>
    nn.sequentialSchedule(
      schedulers.map((s: any) => parts(s, base_lr)),
      milestones,
    ),
  StepLR: ({ step_size: size, gamma }) => nn.stepSchedule({ size, gamma }),
  cosine: ({ warmup_steps: warmup, total_steps: total }) => cosineSchedule({ warmup, total }),
  linear: ({ warmup_steps: warmup, total_steps: total }) => linearSchedule({ warmup, total }),
};

const parts = (given: any, base_lr: number): nn.Schedule => schedules[given.kind]({ ...given, base_lr });

/** The momentum of each step, for kinds that have one. */
export const momenta: Readonly<Record<string, (given: any) => nn.Schedule>> = {
  OneCycleLR: (given) => nn.oneCycleMomentum({ ...cycleOf(given), max: given.max_momentum, min: given.base_momentum }),
};
