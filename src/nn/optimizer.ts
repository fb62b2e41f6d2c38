import type { PlanReport } from "../compile/compile.ts";
import { untracked } from "../graph/build.ts";
import { allOrNothing } from "../graph/pending.ts";
import { withRecording } from "../graph/recording.ts";
import { numel, sameShape, show } from "../graph/shape.ts";
import { tensor, where } from "../ops/functional.ts";
import { pack, packOffsets, packParameters } from "../ops/pack.ts";
import { planUpdates } from "../runtime/dry-run.ts";
import { assign, flush } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { StateDict } from "./module.ts";
import { setParameter } from "./parameter.ts";
import { constantSchedule, type Schedule } from "./schedule.ts";

/** Parameters with a learning rate and weight decay of their own. */
export interface ParameterGroup {
  params: Iterable<Tensor>;
  /** Default: the optimizer's. */
  lr?: number;
  /** Default: the optimizer's. */
  weightDecay?: number;
}

export interface OptimizerOptions {
  /** Learning rate. Default 1e-3. */
  lr?: number;
  /** Default 0; AdamW: 0.01. */
  weightDecay?: number;
  /** Factor on the learning rate of every group, by step. Default: always 1. */
  schedule?: Schedule;
  /** Scales all gradients so that their global norm is at most this. Default: no limit. */
  maxNorm?: number;
  /** Limits every element of the gradients to [-clipValue, clipValue], before `maxNorm`. Default: no limit. */
  clipValue?: number;
  /**
   * What `step` does if a gradient has a NaN or infinite element. Default: it updates with it, as torch does; with `maxNorm`, a
   * NaN then makes all parameters NaN. "skip" changes neither parameters nor state, clears the gradients and counts `skipped`; "error" does that and throws. Both
   * wait for the GPU at every step, and need memory for a copy of parameters and state.
   */
  onNonFinite?: "error" | "skip";
  /** Whether `step` uses the mean or the sum of the gradients that `accumulate` has added up. Default "mean". */
  accumulation?: "mean" | "sum";
}

/** Parameters that are updated together, as one flat vector (`pack`). So is each tensor of their state. */
export interface Group {
  readonly params: readonly Tensor[];
  /** Where each parameter starts in the vector. */
  readonly offsets: readonly number[];
  /** Length of the vector. */
  readonly size: number;
  lr: number;
  weightDecay: number;
  /** State of the update rule (moments, momentum), flat. */
  readonly state: Record<string, Tensor>;
  /** Sum of the gradients of earlier micro-batches, [size]. */
  accumulated?: Tensor;
}

/** Learning rate and weight decay of a group. */
type Rates = Pick<Group, "lr" | "weightDecay">;

/** The first state of a group of `size` elements. */
type StateOf = (size: number, group: Pick<Group, "params" | "lr">) => Record<string, Tensor>;

/** Arguments of an update rule. */
export interface Update {
  readonly group: Group;
  /** Counts from 1. */
  readonly step: number;
  /** Parameters, [size]. */
  readonly p: Tensor;
  /** Gradients, [size]. */
  readonly g: Tensor;
  readonly lr: number;
  /** Factor on the gradients, from clipping, 0-d. The host does not know its value. */
  readonly scale?: Tensor;
}

/**
 * Updates parameters from their `.grad`. Frozen parameters in the list are skipped.
 * `step` runs forward, backward and update as one graph. All numbers that change from step to step are data, so the second step
 * reuses the plan of the first.
 */
export abstract class Optimizer {
  /** Parameters that share a rate, in the order in which they were given. */
  readonly groups: Group[];
  /** Steps taken. */
  steps = 0;
  /** Steps that `onNonFinite: "skip"` left out. */
  skipped = 0;
  /** Global norm of the gradients of the last step, before clipping, 0-d. Set only with `maxNorm`. */
  gradNorm?: Tensor;
  readonly #options: OptimizerOptions;
  readonly #schedule: Schedule;
  #passes = 0; // backward passes summed in `accumulated`
  #packed: Promise<unknown> = Promise.resolve();
  #packError: unknown;
  readonly #name: string;
  readonly #stateOf: StateOf;

