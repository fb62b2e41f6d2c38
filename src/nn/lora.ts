import { linear } from "../ops/functional.ts";
import { assign } from "../tensor/engine.ts";
import { Tensor } from "../tensor/tensor.ts";
import { constant, uniform } from "./init.ts";
import { Dropout, inDtypeOf } from "./layers.ts";
import { Module, type StateDict } from "./module.ts";
import { dequantize, type QuantizedWeight, requantize } from "./quantized.ts";

export interface LoRAOptions {
  /** Rank of the update. */
  r: number;
  /** The update is scaled by alpha / r. Default: r. */
  alpha?: number;
  /** Dropout on the input of the update while training. Default 0. */
  dropout?: number;
  /** Scale by alpha / √r instead (arXiv 2312.03732). Default false. */
  rankStabilized?: boolean;
}

/** (alpha / r) B A x: a trainable update of rank r beside a frozen weight (arXiv 2106.09685). */
export class LoRA extends Module {
  lora_A: Tensor; // [r, in]
  lora_B: Tensor; // [out, r], zero at first: training starts from the frozen model
  readonly scale: number;
  readonly options: Required<LoRAOptions>;
  readonly #dropout: Dropout;

  constructor(inFeatures: number, outFeatures: number, options: LoRAOptions) {
    super();
    const { r, alpha = r, dropout = 0, rankStabilized = false } = options;
    this.options = { r, alpha, dropout, rankStabilized };
    if (!Number.isInteger(r) || r < 1) throw new RangeError(`LoRA: r must be a positive integer, got ${r}`);
    if (!Number.isFinite(alpha)) throw new RangeError(`LoRA: alpha must be finite, got ${alpha}`);
    this.scale = alpha / (rankStabilized ? Math.sqrt(r) : r);
    this.#dropout = new Dropout(dropout);
    this.lora_A = uniform([r, inFeatures], 1 / Math.sqrt(inFeatures));
    this.lora_B = constant([outFeatures, r], 0);
  }

  /** The update of x [..., in], [..., out]. */
  forward(x: Tensor): Tensor {
    const dropped = this.training ? this.#dropout.forward(x) : x;
    return linear(linear(dropped, inDtypeOf(x, this.lora_A)), inDtypeOf(x, this.lora_B)).mul(this.scale);
  }

  /** The update as a matrix, [out, in]. */
  delta(): Tensor {
    return this.lora_B.matmul(this.lora_A).mul(this.scale).detach();
  }
}

/** The adapters of one layer by name. Those that are active, and not merged into the weight, are added to its result. */
export class LoRALayer extends Module {
  readonly adapters = new Map<string, LoRA>();
  active: readonly string[] = [];
  merged: readonly string[] = [];

  protected override fields(): Iterable<[string, unknown]> {
    return this.adapters;
  }

  /** x [..., in], y [..., out] the frozen layer's result. */
  update(x: Tensor, y: Tensor): Tensor {
    for (const name of this.active) if (!this.merged.includes(name)) y = y.add(this.adapters.get(name)!.forward(x));
    return y;
  }
}

/** A layer that takes adapters: Linear, and its quantised form, whose weight stays packed. */
export interface LoRAHost extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** [out, in] */
  weight: Tensor | QuantizedWeight;
  lora?: LoRALayer;
}

/** The name of the adapter that `addLoRA` makes, PEFT's. */
export const DEFAULT_ADAPTER = "default";

/**
 * Freezes `model` and gives every Linear whose dotted name matches a LoRA; only these train.
 * Returns the names. Further parts can be trained in full with `requiresGrad_()` afterwards.
 */
export const addLoRA = (model: Module, match: RegExp | readonly string[], options: LoRAOptions): string[] =>
  addAdapter(model, DEFAULT_ADAPTER, match, options);

/**
 * As `addLoRA`, under a name of its own; the new adapter becomes the active one.
 * @param match a pattern for dotted names, or names: whole ones, or their last parts ("q_proj").
 * @throws if nothing matches, or a matching layer has an adapter of that name.
 */
export function addAdapter(
  model: Module,
  adapter: string,
  match: RegExp | readonly string[],
  options: LoRAOptions,
): string[] {
  if (!/^[\w-]+$/.test(adapter))
    throw new Error(`addAdapter: a name of letters, digits, - and _ expected, got "${adapter}"`);
  const chosen = [...adaptableLayers(model)].filter(([name]) =>
    match instanceof RegExp ? match.test(name) : match.some((m) => name === m || name.endsWith(`.${m}`)),
  );
  if (chosen.length === 0) {
    throw new Error(
      `addLoRA: no Linear matches ${String(match)}; there are ${Array.from(adaptableLayers(model), ([name]) => name)
        .slice(0, 12)
        .join(", ")}, …`,
    );
  }
  const taken = chosen.find(([, layer]) => layer.lora?.adapters.has(adapter));
  if (taken) throw new Error(`addLoRA: ${taken[0]} has a LoRA "${adapter}" already`);
  const made = chosen.map(([, layer]) => new LoRA(layer.inFeatures, layer.outFeatures, options));
  model.requiresGrad_(false);
  for (const [i, [, layer]] of chosen.entries()) {
    layer.lora ??= new LoRALayer();
    layer.lora.adapters.set(adapter, made[i]);
    layer.lora.train(layer.training);
  }
  setAdapter(model, adapter);
  return chosen.map(([name]) => name);
}

