import { adamw, adamwInt8, STATE_BLOCK } from "../ops/adamw.ts";
import { cat, tensor } from "../ops/functional.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  checkFinite,
  Optimizer,
  type OptimizerOptions,
  type ParameterGroup,
  scalar,
  type Update,
  zeroState,
} from "./optimizer.ts";

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
}

/**
 * Adam with decoupled weight decay (arXiv 1711.05101), computed as torch.optim.AdamW does.
 * @example new AdamW(model.parameters(), { lr: 3e-4, weightDecay: 0.1, maxNorm: 1 })
 */
export class AdamW extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;

  constructor(params: Iterable<Tensor> | readonly ParameterGroup[], options: AdamWOptions = {}) {
    const { betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01, states = "f32" } = options;
    checkFinite("AdamW", { eps, beta1: betas[0], beta2: betas[1] });
    if (betas.some((b) => b < 0 || b >= 1)) throw new RangeError(`AdamW: betas must be in [0, 1), got ${betas}`);
    if (!["f32", "int8"].includes(states))
      throw new TypeError(`AdamW: states must be "f32" or "int8", got ${JSON.stringify(states)}`);
    super("AdamW", params, { ...options, weightDecay }, states === "int8" ? int8Moments : moments);
    this.#betas = betas;
    this.#eps = eps;
  }

  protected override update({ group, step: t, p, g, lr, scale }: Update): Tensor {
    const [b1, b2] = this.#betas.map(Math.fround); // as the kernel has them; the bias corrections must use the same values
    const { m, v, scales } = group.state;
    const host = tensor(Float32Array.of(lr, b1, b2, this.#eps, group.weightDecay, 1 - b1 ** t, 1 - b2 ** t, 1));
    const hyper = scale ? cat([host.narrow(0, 0, 7), scale.reshape([1])]) : host;
    const [next, nextM, nextV, nextScales] = scales ? adamwInt8(p, g, m, v, scales, hyper) : adamw(p, g, m, v, hyper);
    assign(m, nextM);
    assign(v, nextV);
    if (scales) assign(scales, nextScales);
    return next;
  }
}

export interface SGDOptions extends OptimizerOptions {
  /** Decay of the velocity. Default 0: no momentum. */
  momentum?: number;
  /** Nesterov's momentum. Default false. */
  nesterov?: boolean;
}

/** Gradient descent with momentum. Weight decay is added to the gradient, as in torch.optim.SGD. */
export class SGD extends Optimizer {
  readonly #momentum: number;
  readonly #nesterov: boolean;

  constructor(params: Iterable<Tensor> | readonly ParameterGroup[], options: SGDOptions = {}) {
    const { momentum = 0, nesterov = false } = options;
    if (!(momentum >= 0 && momentum < 1)) throw new RangeError(`SGD: momentum must be in [0, 1), got ${momentum}`);
    if (nesterov && momentum === 0) throw new RangeError("SGD: nesterov needs a momentum above 0");
    super(
      "SGD",
      params,
      options,
      (size) => (momentum > 0 ? { momentum: zeroState(size) } : {}) as Record<string, Tensor>,
    );
    this.#momentum = momentum;
    this.#nesterov = nesterov;
  }

  protected override update({ group, p, g, lr, scale }: Update): Tensor {
    const scaled = scale ? g.mul(scale) : g;
    let direction = group.weightDecay ? scaled.add(p.mul(scalar(group.weightDecay))) : scaled;
    if (this.#momentum > 0) {
      const velocity = group.state.momentum.mul(scalar(this.#momentum)).add(direction);
      assign(group.state.momentum, velocity);
      direction = this.#nesterov ? direction.add(velocity.mul(scalar(this.#momentum))) : velocity;
    }
    return p.sub(direction.mul(scalar(lr)));
  }
}

const moments = (size: number): Record<string, Tensor> => ({ m: zeroState(size), v: zeroState(size) });
const int8Moments = (size: number): Record<string, Tensor> => ({
  m: tensor(new Uint32Array(size / 4)),
  v: tensor(new Uint32Array(size / 4)),
  scales: tensor(new Float32Array(2 * Math.ceil(size / STATE_BLOCK)), { shape: [Math.ceil(size / STATE_BLOCK), 2] }),
});
