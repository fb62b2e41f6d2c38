import { adamw, adamwInt8, STATE_BLOCK } from "../ops/adamw.ts";
import { cat, tensor } from "../ops/functional.ts";
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
import type { Schedule } from "./schedule.ts";

export interface AdamWOptions extends OptimizerOptions {
  /** Decay of the first and of the second moment. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root of the second moment. Default 1e-8. */
  eps?: number;
  /**
   * Format of the moments: f32 (8 bytes per parameter), or int8 with one scale per 256 values (2.03 bytes per parameter,
   * arXiv 2110.02861). Default "f32".
   */
  states?: "f32" | "int8";
  /** Divides by the largest second moment so far (https://arxiv.org/abs/1904.09237). Default false. */
  amsgrad?: boolean;
  /** Climbs: the gradients count with the other sign. Default false. */
  maximize?: boolean;
}

/**
 * Adam with decoupled weight decay (arXiv 1711.05101), computed as torch.optim.AdamW does.
 * @example new AdamW(model.parameters(), { lr: 3e-4, weightDecay: 0.1, maxNorm: 1 })
 */
export class AdamW extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;
  readonly #maximize: boolean;

  constructor(params: Iterable<Tensor> | readonly ParameterGroup[], options: AdamWOptions = {}) {
    const { betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01, states = "f32", amsgrad = false } = options;
    checkOptions("AdamW", options, ["betas", "eps", "states", "amsgrad", "maximize"]);
    checkBetas("AdamW", betas);
    checkFinite("AdamW", { eps });
    if (amsgrad && states === "int8") throw new TypeError("AdamW: amsgrad needs states in f32");
    if (!["f32", "int8"].includes(states))
      throw new TypeError(`AdamW: states must be "f32" or "int8", got ${JSON.stringify(states)}`);
    super("AdamW", params, { ...options, weightDecay }, states === "int8" ? int8Moments : moments(amsgrad));
    this.#betas = betas;
    this.#eps = eps;
    this.#maximize = options.maximize ?? false;
  }

  protected override update({ group, step: t, p, g: gradient, lr, scale }: Update): Tensor {
    const [b1, b2] = this.#betas.map(Math.fround); // as the kernel has them; the bias corrections must use the same values
    const { m, v, scales, largest } = group.state;
    const g = this.#maximize ? gradient.neg() : gradient;
    if (largest) return this.#amsgrad(p, scale ? g.mul(scale) : g, group.state, lr, group.weightDecay, t);
    const host = tensor(Float32Array.of(lr, b1, b2, this.#eps, group.weightDecay, 1 - b1 ** t, 1 - b2 ** t, 1));
    const hyper = scale ? cat([host.narrow(0, 0, 7), scale.reshape([1])]) : host;
    const [next, nextM, nextV, nextScales] = scales ? adamwInt8(p, g, m, v, scales, hyper) : adamw(p, g, m, v, hyper);
    assign(m, nextM);
    assign(v, nextV);
    if (scales) assign(scales, nextScales);
    return next;
  }

  #amsgrad(
    p: Tensor,
    g: Tensor,
    { m, v, largest }: Update["group"]["state"],
    lr: number,
    decay: number,
    t: number,
  ): Tensor {
    const [b1, b2] = this.#betas;
    const nextM = m.mul(b1).add(g.mul(1 - b1));
    const nextV = v.mul(b2).add(g.square().mul(1 - b2));
    const most = largest.maximum(nextV);
    assign(m, nextM);
    assign(v, nextV);
    assign(largest, most);
    const root = most
      .sqrt()
      .mul(scalar(1 / Math.sqrt(1 - b2 ** t)))
      .add(this.#eps);
    return p.mul(scalar(1 - lr * decay)).sub(nextM.div(root).mul(scalar(lr / (1 - b1 ** t))));
  }
}

export interface SGDOptions extends OptimizerOptions {
  /** Decay of the velocity, or a schedule of it such as `oneCycleMomentum`. Default 0: no momentum. */
  momentum?: number | Schedule;
  /** Share of the gradient that does not enter the velocity, from the second step on. Default 0. */
  dampening?: number;
  /** Nesterov's momentum. Default false. */
  nesterov?: boolean;
  /** Climbs: the gradients count with the other sign. Default false. */
  maximize?: boolean;
}

/** Gradient descent with momentum. Weight decay is added to the gradient, as in torch.optim.SGD. */
export class SGD extends Optimizer {
  readonly #momentum: Schedule;
  readonly #dampening: number;
  readonly #nesterov: boolean;
  readonly #maximize: boolean;

  constructor(params: Iterable<Tensor> | readonly ParameterGroup[], options: SGDOptions = {}) {
    const { momentum = 0, dampening = 0, nesterov = false, maximize = false } = options;
    checkOptions("SGD", options, ["momentum", "dampening", "nesterov", "maximize"]);
    if (typeof momentum === "number" && !(momentum >= 0 && momentum < 1))
      throw new RangeError(`SGD: momentum must be in [0, 1), got ${momentum}`);
    checkFinite("SGD", { dampening });
    if (nesterov && (momentum === 0 || dampening > 0))
      throw new RangeError("SGD: nesterov needs a momentum above 0, and no dampening");
    super(
      "SGD",
      params,
      options,
      (size): Record<string, Tensor> => (momentum !== 0 ? { momentum: zeroState(size) } : {}),
    );
    this.#momentum = typeof momentum === "number" ? () => momentum : momentum;
    this.#dampening = dampening;
    this.#nesterov = nesterov;
    this.#maximize = maximize;
  }

  protected override update({ group, p, g, lr, scale, step }: Update): Tensor {
    const scaled = scale ? g.mul(scale) : g;
    const signed = this.#maximize ? scaled.neg() : scaled;
    let direction = group.weightDecay ? signed.add(p.mul(scalar(group.weightDecay))) : signed;
    const { momentum } = group.state;
    if (momentum) {
      const factor = scalar(this.#momentum(step - 1));
      const share = this.#dampening ? direction.mul(scalar(step === 1 ? 1 : 1 - this.#dampening)) : direction;
      const velocity = momentum.mul(factor).add(share);
      assign(momentum, velocity);
      direction = this.#nesterov ? direction.add(velocity.mul(factor)) : velocity;
    }
    return p.sub(direction.mul(scalar(lr)));
  }
}

const moments =
  (amsgrad: boolean) =>
  (size: number): Record<string, Tensor> => ({
    m: zeroState(size),
    v: zeroState(size),
    ...(amsgrad && { largest: zeroState(size) }),
  });
const int8Moments = (size: number): Record<string, Tensor> => ({
  m: tensor(new Uint32Array(size / 4)),
  v: tensor(new Uint32Array(size / 4)),
  scales: tensor(new Float32Array(2 * Math.ceil(size / STATE_BLOCK)), { shape: [Math.ceil(size / STATE_BLOCK), 2] }),
});
