import { assign } from "../engine.ts";
import { linear, type Tensor } from "../tensor.ts";
import { constant, uniform } from "./init.ts";
import { Dropout, Linear } from "./layers.ts";
import { Module, type StateDict } from "./module.ts";

export interface LoRAOptions {
  /** Rank of the update. */
  r: number;
  /** The update is scaled by alpha / r. Default: r. */
  alpha?: number;
  /** Dropout on the input of the update while training. Default 0. */
  dropout?: number;
}

/** y + (alpha / r) B A x: a trainable update of rank r beside a frozen weight (arXiv 2106.09685). */
export class LoRA extends Module {
  lora_A: Tensor; // [r, in]
  lora_B: Tensor; // [out, r], zero at first: training starts from the frozen model
  merged = false;
  readonly scale: number;
  readonly #dropout: Dropout;

  readonly options: Required<LoRAOptions>;

  constructor(base: Linear, { r, alpha = r, dropout = 0 }: LoRAOptions) {
    super();
    this.options = { r, alpha, dropout };
    if (!Number.isInteger(r) || r < 1) throw new RangeError(`LoRA: r must be a positive integer, got ${r}`);
    if (!Number.isFinite(alpha)) throw new RangeError(`LoRA: alpha must be finite, got ${alpha}`);
    this.scale = alpha / r;
    this.#dropout = new Dropout(dropout);
    this.lora_A = uniform([r, base.inFeatures], 1 / Math.sqrt(base.inFeatures));
    this.lora_B = constant([base.outFeatures, r], 0);
  }

  /** x [..., in], y [..., out] the frozen layer's result. */
  update(x: Tensor, y: Tensor): Tensor {
    if (this.merged) return y;
    const dropped = this.training ? this.#dropout.forward(x) : x;
    return y.add(linear(linear(dropped, this.lora_A), this.lora_B).mul(this.scale));
  }

  /** The update as a matrix, [out, in]. */
  delta(): Tensor {
    return this.lora_B.matmul(this.lora_A).mul(this.scale).detach();
  }
}

/**
 * Freezes `model` and gives every Linear whose dotted name matches a LoRA; only these train.
 * Returns the names. Further parts can be trained in full with `requiresGrad_()` afterwards.
 */
export function addLoRA(model: Module, match: RegExp | readonly string[], options: LoRAOptions): string[] {
  const chosen = [...linears(model)].filter(([name]) =>
    match instanceof RegExp ? match.test(name) : match.some((m) => name === m || name.endsWith(`.${m}`)),
  );
  if (chosen.length === 0) {
    throw new Error(
      `addLoRA: no Linear matches ${String(match)}; there are ${Array.from(linears(model), ([name]) => name)
        .slice(0, 12)
        .join(", ")}, …`,
    );
  }
  const taken = chosen.find(([, layer]) => layer.lora);
  if (taken) throw new Error(`addLoRA: ${taken[0]} has a LoRA already`);
  model.requiresGrad_(false);
  for (const [, layer] of chosen) {
    layer.lora = new LoRA(layer, options);
    layer.lora.training = layer.training;
  }
  return chosen.map(([name]) => name);
}

/** Adds every update to its weight, so that a forward pass costs nothing more. */
export const mergeLoRA = (model: Module): void => setMerged(model, true);

/** Takes merged updates out of the weights again. */
export const unmergeLoRA = (model: Module): void => setMerged(model, false);

function setMerged(model: Module, merged: boolean): void {
  for (const [, { weight, lora }] of linears(model)) {
    if (!lora || lora.merged === merged) continue;
    assign(weight, merged ? weight.add(lora.delta()) : weight.sub(lora.delta()));
    lora.merged = merged;
  }
}

/** A and B under the names of PEFT adapter files. */
export function loraStateDict(model: Module): StateDict {
  const entries = [...linears(model)].flatMap(([name, { lora }]): [string, Tensor][] =>
    lora
      ? [
          [`base_model.model.${name}.lora_A.weight`, lora.lora_A],
          [`base_model.model.${name}.lora_B.weight`, lora.lora_B],
        ]
      : [],
  );
  return Object.fromEntries(entries);
}

function* linears(model: Module): Generator<[string, Linear]> {
  for (const [name, module] of model.namedModules()) if (module instanceof Linear) yield [name, module];
}
