import { untracked } from "../graph/build.ts";
import { noGrad, tensor } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Optimizer } from "./optim.ts";

export interface LossScalerOptions {
  /** First factor. Default 2^16. */
  scale?: number;
  /** The factor doubles after so many steps without overflow, and halves with each overflow. Default 2000. */
  growthInterval?: number;
}

/**
 * Dynamic loss scaling (arXiv 1710.03740), torch's GradScaler: small f16 gradients are kept from vanishing by a factor
 * on the loss, which is taken out again before the update. A step whose gradients overflow is skipped, and counted.
 *
 *     scaler.scale(loss).backward();
 *     const updated = await scaler.step(optimizer);
 */
export class LossScaler {
  /** The factor, the steps since it changed, and the steps skipped so far. */
  state: { scale: number; good: number; skipped: number };
  readonly #interval: number;
  #norms: Tensor[] = [];

  constructor({ scale = 2 ** 16, growthInterval = 2000 }: LossScalerOptions = {}) {
    if (!(scale > 0 && Number.isFinite(scale)))
      throw new RangeError(`LossScaler: scale must be positive, got ${scale}`);
    if (!Number.isSafeInteger(growthInterval) || growthInterval < 1)
      throw new RangeError(`LossScaler: growthInterval must be a positive integer, got ${growthInterval}`);
    this.state = { scale, good: 0, skipped: 0 };
    this.#interval = growthInterval;
  }

  /** loss times the factor. */
  scale(loss: Tensor): Tensor {
    return loss.mul(scalar(this.state.scale));
  }

  /** Takes the factor out of the gradients and keeps them for `step`: one micro-batch. */
  async accumulate(optimizer: Optimizer): Promise<void> {
    noGrad(() =>
      untracked(() => {
        const inverse = scalar(1 / this.state.scale);
        const params = optimizer.groups.flatMap((group) => group.params).filter((p) => p.grad);
        for (const p of params) p.grad = p.grad!.mul(inverse);
        // A sum of squares is infinite or not a number as soon as one gradient is.
        const squares = params.map((p) => p.grad!.square().sum());
        if (squares.length) this.#norms.push(squares.reduce((a, b) => a.add(b)).keep());
      }),
    );
    await optimizer.accumulate();
  }

  /**
   * Updates the parameters, unless a gradient is infinite or not a number. Returns whether it did.
   * @throws when the factor has fallen below 2^-14 and gradients overflow all the same.
   */
  async step(optimizer: Optimizer): Promise<boolean> {
    if (optimizer.groups.some((group) => group.params.some((p) => p.grad))) await this.accumulate(optimizer);
    const norms = await Promise.all(this.#norms.map((norm) => norm.item()));
    this.#norms = [];
    const { state } = this;
    if (norms.every(Number.isFinite)) {
      await optimizer.step();
      if (++state.good >= this.#interval) Object.assign(state, { scale: state.scale * 2, good: 0 });
      return true;
    }
    optimizer.zeroGrad();
    Object.assign(state, { scale: state.scale / 2, good: 0, skipped: state.skipped + 1 });
    if (state.scale < 2 ** -14)
      throw new Error(
        `LossScaler: gradients overflow at every scale down to ${state.scale}: lower the learning rate, or compute in f32`,
      );
    return false;
  }
}

/** A number that changes from step to step: data, so that the plan stays. */
const scalar = (value: number): Tensor => tensor(Float32Array.of(value), { shape: [] });
