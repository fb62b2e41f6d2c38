import { numel } from "../graph/shape.ts";
import { pack, packOffsets } from "../ops/pack.ts";
import { assign, flush } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Module, StateDict } from "./module.ts";
import { scalar, withoutRecording } from "./optimizer.ts";

/**
 * Exponential moving average of a module's parameters: average = decay * average + (1 - decay) * parameter after each step.
 * @example
 * const ema = new EMA(model, 0.999);
 * await optimizer.step();
 * await ema.update();
 * await ema.apply(() => evaluate(model)); // runs with the averages in place of the parameters
 */
export class EMA {
  readonly #names: readonly string[];
  readonly #parameters: readonly Tensor[];
  /** All averages in one vector. */
  #average: Tensor;
  /** Updates taken. */
  steps = 0;

  /** @throws if `decay` is not in [0, 1), or the module has no parameters */
  constructor(
    module: Module,
    readonly decay: number,
  ) {
    if (!(decay >= 0 && decay < 1)) throw new RangeError(`EMA: decay must be in [0, 1), got ${decay}`);
    const named = [...module.namedParameters()];
    if (named.length === 0) throw new Error("EMA: the module has no parameters");
    this.#names = named.map(([name]) => name);
    this.#parameters = named.map(([, p]) => p);
    // Computed with the next flush, before that flush changes a parameter.
    this.#average = withoutRecording(() => pack(this.#parameters).mul(1)).keep();
  }

  /** Moves the averages towards the parameters. */
  async update(): Promise<void> {
    this.#average = withoutRecording(() => {
      const rate = scalar(this.decay);
      return this.#average.mul(rate).add(pack(this.#parameters).mul(rate.neg().add(1)));
    });
    await flush(this.#average);
    this.steps++;
  }

  /** The averages by parameter name. */
  stateDict(): StateDict {
    return Object.fromEntries(this.#parts(this.#average).map((part, i) => [this.#names[i], part]));
  }

  /** Runs `fn` while the module has the averages as parameters, then puts the parameters back. */
  async apply<T>(fn: () => T | Promise<T>): Promise<T> {
    const own = withoutRecording(() => pack(this.#parameters).mul(1));
    await flush(own);
    await this.#put(this.#average);
    try {
      return await fn();
    } finally {
      await this.#put(own);
    }
  }

  #parts(flat: Tensor): Tensor[] {
    const { offsets } = packOffsets(this.#parameters.map(({ shape }) => numel(shape)));
    return withoutRecording(() =>
      this.#parameters.map(({ shape, dtype }, i) => flat.narrow(0, offsets[i], numel(shape)).reshape(shape).to(dtype)),
    );
  }

  async #put(flat: Tensor): Promise<void> {
    for (const [i, part] of this.#parts(flat).entries()) assign(this.#parameters[i], part);
    await flush();
  }
}