  constructor(
    name: string,
    params: Iterable<Tensor> | readonly ParameterGroup[],
    options: OptimizerOptions,
    stateOf: StateOf,
  ) {
    const { lr = 1e-3, weightDecay = 0, schedule = constantSchedule(), maxNorm, clipValue } = options;
    checkFinite(name, { lr, weightDecay });
    if (clipValue !== undefined && !(clipValue > 0 && Number.isFinite(clipValue)))
      throw new RangeError(`${name}: clipValue must be positive, got ${clipValue}`);
    if (maxNorm !== undefined && !(maxNorm > 0 && Number.isFinite(maxNorm)))
      throw new RangeError(`${name}: maxNorm must be positive, got ${maxNorm}`);
    if (options.onNonFinite !== undefined && !["error", "skip"].includes(options.onNonFinite))
      throw new TypeError(`${name}: onNonFinite must be "error" or "skip", got ${JSON.stringify(options.onNonFinite)}`);
    this.#name = name;
    this.#stateOf = stateOf;
    const list = [...params] as Tensor[] | ParameterGroup[];
    const given = isGroups(list) ? list : [{ params: list }];
    this.groups = [];
    for (const group of given) this.#add(group, { lr, weightDecay });
    if (this.groups.length === 0)
      throw new Error(`${name}: no parameters to train: the list is empty, or all parameters are frozen`);
    this.#options = options;
    this.#schedule = schedule;
  }

  /**
   * Adds parameters, which the next `step` updates too: layers that are unfrozen later, say. Their state starts anew.
   * @throws if one is listed already, is not f32, or gradients have been accumulated since the last step
   */
  addParamGroup(group: ParameterGroup): void {
    if (this.#passes > 0)
      throw new Error(`${this.#name}.addParamGroup: call it after step(), not between micro-batches`);
    const { lr = 1e-3, weightDecay = 0 } = this.#options;
    if (!this.#add(group, { lr, weightDecay }))
      throw new Error(`${this.#name}.addParamGroup: no parameters to train: the list is empty, or all are frozen`);
  }

  /** Adds a group, unless it has no parameter that requires grad. */
  #add(group: ParameterGroup, defaults: Rates): boolean {
    const name = this.#name;
    const params = [...group.params].filter((p) => p.requiresGrad);
    const seen = new Set(this.groups.flatMap((g) => g.params));
    for (const p of params) {
      if (seen.has(p)) throw new Error(`${name}: a parameter of shape ${show(p.shape)} is listed twice`);
      if (p.dtype !== "f32")
        throw new TypeError(`${name}: expected f32 parameters, one of shape ${show(p.shape)} is ${p.dtype}`);
      seen.add(p);
    }
    if (params.length === 0) return false;
    const { offsets, total: size } = packOffsets(params.map((p) => numel(p.shape)));
    const rates = { lr: group.lr ?? defaults.lr, weightDecay: group.weightDecay ?? defaults.weightDecay };
    checkFinite(name, rates);
    const state = this.#stateOf(size, { params, lr: rates.lr });
    this.groups.push({ params, offsets, size, ...rates, state });
    this.#packed = Promise.all([this.#packed, packParameters(params)]);
    this.#packed.catch((error) => (this.#packError = error)); // the next step reports it
    return true;
  }

  /** Returns the new parameters, [size], and assigns the new state. */
  protected abstract update(update: Update): Tensor;

  /** The learning rate of each group at the next step. */
  learningRates(): number[] {
    const factor = this.#schedule(this.steps);
    return this.groups.map(({ lr }) => lr * factor);
  }

  /**
   * Updates all parameters from their gradients, clears the gradients, and runs all pending work. The gradients are taken at
   * the call: a `backward` before the promise settles adds to the next step. If the step fails, parameters, state and
   * gradients are as before.
   */
  async step(): Promise<void> {
    this.#reportPacking();
    const restore = this.#snapshot();
    const bad = allOrNothing(() => this.#update());
    this.steps++;
    this.zeroGrad();
    try {
      await flush();
    } catch (error) {
      this.steps--;
      restore();
      throw error;
    }
    if (!bad || (await bad.item()) === 0) return;
    this.steps--;
    if (this.#options.onNonFinite === "skip") {
      this.skipped++;
      return;
    }
    throw new Error(
      `${this.#name}.step: ${await bad.item()} elements of the gradients are NaN or infinite at step ${this.steps + 1}: parameters and state are unchanged; lower the learning rate, or use onNonFinite "skip"`,
    );
  }

  /** Throws the error of packing parameters, once. A step works without, more slowly. */
  #reportPacking(): void {
    const error = this.#packError;
    this.#packError = undefined;
    if (error !== undefined) throw error;
  }

  /** A function that gives the gradients back, added to those that have come since. */
  #snapshot(): () => void {
    const passes = this.#passes;
    const grads = this.groups.flatMap(({ params }) => params.map((p) => [p, p.grad] as const));
    return () => {
      this.#passes ||= passes;
      withoutRecording(() => {
        for (const [p, g] of grads) p.grad = g && p.grad ? g.add(p.grad) : (g ?? p.grad);
      });
    };
  }

