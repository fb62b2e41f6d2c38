import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import { cat, dropout, linear, stack, zeros } from "../ops/functional.ts";
import { gru, lstm, rnn } from "../ops/recurrent.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkProbability, checkSizes } from "./check.ts";
import { uniform } from "./init.ts";
import { Module } from "./module.ts";
import { inDtypeOf } from "./precision.ts";

/** Options of RNN, LSTM and GRU. */
export interface RecurrentOptions {
  /** Layers, each on the output of the one before. Default 1. */
  numLayers?: number;
  /** Default true. */
  bias?: boolean;
  /** Inputs and outputs are [N, T, ...] instead of [T, N, ...]. Default false. */
  batchFirst?: boolean;
  /** Probability of dropout on the output of every layer but the last, in training. Default 0. */
  dropout?: number;
  /** Adds a direction from the last step to the first; outputs are concatenated. Default false. */
  bidirectional?: boolean;
}

export interface RNNOptions extends RecurrentOptions {
  /** Default "tanh". */
  nonlinearity?: "tanh" | "relu";
}

export interface LSTMOptions extends RecurrentOptions {
  /** Size of the hidden state after a projection (arXiv 1402.1128). Default 0: no projection. */
  projSize?: number;
}

/** Options that all recurrent layers have. */
const COMMON = ["numLayers", "bias", "batchFirst", "dropout", "bidirectional"];

/** The weights of one layer in one direction. */
interface Weights {
  weight_ih: Tensor; // [gates H, inputs]
  weight_hh: Tensor; // [gates H, P]
  bias_ih?: Tensor; // [gates H]
  bias_hh?: Tensor; // [gates H]
  weight_hr?: Tensor; // [P, H]
}

/** W x + b, where the product with the state follows: with both biases if they only add up. */
function inputProducts(x: Tensor, { weight_ih, bias_ih, bias_hh }: Weights, addBoth: boolean): Tensor {
  const bias = addBoth && bias_ih && bias_hh ? bias_ih.add(bias_hh) : bias_ih;
  return linear(x, inDtypeOf(x, weight_ih), bias && inDtypeOf(x, bias));
}

/** What RNN, LSTM and GRU share: layers, directions, and the layouts of inputs and states. */
abstract class Recurrent extends Module {
  [weight: `weight_${string}`]: Tensor;
  [bias: `bias_${string}`]: Tensor | undefined;
  readonly numLayers: number;
  readonly bias: boolean;
  readonly batchFirst: boolean;
  readonly dropout: number;
  readonly bidirectional: boolean;

  constructor(
    readonly inputSize: number,
    readonly hiddenSize: number,
    { numLayers = 1, bias = true, batchFirst = false, dropout = 0, bidirectional = false }: RecurrentOptions,
    gates: number,
    readonly projSize = 0,
  ) {
    super();
    checkSizes(new.target.name, { inputSize, hiddenSize, numLayers });
    checkProbability(new.target.name, "dropout", dropout);
    if (projSize !== 0) checkSizes(new.target.name, { projSize });
    if (projSize >= hiddenSize)
      throw new RangeError(`${new.target.name}: projSize must be below hiddenSize ${hiddenSize}, got ${projSize}`);
    this.numLayers = numLayers;
    this.bias = bias;
    this.batchFirst = batchFirst;
    this.dropout = dropout;
    this.bidirectional = bidirectional;
    const rows = gates * hiddenSize;
    const make = (...shape: number[]): Tensor => uniform(shape, 1 / Math.sqrt(hiddenSize));
    for (const [layer, direction] of this.#stages()) {
      const suffix = suffixOf(layer, direction);
      this[`weight_ih_${suffix}`] = make(rows, layer === 0 ? inputSize : this.stateSize * this.directions);
      this[`weight_hh_${suffix}`] = make(rows, this.stateSize);
      if (bias) this[`bias_ih_${suffix}`] = make(rows);
      if (bias) this[`bias_hh_${suffix}`] = make(rows);
      if (projSize) this[`weight_hr_${suffix}`] = make(projSize, hiddenSize);
    }
  }