/** Names of the adapters of a model. */
export function adapterNames(model: Module): string[] {
  return [...new Set(Array.from(adaptedLayers(model)).flatMap(([, { lora }]) => [...lora.adapters.keys()]))];
}

/** Makes one adapter (or several, whose updates add up; or none) the active one. Active ones train, the others are frozen. */
export function setAdapter(model: Module, active: string | readonly string[] | null): void {
  const names = active === null ? [] : [active].flat();
  checkNames("setAdapter", model, names);
  for (const [, { lora }] of adaptedLayers(model)) {
    lora.active = names.filter((name) => lora.adapters.has(name));
    for (const [name, adapter] of lora.adapters) adapter.requiresGrad_(names.includes(name));
  }
}

/** Removes an adapter, taking it out of the weights first if it is merged. */
export function deleteAdapter(model: Module, adapter: string): void {
  checkNames("deleteAdapter", model, [adapter]);
  setMerged(model, [adapter], false);
  for (const [, layer] of adaptedLayers(model)) {
    layer.lora.adapters.delete(adapter);
    layer.lora.active = layer.lora.active.filter((name) => name !== adapter);
    if (layer.lora.adapters.size === 0) (layer as LoRAHost).lora = undefined;
  }
}

/**
 * Adds the updates of the active adapters (or of those named) to the weights, so that a forward pass costs nothing more.
 * As in PEFT, a quantised weight is made dense, updated, and rounded to its format again, with a warning: of an update of
 * 1 % of the weights' size int8 keeps 96 %, int4 and nf4 hardly anything.
 */
export const mergeLoRA = (model: Module, adapters?: string | readonly string[]): void =>
  setMerged(model, adapters, true);

/** Takes merged updates out of the weights again, up to rounding; quantised weights are rounded once more. */
export const unmergeLoRA = (model: Module, adapters?: string | readonly string[]): void =>
  setMerged(model, adapters, false);

function setMerged(model: Module, adapters: string | readonly string[] | undefined, merge: boolean): void {
  const names = adapters === undefined ? undefined : [adapters].flat();
  if (names) checkNames(merge ? "mergeLoRA" : "unmergeLoRA", model, names);
  const rounded: string[] = [];
  for (const [path, { weight, lora }] of adaptedLayers(model)) {
    const moved = merge
      ? (names ?? lora.active).filter((name) => lora.adapters.has(name) && !lora.merged.includes(name))
      : lora.merged.filter((name) => !names || names.includes(name));
    if (moved.length === 0) continue;
    const dense = weight instanceof Tensor ? weight : dequantize(weight); // [out, in]
    const deltas = moved.map((name) => lora.adapters.get(name)!.delta().to(dense.dtype));
    const updated = deltas.reduce((w, delta) => (merge ? w.add(delta) : w.sub(delta)), dense);
    if (weight instanceof Tensor) assign(weight, updated);
    else {
      requantize(weight, updated);
      rounded.push(path);
    }
    lora.merged = merge ? [...lora.merged, ...moved] : lora.merged.filter((name) => !moved.includes(name));
  }
  if (rounded.length)
    console.warn(
      `${merge ? "mergeLoRA" : "unmergeLoRA"}: ${rounded.length} quantised weights (${rounded[0]}, …) were rounded again, and lose what is smaller than their steps: to keep it, merge into f32 or f16 weights and quantise those`,
    );
}

/** A and B of an adapter under the names of PEFT adapter files. */
export function loraStateDict(model: Module, adapter = DEFAULT_ADAPTER): StateDict {
  const entries = [...adaptedLayers(model)].flatMap(([name, { lora }]): [string, Tensor][] => {
    const own = lora.adapters.get(adapter);
    if (!own) return [];
    const prefix = `base_model.model.${name}`;
    return [
      [`${prefix}.lora_A.weight`, own.lora_A],
      [`${prefix}.lora_B.weight`, own.lora_B],
    ];
  });
  return Object.fromEntries(entries);
}

function checkNames(op: string, model: Module, names: readonly string[]): void {
  const known = adapterNames(model);
  const missing = names.find((name) => !known.includes(name));
  if (missing !== undefined)
    throw new Error(`${op}: the model has no adapter "${missing}"; there are ${known.join(", ") || "none"}`);
}

/** The layers of a model that can have LoRA adapters, with their paths. */
export function* adaptableLayers(model: Module): Generator<[string, LoRAHost]> {
  for (const [name, module] of model.namedModules())
    if ("inFeatures" in module && "outFeatures" in module && "lora" in module) yield [name, module as LoRAHost];
}

/** The layers of a model that have LoRA adapters, with their paths. */
export function* adaptedLayers(model: Module): Generator<[string, LoRAHost & { lora: LoRALayer }]> {
  for (const [name, host] of adaptableLayers(model))
    if (host.lora) yield [name, host as LoRAHost & { lora: LoRALayer }];
}