  /**
   * The kernels, pipelines and peak bytes of the next `step`, without running it. Call it after `backward`.
   * Undefined on the reference backend.
   */
  async plan(): Promise<PlanReport | undefined> {
    await this.#packed;
    return planUpdates(() => this.#update());
  }

  /** Assigns all parameters and states. With `onNonFinite`: unless a gradient is not finite; returns the number of such elements. */
  #update(): Tensor | undefined {
    const rates = this.learningRates();
    checkFinite(this.constructor.name, Object.fromEntries(rates.map((lr, i) => [`learning rate of group ${i}`, lr])));
    return withoutRecording(() => {
      const given = this.#meanGradients();
      const gradients = given.map((g) => limited(g, this.#options.clipValue));
      const scale = this.#clip(gradients);
      const bad = this.#options.onNonFinite && countNonFinite(given).keep();
      const finite = bad?.eq(0);
      this.groups.forEach((group, i) => {
        const states = Object.values(group.state);
        const before = states.map((t) => t.detach());
        const packed = pack(group.params);
        const next = this.update({
          group,
          step: this.steps + 1,
          p: packed,
          g: gradients[i],
          lr: rates[i],
          scale,
        });
        const p = finite ? where(finite, next, packed) : next;
        if (finite) states.forEach((t, k) => assign(t, where(finite, t.detach(), before[k])));
        group.params.forEach((param, k) =>
          assign(param, p.narrow(0, group.offsets[k], numel(param.shape)).reshape(param.shape)),
        );
      });
      return bad;
    });
  }

  /** Adds the gradients of a micro-batch to a sum for the next `step`, clears them, and runs all pending work. */
  async accumulate(): Promise<void> {
    this.#reportPacking();
    const restore = this.#snapshot();
    withoutRecording(() => {
      const current = this.groups.map((group) => this.#gradients(group)); // throws before anything is assigned
      const hasOlder = scalar(this.#passes > 0 ? 1 : 0);
      this.groups.forEach((group, i) => {
        group.accumulated ??= zeroState(group.size);
        assign(group.accumulated, group.accumulated.where(hasOlder.gt(0), 0).add(current[i]));
      });
    });
    this.#passes++;
    this.#clear();
    try {
      await flush();
    } catch (error) {
      this.#passes--;
      restore();
      throw error;
    }
  }

  /** Clears the gradients and the sum of `accumulate`. */
  zeroGrad(): void {
    this.#passes = 0;
    this.#clear();
  }

  #clear(): void {
    for (const { params } of this.groups) for (const p of params) p.grad = null;
  }

  /** The state by name, as handles, not copies. With the parameters, it is all that resumed training needs. */
  stateDict(): StateDict {
    const entries = this.groups.flatMap(({ state }, i) =>
      Object.entries(state).map(([key, t]): [string, Tensor] => [`group.${i}.${key}`, t]),
    );
    return { steps: tensor(Int32Array.of(this.steps)), ...Object.fromEntries(entries) };
  }

  /**
   * Loads the state of an optimizer with the same parameters.
   * @throws if a tensor is missing, or has another shape or dtype.
   */
  async loadStateDict(saved: Readonly<StateDict>): Promise<void> {
    const own = this.stateDict();
    for (const [name, { shape, dtype }] of Object.entries(own)) {
      if (!saved[name]) throw new Error(`${this.constructor.name}.loadStateDict: missing ${name}`);
      if (saved[name].dtype !== dtype)
        throw new TypeError(
          `${this.constructor.name}.loadStateDict: ${name} is ${saved[name].dtype}, expected ${dtype}`,
        );
      if (!sameShape(saved[name].shape, shape)) {
        throw new Error(
          `${this.constructor.name}.loadStateDict: ${name} has shape ${show(saved[name].shape)}, expected ${show(shape)}: was it saved with other parameters?`,
        );
      }
    }
    this.steps = await saved.steps.item();
    for (const [name, target] of Object.entries(own)) if (name !== "steps") setParameter(target, saved[name]);
  }

  /** The gradients of each group, [size], including those that `accumulate` has added up. */
  #meanGradients(): Tensor[] {
    const pending = this.#passes === 0 || this.groups.some(({ params }) => params.some((p) => p.grad));
    const passes = this.#passes + (pending ? 1 : 0);
    return this.groups.map((group) => {
      const current = pending ? this.#gradients(group) : undefined;
      if (passes === 1 && current) return current;
      const total = current ? group.accumulated!.add(current) : group.accumulated!;
      return this.#options.accumulation === "sum" ? total : total.mul(scalar(1 / passes));
    });
  }

  /** The gradients of a group, [size]. */
  #gradients({ params }: Group): Tensor {
    const missing = params.filter((p) => !p.grad);
    if (missing.length) {
      const shapes = missing
        .slice(0, 6)
        .map((p) => show(p.shape))
        .join(" ");
      throw new Error(
        `${this.constructor.name}: ${missing.length} of ${params.length} parameters have no gradient (${shapes}${missing.length > 6 ? " …" : ""}): ` +
          "call backward() on a loss that depends on them; or freeze them, or leave them out, before you construct the optimizer",
      );
    }
    return pack(params.map((p) => p.grad!));
  }

  #clip(gradients: readonly Tensor[]): Tensor | undefined {
    const { maxNorm } = this.#options;
    if (maxNorm === undefined) return undefined;
    const { norm, scale } = clipFactor(gradients, maxNorm);
    this.gradNorm = norm.keep();
    return scale;
  }
}

