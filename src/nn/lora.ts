import { linear } from "../ops/functional.ts";
import { assign } from "../tensor/engine.ts";
import { Tensor } from "../tensor/tensor.ts";
import { constant, uniform } from "./init.ts";
import { Dropout } from "./layers.ts";
import { Module, type StateDict } from "./module.ts";
import { inDtypeOf } from "./precision.ts";
import { dequantize, type QuantizedWeight, requantize } from "./quantized.ts";

export interface LoRAOptions {
  /** Rank of the update, at least 1. */
  r: number;
  /** The update is multiplied by alpha / r. Default: r. */
  alpha?: number;
  /** Dropout on the input of the update in training. Default 0. */
  dropout?: number;
  /** Multiply by alpha / √r instead (arXiv 2312.03732). Default false. */
  rankStabilized?: boolean;
}

/** The trainable update (alpha / r) B A x, of rank r, for a frozen layer (arXiv 2106.09685). */
export class LoRA extends Module {
  lora_A: Tensor; // [r, in]
  lora_B: Tensor; // [out, r], initially zero, so that training starts from the frozen model
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

  /** The update of the output: [..., in] to [..., out]. */
  forward(x: Tensor): Tensor {
    const dropped = this.training ? this.#dropout.forward(x) : x;
    return linear(linear(dropped, inDtypeOf(x, this.lora_A)), inDtypeOf(x, this.lora_B)).mul(this.scale);
  }

  /** The update of the weight, [out, in]. */
  delta(): Tensor {
    return this.lora_B.matmul(this.lora_A).mul(this.scale).detach();
  }
}

/** The adapters of one layer, by name. Active adapters that are not merged into the weight are added to the output. */
export class LoRALayer extends Module {
  readonly adapters = new Map<string, LoRA>();
  /** Names of the adapters that are applied. */
  active: readonly string[] = [];
  /** Names of the adapters that the weight contains. */
  merged: readonly string[] = [];

  protected override fields(): Iterable<[string, unknown]> {
    return this.adapters;
  }

  /** Adds the updates for the input x [..., in] to the frozen layer's output y [..., out]. */
  update(x: Tensor, y: Tensor): Tensor {
    for (const name of this.active) if (!this.merged.includes(name)) y = y.add(this.adapters.get(name)!.forward(x));
    return y;
  }
}

/** A layer that can have adapters: Linear or QuantizedLinear. */
export interface LoRAHost extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** [out, in] */
  weight: Tensor | QuantizedWeight;
  lora?: LoRALayer;
}

/** The name of the adapter that `addLoRA` adds, as in PEFT. */
export const DEFAULT_ADAPTER = "default";

/**
 * Freezes `model` and adds a trainable LoRA to every Linear whose dotted name matches. Returns the names of these layers.
 * To train other parts in full, call `requiresGrad_()` on them afterwards.
 * @example addLoRA(model, ["q_proj", "v_proj"], { r: 8, alpha: 16 })
 */
export const addLoRA = (model: Module, match: RegExp | readonly string[], options: LoRAOptions): string[] =>
  addAdapter(model, DEFAULT_ADAPTER, match, options);

/**
 * As `addLoRA`, for an adapter with a name. It becomes the only active one.
 * @param adapter letters, digits, - and _
 * @param match a pattern for dotted names, or a list of names, in full or their last parts ("q_proj")
 * @throws if no Linear matches, or one that does has an adapter of that name already.
 */
export function addAdapter(
  model: Module,
  adapter: string,
  match: RegExp | readonly string[],
  options: LoRAOptions,
): string[] {
  if (!/^[\w-]+$/.test(adapter))
    throw new Error(`addAdapter: expected a name of letters, digits, - and _, got "${adapter}"`);
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
  const conflict = chosen.find(([, layer]) => layer.lora?.adapters.has(adapter));
  if (conflict) throw new Error(`addLoRA: ${conflict[0]} has a LoRA "${adapter}" already`);
  const adapters = chosen.map(([, layer]) => new LoRA(layer.inFeatures, layer.outFeatures, options));
  model.requiresGrad_(false);
  for (const [i, [, layer]] of chosen.entries()) {
    layer.lora ??= new LoRALayer();
    layer.lora.adapters.set(adapter, adapters[i]);
    layer.lora.train(layer.training);
  }
  setAdapter(model, adapter);
  return chosen.map(([name]) => name);
}

