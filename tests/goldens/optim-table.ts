import * as nn from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
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

const shared = ["lr", "weight_decay", "max_norm", "groups", "warmup_steps", "total_steps"];

/** Optimisers by the first word of the case's name. */
const optimizers: Readonly<Record<string, Known>> = {
  adamw: {
    keys: [...shared, "betas", "eps"],
    make: (params, options, { betas, eps }) => new nn.AdamW(params, { ...options, betas, eps }),
  },
  sgd: {
    keys: [...shared, "momentum", "nesterov"],
    make: (params, options, { momentum, nesterov }) => new nn.SGD(params, { ...options, momentum, nesterov }),
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
  cosine: ({ warmup_steps: warmup, total_steps: total }) => cosineSchedule({ warmup, total }),
  linear: ({ warmup_steps: warmup, total_steps: total }) => linearSchedule({ warmup, total }),
};