  /** 1, or 2 if bidirectional. */
  get directions(): 1 | 2 {
    return this.bidirectional ? 2 : 1;
  }
  /** Values of the hidden state that a step gives to the next. */
  protected get stateSize(): number {
    return this.projSize || this.hiddenSize;
  }

  /** Layers and directions in the order of their states. */
  *#stages(): Generator<[layer: number, direction: number]> {
    for (let layer = 0; layer < this.numLayers; layer++)
      for (let direction = 0; direction < this.directions; direction++) yield [layer, direction];
  }

  /**
   * Runs all layers over x, with the initial `states` (each [layers · directions, N, size], or [.., size] without a batch).
   * `scan` runs one layer in one direction on x [T, N, in], and returns the states of each step, the output first.
   */
  protected run(
    x: Tensor,
    states: readonly (Tensor | undefined)[],
    sizes: readonly number[],
    scan: (x: Tensor, initial: Tensor[], weights: Weights, reverse: boolean) => Tensor[],
  ): { out: Tensor; last: Tensor[] } {
    const name = this.constructor.name;
    const { batchFirst, directions } = this;
    if ((x.ndim !== 2 && x.ndim !== 3) || x.shape[x.ndim - 1] !== this.inputSize) {
      const layout = batchFirst ? "[N, T, I]" : "[T, N, I]";
      throw new Error(`${name}: expected ${layout} or [T, I] with I = ${this.inputSize}, got ${show(x.shape)}`);
    }
    const batched = x.ndim === 3;
    const steps = batched ? (batchFirst ? x.transpose(0, 1) : x) : x.unsqueeze(1); // [T, N, I]
    const [T, N] = steps.shape;
    if (T === 0) throw new Error(`${name}: expected at least one step, got ${show(x.shape)}`);
    const initial = sizes.map((size, i) => this.#initial(states[i], size, N, batched, x));

    const last: Tensor[][] = sizes.map(() => []);
    let y = steps;
    for (let layer = 0; layer < this.numLayers; layer++) {
      if (layer > 0 && this.dropout > 0) y = dropout(y, this.dropout, { training: this.training });
      const outputs = Array.from({ length: directions }, (_, direction) => {
        const index = layer * directions + direction;
        const own = initial.map((state) => state.select(0, index));
        const found = scan(y, own, this.#weights(layer, direction), direction === 1);
        found.forEach((state, i) => last[i].push(state.select(0, direction === 1 ? 0 : T - 1)));
        return found[0];
      });
      y = directions === 1 ? outputs[0] : cat(outputs, 2);
    }
    const out = batched ? (batchFirst ? y.transpose(0, 1) : y) : y.squeeze(1);
    return { out, last: last.map((all) => (batched ? stack(all) : stack(all).squeeze(1))) };
  }

  #initial(state: Tensor | undefined, size: number, N: number, batched: boolean, x: Tensor): Tensor {
    const count = this.numLayers * this.directions;
    if (!state) return zeros([count, N, size], { dtype: x.dtype });
    const expected = batched ? [count, N, size] : [count, size];
    if (show(state.shape) !== show(expected))
      throw new Error(
        `${this.constructor.name}: expected an initial state ${show(expected)}, got ${show(state.shape)}`,
      );
    return batched ? state : state.unsqueeze(1);
  }

  #weights(layer: number, direction: number): Weights {
    const suffix = suffixOf(layer, direction);
    return {
      weight_ih: this[`weight_ih_${suffix}`],
      weight_hh: this[`weight_hh_${suffix}`],
      bias_ih: this[`bias_ih_${suffix}`],
      bias_hh: this[`bias_hh_${suffix}`],
      weight_hr: this[`weight_hr_${suffix}`],
    };
  }
}

const suffixOf = (layer: number, direction: number): string => `l${layer}${direction ? "_reverse" : ""}`;

/**
 * Elman RNN: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu. Weights are uniform in ±1/√hiddenSize.
 * @example const [out, hn] = new RNN(8, 16).forward(rand(5, 2, 8)) // [5, 2, 16], [1, 2, 16]
 */
export class RNN extends Recurrent {
  readonly nonlinearity: "tanh" | "relu";

