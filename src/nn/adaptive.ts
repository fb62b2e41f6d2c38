import { tensor } from "../ops/functional.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  checkBetas,
  checkFinite,
  checkOptions,
  Optimizer,
  type OptimizerOptions,
  type ParameterGroup,
  scalar,
  type Update,
  zeroState,
} from "./optimizer.ts";

// Optimizers with a rate per parameter, computed as torch.optim does. Weight decay is added to the gradient (L2) in all of
// them. Every rule is elementwise on the flat vectors of a group, so that it runs in one launch per vector.

type Params = Iterable<Tensor> | readonly ParameterGroup[];

export interface AdaptiveOptions extends OptimizerOptions {
  /** Added to the denominator. */
  eps?: number;
  /** Climbs: the gradients count with the other sign. Default false. */
  maximize?: boolean;
}

/** The gradient with its factor, its sign, and L2 weight decay. */
function gradientOf({ g, p, scale, group }: Update, maximize: boolean): Tensor {
  const scaled = scale ? g.mul(scale) : g;
  const signed = maximize ? scaled.neg() : scaled;
  return group.weightDecay ? signed.add(p.mul(scalar(group.weightDecay))) : signed;
}

/** Assigns rate * old + (1 - rate) * value, and returns it. */
function average(state: Tensor, rate: number, value: Tensor): Tensor {
  const next = state.mul(rate).add(value.mul(1 - rate));
  assign(state, next);
  return next;
}

export interface AdamOptions extends AdaptiveOptions {
  /** Decay of the first and of the second moment. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Divides by the largest second moment so far (https://arxiv.org/abs/1904.09237). Default false. */
  amsgrad?: boolean;
}

/**
 * Adam (https://arxiv.org/abs/1412.6980). Weight decay is added to the gradient; `AdamW` decays the parameters instead.
 * @example new Adam(model.parameters(), { lr: 1e-3 })
 */