/**
 * Scales the gradients of `params` so that their global norm is at most `maxNorm`. Returns the norm before scaling, 0-d.
 * The option `maxNorm` of an optimizer does the same in `step`.
 */
export function clipGradNorm(params: Iterable<Tensor>, maxNorm: number): Tensor {
  if (!(maxNorm > 0 && Number.isFinite(maxNorm)))
    throw new RangeError(`clipGradNorm: maxNorm must be positive, got ${maxNorm}`);
  const withGrad = [...params].filter((p) => p.grad);
  if (withGrad.length === 0) throw new Error("clipGradNorm: no parameter has a gradient: call backward() first");
  return withoutRecording(() => {
    const { norm, scale } = clipFactor(
      withGrad.map((p) => p.grad!),
      maxNorm,
    );
    for (const p of withGrad) p.grad = p.grad!.mul(scale);
    return norm.keep();
  });
}

/**
 * Limits every element of the gradients of `params` to [-value, value]. The option `clipValue` of an optimizer does the same
 * in `step`.
 */
export function clipGradValue(params: Iterable<Tensor>, value: number): void {
  if (!(value > 0 && Number.isFinite(value)))
    throw new RangeError(`clipGradValue: value must be positive, got ${value}`);
  withoutRecording(() => {
    for (const p of params) if (p.grad) p.grad = limited(p.grad, value);
  });
}