  constructor(inputSize: number, hiddenSize: number, options: RNNOptions = {}) {
    checkOptions("RNN", options, [...COMMON, "nonlinearity"]);
    super(inputSize, hiddenSize, options, 1);
    this.nonlinearity = checkNonlinearity("RNN", options.nonlinearity);
  }

  /**
   * x [T, N, I] ([N, T, I] with batchFirst, [T, I] without a batch), h0 [layers · directions, N, H] (default 0) -> the outputs
   * of all steps [T, N, H · directions], and the last states, shaped as h0.
   */
  forward(x: Tensor, h0?: Tensor): [out: Tensor, hn: Tensor] {
    const { out, last } = this.run(x, [h0], [this.hiddenSize], (input, [h], weights, reverse) => [
      rnn(inputProducts(input, weights, true), h, weights.weight_hh, { reverse, nonlinearity: this.nonlinearity }),
    ]);
    return [out, last[0]];
  }
}

/**
 * LSTM (Hochreiter and Schmidhuber 1997). Gates lie in the weights in the order input, forget, cell, output. Weights are
 * uniform in ±1/√hiddenSize.
 * @example const [out, [hn, cn]] = new LSTM(8, 16, { batchFirst: true }).forward(rand(2, 5, 8)) // [2, 5, 16], …
 */
export class LSTM extends Recurrent {
  constructor(inputSize: number, hiddenSize: number, options: LSTMOptions = {}) {
    checkOptions("LSTM", options, [...COMMON, "projSize"]);
    super(inputSize, hiddenSize, options, 4, options.projSize);
  }

  /**
   * x [T, N, I] ([N, T, I] with batchFirst, [T, I] without a batch), initial states h0 [layers · directions, N, P] and c0
   * [.., N, H] (default 0; P is projSize or H) -> the outputs of all steps [T, N, P · directions], and the last states.
   */
  forward(x: Tensor, [h0, c0]: readonly [h0?: Tensor, c0?: Tensor] = []): [out: Tensor, [hn: Tensor, cn: Tensor]] {
    const { out, last } = this.run(x, [h0, c0], [this.stateSize, this.hiddenSize], (input, [h, c], weights, reverse) =>
      lstm(inputProducts(input, weights, true), h, c, weights.weight_hh, weights.weight_hr, { reverse }),
    );
    return [out, [last[0], last[1]]];
  }
}

/**
 * GRU (arXiv 1406.1078). Gates lie in the weights in the order reset, update, new; the reset multiplies after the product with
 * the state, its bias included. Weights are uniform in ±1/√hiddenSize.
 * @example const [out, hn] = new GRU(8, 16, { bidirectional: true }).forward(rand(5, 2, 8)) // [5, 2, 32], [2, 2, 16]
 */
export class GRU extends Recurrent {
  constructor(inputSize: number, hiddenSize: number, options: RecurrentOptions = {}) {
    checkOptions("GRU", options, COMMON);
    super(inputSize, hiddenSize, options, 3);
  }

  /**
   * x [T, N, I] ([N, T, I] with batchFirst, [T, I] without a batch), h0 [layers · directions, N, H] (default 0) -> the outputs
   * of all steps [T, N, H · directions], and the last states, shaped as h0.
   */
  forward(x: Tensor, h0?: Tensor): [out: Tensor, hn: Tensor] {
    const { out, last } = this.run(x, [h0], [this.hiddenSize], (input, [h], weights, reverse) => [
      gru(inputProducts(input, weights, false), h, weights.weight_hh, weights.bias_hh, { reverse }),
    ]);
    return [out, last[0]];
  }
}

// ---- Cells: one step ----------------------------------------------------------------------------

/** What the cells share: weights, and the layouts of inputs and states. */
abstract class RecurrentCell extends Module implements Weights {
  weight_ih: Tensor; // [gates H, I]
  weight_hh: Tensor; // [gates H, H]
  bias_ih?: Tensor; // [gates H]
  bias_hh?: Tensor; // [gates H]