/** The names of all adapters of a model. */
export function adapterNames(model: Module): string[] {
  return [...new Set(Array.from(adaptedLayers(model)).flatMap(([, { lora }]) => [...lora.adapters.keys()]))];
}

/**
 * Activates one adapter, several (their updates add up), or none (`null`). Active adapters train; the others are frozen.
 * @throws if the model has no adapter of a name.
 */
export function setAdapter(model: Module, active: string | readonly string[] | null): void {
  const names = active === null ? [] : [active].flat();
  checkNames("setAdapter", model, names);
  for (const [, { lora }] of adaptedLayers(model)) {
    lora.active = names.filter((name) => lora.adapters.has(name));
    for (const [name, adapter] of lora.adapters) adapter.requiresGrad_(names.includes(name));
  }
}

/** Removes an adapter. If it is merged, it is subtracted from the weights first. */
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
 * Adds the updates of the active adapters, or of the named ones, to the weights: the forward pass then costs no extra work.
 * As in PEFT, quantised weights are dequantised, updated and rounded again, with a warning. Rounding can lose the update: of one
 * with 1 % of the weights' size, int8 keeps 96 %, int4 and nf4 almost nothing.
 */
export const mergeLoRA = (model: Module, adapters?: string | readonly string[]): void =>
  setMerged(model, adapters, true);

/** Subtracts merged updates from the weights. The result is exact up to rounding; quantised weights are rounded once more. */
export const unmergeLoRA = (model: Module, adapters?: string | readonly string[]): void =>
  setMerged(model, adapters, false);

function setMerged(model: Module, adapters: string | readonly string[] | undefined, merge: boolean): void {
  const names = adapters === undefined ? undefined : [adapters].flat();
  if (names) checkNames(merge ? "mergeLoRA" : "unmergeLoRA", model, names);
  const rounded: string[] = [];
  for (const [path, { weight, lora }] of adaptedLayers(model)) {
    const changed = merge
      ? (names ?? lora.active).filter((name) => lora.adapters.has(name) && !lora.merged.includes(name))
      : lora.merged.filter((name) => !names || names.includes(name));
    if (changed.length === 0) continue;
    const dense = weight instanceof Tensor ? weight : dequantize(weight); // [out, in]
    const deltas = changed.map((name) => lora.adapters.get(name)!.delta().to(dense.dtype));
    const updated = deltas.reduce((w, delta) => (merge ? w.add(delta) : w.sub(delta)), dense);
    if (weight instanceof Tensor) assign(weight, updated);
    else {
      requantize(weight, updated);
      rounded.push(path);
    }
    lora.merged = merge ? [...lora.merged, ...changed] : lora.merged.filter((name) => !changed.includes(name));
  }
  if (rounded.length)
    console.warn(
      `${merge ? "mergeLoRA" : "unmergeLoRA"}: ${rounded.length} quantised weights (${rounded[0]}, …) were rounded again, which loses changes smaller than their rounding step. To keep them, merge into f32 or f16 weights and quantise those.`,
    );
}

/** The tensors of an adapter, under the names that PEFT uses in adapter files. */
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

/** The layers of a model that can have adapters, with their dotted names. */
export function* adaptableLayers(model: Module): Generator<[string, LoRAHost]> {
  for (const [name, module] of model.namedModules())
    if ("inFeatures" in module && "outFeatures" in module && "lora" in module) yield [name, module as LoRAHost];
}

/** The layers of a model that have adapters, with their dotted names. */
export function* adaptedLayers(model: Module): Generator<[string, LoRAHost & { lora: LoRALayer }]> {
  for (const [name, host] of adaptableLayers(model))
    if (host.lora) yield [name, host as LoRAHost & { lora: LoRALayer }];
}