const limited = (g: Tensor, value?: number): Tensor => (value === undefined ? g : g.clamp({ min: -value, max: value }));

/**
 * Two groups: matrices with weight decay, and vectors (biases, norms) without.
 * @example new AdamW(decayMatrices(model.parameters(), 0.01), { lr: 3e-4 })
 */
export function decayMatrices(params: Iterable<Tensor>, weightDecay: number, lr?: number): ParameterGroup[] {
  const all = [...params];
  return [
    { params: all.filter((p) => p.ndim > 1), weightDecay, lr },
    { params: all.filter((p) => p.ndim <= 1), weightDecay: 0, lr },
  ];
}

/** Number of elements that are NaN or infinite, 0-d. */
const countNonFinite = (gradients: readonly Tensor[]): Tensor =>
  gradients.map((g) => g.isfinite().logicalNot().sum()).reduce((a, b) => a.add(b));

/** Global norm of the gradients, and the factor of torch's clip_grad_norm_: maxNorm / (norm + 1e-6), at most 1. */
function clipFactor(gradients: readonly Tensor[], maxNorm: number): { norm: Tensor; scale: Tensor } {
  const norm = gradients
    .map((g) => g.square().sum())
    .reduce((a, b) => a.add(b))
    .sqrt();
  return { norm, scale: scalar(maxNorm).div(norm.add(1e-6)).minimum(1) }; // minimum keeps a NaN: all gradients become NaN
}

/** Initial state: zeros from the host. Later state is a leaf too, so the first step has the plan of all others. */
export const zeroState = (size: number): Tensor => tensor(new Float32Array(size));

/** A number that may change from step to step: data, so that the plan stays the same. */
export const scalar = (value: number): Tensor => tensor(Float32Array.of(value), { shape: [] });

/** Builds ops without gradients. Their 0-d results are internal, so a flush computes only those it needs. */
export const withoutRecording = <T>(fn: () => T): T => withRecording(false, () => untracked(fn));

/** @throws unless all values are finite and at least 0. */
export function checkFinite(name: string, values: Record<string, number>): void {
  for (const [key, value] of Object.entries(values)) {
    if (!(Number.isFinite(value) && value >= 0))
      throw new RangeError(`${name}: ${key} must be a finite number >= 0, got ${value}`);
  }
}

const sharedOptions = ["lr", "weightDecay", "schedule", "maxNorm", "clipValue", "accumulation", "onNonFinite"];

/** @throws if `options` has a name that is neither one of all optimizers nor in `own`. */
export function checkOptions(name: string, options: object, own: readonly string[]): void {
  const known = [...sharedOptions, ...own];
  for (const key of Object.keys(options))
    if (!known.includes(key)) throw new TypeError(`${name}: unknown option ${key}; options: ${known.join(", ")}`);
}

/** @throws unless both are in [0, 1). */
export function checkBetas(name: string, betas: readonly number[]): void {
  if (betas.length !== 2 || !betas.every((b) => b >= 0 && b < 1))
    throw new RangeError(`${name}: betas must be in [0, 1), two numbers, got ${betas}`);
}

/** Whether an optimizer was given groups of parameters rather than parameters. */
export const isGroups = (list: readonly Tensor[] | readonly ParameterGroup[]): list is readonly ParameterGroup[] =>
  list.length > 0 && "params" in list[0];