  constructor(
    readonly inputSize: number,
    readonly hiddenSize: number,
    bias: boolean,
    gates: number,
  ) {
    super();
    checkSizes(new.target.name, { inputSize, hiddenSize });
    const make = (...shape: number[]): Tensor => uniform(shape, 1 / Math.sqrt(hiddenSize));
    const rows = gates * hiddenSize;
    this.weight_ih = make(rows, inputSize);
    this.weight_hh = make(rows, hiddenSize);
    if (bias) this.bias_ih = make(rows);
    if (bias) this.bias_hh = make(rows);
  }

  /** One step of `scan`, which takes x [1, N, I] and states [N, H] and returns the new states, each [1, N, H]. */
  protected step(
    x: Tensor,
    states: readonly (Tensor | undefined)[],
    scan: (x: Tensor, initial: Tensor[]) => Tensor[],
  ): Tensor[] {
    const { inputSize, hiddenSize } = this;
    const fail = (what: string): never => {
      throw new Error(`${this.constructor.name}: ${what}`);
    };
    if ((x.ndim !== 1 && x.ndim !== 2) || x.shape[x.ndim - 1] !== inputSize)
      fail(`expected [N, ${inputSize}] or [${inputSize}], got ${show(x.shape)}`);
    const shape = [...x.shape.slice(0, -1), hiddenSize];
    const initial = states.map((state) => {
      if (state && show(state.shape) !== show(shape)) fail(`expected a state ${show(shape)}, got ${show(state.shape)}`);
      return (state ?? zeros(shape, { dtype: x.dtype })).reshape([-1, hiddenSize]);
    });
    return scan(x.reshape([1, -1, inputSize]), initial).map((state) => state.reshape(shape));
  }
}

/** One step of an Elman RNN: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. */
export class RNNCell extends RecurrentCell {
  readonly nonlinearity: "tanh" | "relu";

  constructor(inputSize: number, hiddenSize: number, options: { bias?: boolean; nonlinearity?: "tanh" | "relu" } = {}) {
    checkOptions("RNNCell", options, ["bias", "nonlinearity"]);
    super(inputSize, hiddenSize, options.bias ?? true, 1);
    this.nonlinearity = checkNonlinearity("RNNCell", options.nonlinearity);
  }

  /** x [N, I] and h [N, H] (default 0) -> the new h [N, H]. Both may be without N. */
  forward(x: Tensor, h?: Tensor): Tensor {
    const attrs = { reverse: false, nonlinearity: this.nonlinearity };
    return this.step(x, [h], (input, [h0]) => [rnn(inputProducts(input, this, true), h0, this.weight_hh, attrs)])[0];
  }
}

/** One step of an LSTM (see `LSTM`). */
export class LSTMCell extends RecurrentCell {
  constructor(inputSize: number, hiddenSize: number, options: { bias?: boolean } = {}) {
    checkOptions("LSTMCell", options, ["bias"]);
    super(inputSize, hiddenSize, options.bias ?? true, 4);
  }

  /** x [N, I], h and c [N, H] (default 0) -> the new h and c. All may be without N. */
  forward(x: Tensor, [h, c]: readonly [h?: Tensor, c?: Tensor] = []): [h: Tensor, c: Tensor] {
    const [h1, c1] = this.step(x, [h, c], (input, [h0, c0]) =>
      lstm(inputProducts(input, this, true), h0, c0, this.weight_hh, undefined, { reverse: false }),
    );
    return [h1, c1];
  }
}

/** One step of a GRU (see `GRU`). */
export class GRUCell extends RecurrentCell {
  constructor(inputSize: number, hiddenSize: number, options: { bias?: boolean } = {}) {
    checkOptions("GRUCell", options, ["bias"]);
    super(inputSize, hiddenSize, options.bias ?? true, 3);
  }

  /** x [N, I] and h [N, H] (default 0) -> the new h [N, H]. Both may be without N. */
  forward(x: Tensor, h?: Tensor): Tensor {
    return this.step(x, [h], (input, [h0]) => [
      gru(inputProducts(input, this, false), h0, this.weight_hh, this.bias_hh, { reverse: false }),
    ])[0];
  }
}

function checkNonlinearity(layer: string, name: "tanh" | "relu" = "tanh"): "tanh" | "relu" {
  if (name !== "tanh" && name !== "relu")
    throw new Error(`${layer}: unknown nonlinearity "${name}": expected tanh or relu`);
  return name;
}