export class Adam extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;
  readonly #amsgrad: boolean;
  readonly #maximize: boolean;

  constructor(params: Params, options: AdamOptions = {}) {
    const { betas = [0.9, 0.999], eps = 1e-8, amsgrad = false, maximize = false } = options;
    checkOptions("Adam", options, ["betas", "eps", "amsgrad", "maximize"]);
    checkBetas("Adam", betas);
    checkFinite("Adam", { eps });
    super("Adam", params, options, (size) => ({
      m: zeroState(size),
      v: zeroState(size),
      ...(amsgrad && { largest: zeroState(size) }),
    }));
    this.#betas = betas;
    this.#eps = eps;
    this.#amsgrad = amsgrad;
    this.#maximize = maximize;
  }

  protected override update(update: Update): Tensor {
    const { p, lr, step: t, group } = update;
    const [b1, b2] = this.#betas;
    const g = gradientOf(update, this.#maximize);
    const m = average(group.state.m, b1, g);
    let v = average(group.state.v, b2, g.square());
    if (this.#amsgrad) {
      v = group.state.largest.maximum(v);
      assign(group.state.largest, v);
    }
    const root = v
      .sqrt()
      .mul(scalar(1 / Math.sqrt(1 - b2 ** t)))
      .add(this.#eps);
    return p.sub(m.div(root).mul(scalar(lr / (1 - b1 ** t))));
  }
}

export interface AdagradOptions extends AdaptiveOptions {
  /** Rate lr / (1 + step * lrDecay). Default 0. */
  lrDecay?: number;
  /** First value of the sum of squares. Default 0. */
  initialAccumulatorValue?: number;
}

/** Divides by the root of the sum of all squared gradients (Duchi et al. 2011). Default lr 0.01. */
export class Adagrad extends Optimizer {
  readonly #eps: number;
  readonly #lrDecay: number;
  readonly #maximize: boolean;

  constructor(params: Params, options: AdagradOptions = {}) {
    const { lr = 0.01, eps = 1e-10, lrDecay = 0, initialAccumulatorValue = 0, maximize = false } = options;
    checkOptions("Adagrad", options, ["eps", "lrDecay", "initialAccumulatorValue", "maximize"]);
    checkFinite("Adagrad", { eps, lrDecay, initialAccumulatorValue });
    super("Adagrad", params, { ...options, lr }, (size) => ({
      sum: tensor(new Float32Array(size).fill(initialAccumulatorValue)),
    }));
    this.#eps = eps;
    this.#lrDecay = lrDecay;
    this.#maximize = maximize;
  }

  protected override update(update: Update): Tensor {
    const { p, lr, step, group } = update;
    const g = gradientOf(update, this.#maximize);
    const sum = group.state.sum.add(g.square());
    assign(group.state.sum, sum);
    const rate = lr / (1 + (step - 1) * this.#lrDecay);
    return p.sub(g.div(sum.sqrt().add(this.#eps)).mul(scalar(rate)));
  }
}

export interface RMSpropOptions extends AdaptiveOptions {
  /** Decay of the mean square. Default 0.99. */
  alpha?: number;
  /** Decay of the velocity. Default 0: no momentum. */
  momentum?: number;
  /** Divides by the root of the variance instead of the mean square. Default false. */
  centered?: boolean;
}

/** Divides by the root of a running mean of squared gradients (Hinton 2012). Default lr 0.01. */
export class RMSprop extends Optimizer {
  readonly #alpha: number;
  readonly #eps: number;
  readonly #momentum: number;
  readonly #centered: boolean;
  readonly #maximize: boolean;

  constructor(params: Params, options: RMSpropOptions = {}) {
    const { lr = 0.01, alpha = 0.99, eps = 1e-8, momentum = 0, centered = false, maximize = false } = options;
    checkOptions("RMSprop", options, ["alpha", "eps", "momentum", "centered", "maximize"]);
    checkFinite("RMSprop", { alpha, eps, momentum });
    if (alpha >= 1) throw new RangeError(`RMSprop: alpha must be in [0, 1), got ${alpha}`);
    super("RMSprop", params, { ...options, lr }, (size) => ({
      square: zeroState(size),
      ...(centered && { average: zeroState(size) }),
      ...(momentum > 0 && { velocity: zeroState(size) }),
    }));
    this.#alpha = alpha;
    this.#eps = eps;
    this.#momentum = momentum;
    this.#centered = centered;
    this.#maximize = maximize;
  }

  protected override update(update: Update): Tensor {
    const { p, lr, group } = update;
    const g = gradientOf(update, this.#maximize);
    const square = average(group.state.square, this.#alpha, g.square());
    const variance = this.#centered ? square.sub(average(group.state.average, this.#alpha, g).square()) : square;
    let direction = g.div(variance.sqrt().add(this.#eps));
    if (this.#momentum > 0) {
      direction = group.state.velocity.mul(this.#momentum).add(direction);
      assign(group.state.velocity, direction);
    }
    return p.sub(direction.mul(scalar(lr)));
  }
}

export interface AdadeltaOptions extends AdaptiveOptions {
  /** Decay of both running means. Default 0.9. */
  rho?: number;
}

/** Steps in the units of the parameters (https://arxiv.org/abs/1212.5701). Default lr 1, eps 1e-6. */
export class Adadelta extends Optimizer {
  readonly #rho: number;
  readonly #eps: number;
  readonly #maximize: boolean;

  constructor(params: Params, options: AdadeltaOptions = {}) {
    const { lr = 1, rho = 0.9, eps = 1e-6, maximize = false } = options;
    checkOptions("Adadelta", options, ["rho", "eps", "maximize"]);
    checkFinite("Adadelta", { rho, eps });
    if (rho > 1) throw new RangeError(`Adadelta: rho must be in [0, 1], got ${rho}`);
    super("Adadelta", params, { ...options, lr }, (size) => ({ square: zeroState(size), delta: zeroState(size) }));
    this.#rho = rho;
    this.#eps = eps;
    this.#maximize = maximize;
  }

  protected override update(update: Update): Tensor {
    const { p, lr, group } = update;
    const g = gradientOf(update, this.#maximize);
    const square = average(group.state.square, this.#rho, g.square());
    const delta = group.state.delta.add(this.#eps).sqrt().div(square.add(this.#eps).sqrt()).mul(g);
    average(group.state.delta, this.#rho, delta.square());
    return p.sub(delta.mul(scalar(lr)));
  }
}

export interface MomentOptions extends AdaptiveOptions {
  /** Decay of the first and of the second moment. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
}

/** Adam with the largest decayed gradient as second moment (https://arxiv.org/abs/1412.6980). Default lr 2e-3. */
export class Adamax extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;
  readonly #maximize: boolean;

  constructor(params: Params, options: MomentOptions = {}) {
    const { lr = 2e-3, betas = [0.9, 0.999], eps = 1e-8, maximize = false } = options;
    checkOptions("Adamax", options, ["betas", "eps", "maximize"]);
    checkBetas("Adamax", betas);
    checkFinite("Adamax", { eps });
    super("Adamax", params, { ...options, lr }, (size) => ({ m: zeroState(size), largest: zeroState(size) }));
    this.#betas = betas;
    this.#eps = eps;
    this.#maximize = maximize;
  }

  protected override update(update: Update): Tensor {
    const { p, lr, step: t, group } = update;
    const [b1, b2] = this.#betas;
    const g = gradientOf(update, this.#maximize);
    const m = average(group.state.m, b1, g);
    const largest = group.state.largest.mul(b2).maximum(g.abs().add(this.#eps));
    assign(group.state.largest, largest);
    return p.sub(m.div(largest).mul(scalar(lr / (1 - b1 ** t))));
  }
}

export interface NAdamOptions extends MomentOptions {
  /** How fast the momentum approaches beta1. Default 4e-3. */
  momentumDecay?: number;
}

/** Adam with Nesterov's momentum (Dozat 2016). Default lr 2e-3. */
export class NAdam extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;
  readonly #decay: number;
  readonly #maximize: boolean;

  constructor(params: Params, options: NAdamOptions = {}) {
    const { lr = 2e-3, betas = [0.9, 0.999], eps = 1e-8, momentumDecay = 4e-3, maximize = false } = options;
    checkOptions("NAdam", options, ["betas", "eps", "momentumDecay", "maximize"]);
    checkBetas("NAdam", betas);
    checkFinite("NAdam", { eps, momentumDecay });
    super("NAdam", params, { ...options, lr }, (size) => ({ m: zeroState(size), v: zeroState(size) }));
    this.#betas = betas;
    this.#eps = eps;
    this.#decay = momentumDecay;
    this.#maximize = maximize;
  }

  /** The momentum of step t. */
  #momentum(t: number): number {
    return this.#betas[0] * (1 - 0.5 * 0.96 ** (t * this.#decay));
  }

  protected override update(update: Update): Tensor {
    const { p, lr, step: t, group } = update;
    const [b1, b2] = this.#betas;
    const g = gradientOf(update, this.#maximize);
    const m = average(group.state.m, b1, g);
    const v = average(group.state.v, b2, g.square());
    let product = 1;
    for (let i = 1; i <= t; i++) product *= this.#momentum(i);
    const [now, next] = [this.#momentum(t), this.#momentum(t + 1)];
    const root = v
      .mul(scalar(1 / (1 - b2 ** t)))
      .sqrt()
      .add(this.#eps);
    const direction = g
      .mul(scalar((lr * (1 - now)) / (1 - product)))
      .add(m.mul(scalar((lr * next) / (1 - product * next))));
    return p.sub(direction.div(root));
  }
}

/** Adam that adapts only once the second moment is reliable (https://arxiv.org/abs/1908.03265). */
export class RAdam extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;
  readonly #maximize: boolean;

  constructor(params: Params, options: MomentOptions = {}) {
    const { betas = [0.9, 0.999], eps = 1e-8, maximize = false } = options;
    checkOptions("RAdam", options, ["betas", "eps", "maximize"]);
    checkBetas("RAdam", betas);
    checkFinite("RAdam", { eps });
    super("RAdam", params, options, (size) => ({ m: zeroState(size), v: zeroState(size) }));
    this.#betas = betas;
    this.#eps = eps;
    this.#maximize = maximize;
  }

  protected override update(update: Update): Tensor {
    const { p, lr, step: t, group } = update;
    const [b1, b2] = this.#betas;
    const g = gradientOf(update, this.#maximize);
    const m = average(group.state.m, b1, g);
    const v = average(group.state.v, b2, g.square());
    const longest = 2 / (1 - b2) - 1;
    const length = longest - (2 * t * b2 ** t) / (1 - b2 ** t);
    const reliable = length > 5;
    const rectified = reliable
      ? Math.sqrt(((length - 4) * (length - 2) * longest * (1 - b2 ** t)) / ((longest - 4) * (longest - 2) * length))
      : 0;
    // Both cases are one graph: the plan of the first step serves all.
    const factor = scalar(rectified)
      .div(v.sqrt().add(this.#eps))
      .add(scalar(reliable ? 0 : 1));
    return p.sub(m.mul(factor).mul(scalar(lr / (1 - b1 ** t))));
  }
}

export interface RpropOptions extends OptimizerOptions {
  /** Factors of a step size whose gradient changed its sign, and kept it. Default [0.5, 1.2]. */
  etas?: readonly [number, number];
  /** Least and largest step size. Default [1e-6, 50]. */
  stepSizes?: readonly [number, number];
  /** Climbs: the gradients count with the other sign. Default false. */
  maximize?: boolean;
}

/** Uses the signs of gradients alone (Riedmiller and Braun 1993). lr is the first step size. Default lr 0.01. */
export class Rprop extends Optimizer {
  readonly #etas: readonly [number, number];
  readonly #sizes: readonly [number, number];
  readonly #maximize: boolean;

  constructor(params: Params, options: RpropOptions = {}) {
    const { lr = 0.01, etas = [0.5, 1.2], stepSizes = [1e-6, 50], maximize = false } = options;
    checkOptions("Rprop", options, ["etas", "stepSizes", "maximize"]);
    checkFinite("Rprop", { least: stepSizes[0], largest: stepSizes[1] });
    if (!(etas[0] > 0 && etas[0] < 1 && etas[1] > 1))
      throw new RangeError(`Rprop: etas must be in (0, 1) and above 1, got ${etas}`);
    super("Rprop", params, { ...options, lr }, (size, { lr }) => ({
      previous: zeroState(size),
      size: tensor(new Float32Array(size).fill(lr)),
    }));
    this.#etas = etas;
    this.#sizes = stepSizes;
    this.#maximize = maximize;
  }

  protected override update(update: Update): Tensor {
    const { p, group } = update;
    const g = gradientOf(update, this.#maximize);
    const agreement = g.mul(group.state.previous).sign();
    const [shrink, grow] = this.#etas;
    const kept = agreement.ge(0);
    const factor = agreement
      .gt(0)
      .to("f32")
      .mul(grow - 1)
      .add(1)
      .where(kept, shrink);
    const size = group.state.size.mul(factor).clamp({ min: this.#sizes[0], max: this.#sizes[1] });
    const used = g.where(kept, 0);
    assign(group.state.size, size);
    assign(group.state.previous, used);
    return p.sub(used.sign().mul(size));
  }
}

export interface LionOptions extends OptimizerOptions {
  /** Decay within the update, and of the momentum. Default [0.9, 0.99]. */
  betas?: readonly [number, number];
}

/** Steps by the sign of an interpolated momentum, with decoupled weight decay (https://arxiv.org/abs/2302.06675). Default lr 1e-4. */
export class Lion extends Optimizer {
  readonly #betas: readonly [number, number];

  constructor(params: Params, options: LionOptions = {}) {
    const { lr = 1e-4, betas = [0.9, 0.99] } = options;
    checkOptions("Lion", options, ["betas"]);
    checkBetas("Lion", betas);
    super("Lion", params, { ...options, lr }, (size) => ({ m: zeroState(size) }));
    this.#betas = betas;
  }

  protected override update({ p, g, scale, lr, group }: Update): Tensor {
    const [b1, b2] = this.#betas;
    const scaled = scale ? g.mul(scale) : g;
    const direction = group.state.m
      .mul(b1)
      .add(scaled.mul(1 - b1))
      .sign();
    average(group.state.m, b2, scaled);
    return p.sub(direction.add(p.mul(scalar(group.weightDecay))).mul(scalar(lr)));
  }
}
