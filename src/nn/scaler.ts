import type { Tensor } from "../tensor/tensor.ts";
import { type Optimizer, scalar, withoutRecording } from "./optimizer.ts";

export interface LossScalerOptions {
  /** Initial factor. Default 2^16. */
  scale?: number;
  /** Steps without overflow after which the factor doubles. Each overflow halves it. Default 2000. */
  growthInterval?: number;
}

/**
 * Dynamic loss scaling, as torch's GradScaler (arXiv 1710.03740). A factor on the loss keeps small f16 gradients from becoming
 * zero; `step` divides the gradients by it. Steps whose gradients overflow are skipped and counted.
 * @example
 * const scaler = new LossScaler();
 * scaler.scale(loss).backward();
 * const updated = await scaler.step(optimizer); // false if the step was skipped
 */
export class LossScaler {
  /** The factor, the steps without overflow since it changed, and the number of skipped steps. */
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

  /** The loss times the factor. Call `backward` on the result. */
  scale(loss: Tensor): Tensor {
    return loss.mul(scalar(this.state.scale));
  }

  /** Divides the gradients of a micro-batch by the factor and adds them to the sum for `step`. */
  async accumulate(optimizer: Optimizer): Promise<void> {
    withoutRecording(() => {
      const inverse = scalar(1 / this.state.scale);
      const params = optimizer.groups.flatMap((group) => group.params).filter((p) => p.grad);
      for (const p of params) p.grad = p.grad!.mul(inverse);
      // The sum of squares is infinite or NaN if any gradient is.
      const squares = params.map((p) => p.grad!.square().sum());
      if (squares.length) this.#norms.push(squares.reduce((a, b) => a.add(b)).keep());
    });
    await optimizer.accumulate();
  }

  /**
   * Updates the parameters, unless a gradient is infinite or NaN. Returns whether it did.
   * @throws if gradients still overflow when the factor falls below 2^-14.
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
