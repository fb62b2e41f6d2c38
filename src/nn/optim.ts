import type { PlanReport } from "../compile/compile.ts";
import { untracked } from "../graph/build.ts";
import { numel, sameShape, show } from "../graph/shape.ts";
import { adamw, adamwInt8, STATE_BLOCK } from "../ops/adamw.ts";
import { cat, noGrad, tensor } from "../ops/functional.ts";
import { pack, packOffsets, packParameters } from "../ops/pack.ts";
import { planUpdates } from "../runtime/dry-run.ts";
import { assign, flush } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { setParameter } from "./init.ts";
import type { StateDict } from "./module.ts";
import { constantSchedule, type Schedule } from "./schedule.ts";

export interface ParameterGroup {
  params: Iterable<Tensor>;
  /** Default: the optimizer's. */
  lr?: number;
  weightDecay?: number;
}

export interface OptimizerOptions {
  lr?: number;
  weightDecay?: number;
  /** Factor on every group's learning rate at each step; default 1. */
  schedule?: Schedule;
  /** Scale all gradients down so that their global norm is at most this. */
  maxNorm?: number;
  /** What `step` makes of gradients added up by `accumulate`: their mean (default) or their sum. */
  accumulation?: "mean" | "sum";
}

/** Parameters that are updated together: all of them one flat vector (`pack`), as is each part of the state. */
interface Group {
  readonly params: readonly Tensor[];
  /** Where each parameter begins in the vector, and its length. */
  readonly offsets: readonly number[];
  readonly size: number;
  lr: number;
  weightDecay: number;
  /** What the update rule keeps (moments, momentum): flat vectors, most of them [size]. */
  readonly state: Record<string, Tensor>;
  /** Sum of the gradients of earlier micro-batches, [size]. */
  accumulated?: Tensor;
}

/** What an update rule gets: flat parameters and gradients [size], and the learning rate of this step (counted from 1). */
interface Update {
  readonly group: Group;
  readonly step: number;
  readonly p: Tensor;
  readonly g: Tensor;
  readonly lr: number;
  /** Factor on the gradients that is known on the device only (clipping), 0-d. */
  readonly scale?: Tensor;
}

/**
 * Updates parameters from their `.grad`. Forward, backward and update are one graph, which `step` runs; every
 * number that changes from step to step is data, so the second step already replays the plan of the first.
 * Frozen parameters in the list are left out.
 */
export abstract class Optimizer {
  readonly groups: readonly Group[];
  /** Steps taken. */
  steps = 0;
  /** Norm of all gradients before clipping at the last step, 0-d; only with `maxNorm`. */
  gradNorm?: Tensor;
  readonly #options: OptimizerOptions;
  readonly #schedule: Schedule;
  #micro = 0; // backward passes in `accumulated`
  readonly #packed: Promise<unknown>;

  constructor(
    name: string,
    params: Iterable<Tensor> | readonly ParameterGroup[],
    options: OptimizerOptions,
    stateOf: (size: number) => Record<string, Tensor>,
  ) {
    const { lr = 1e-3, weightDecay = 0, schedule = constantSchedule(), maxNorm } = options;
    checkFinite(name, { lr, weightDecay });
    if (maxNorm !== undefined && !(maxNorm > 0 && Number.isFinite(maxNorm)))
      throw new RangeError(`${name}: maxNorm must be positive, got ${maxNorm}`);
    const list = [...params] as Tensor[] | ParameterGroup[];
    const given: ParameterGroup[] =
      list.length > 0 && "params" in list[0] ? (list as ParameterGroup[]) : [{ params: list as Tensor[] }];
    const seen = new Set<Tensor>();
    this.groups = given.flatMap((group) => {
      const trained = [...group.params].filter((p) => p.requiresGrad);
      for (const p of trained) {
        if (seen.has(p)) throw new Error(`${name}: a parameter of shape ${show(p.shape)} is listed twice`);
        if (p.dtype !== "f32")
          throw new TypeError(`${name}: parameters must be f32, one of shape ${show(p.shape)} is ${p.dtype}`);
        seen.add(p);
      }
      if (trained.length === 0) return [];
      const { offsets, total: size } = packOffsets(trained.map((p) => numel(p.shape)));
      const made = {
        params: trained,
        offsets,
        size,
        lr: group.lr ?? lr,
        weightDecay: group.weightDecay ?? weightDecay,
        state: stateOf(size),
      };
      checkFinite(name, { lr: made.lr, weightDecay: made.weightDecay });
      return [made];
    });
    if (this.groups.length === 0)
      throw new Error(`${name}: no parameters to train: the list is empty, or all of it is frozen`);
    this.#options = options;
    this.#schedule = schedule;
    this.#packed = Promise.all(this.groups.map((group) => packParameters(group.params)));
    this.#packed.catch(() => undefined); // reported by the first step
  }

  /** New flat parameters; assigns its own state. */
  protected abstract update(update: Update): Tensor;

  /** Learning rate of each group at the next step. */
  learningRates(): number[] {
    const factor = this.#schedule(this.steps);
    return this.groups.map(({ lr }) => lr * factor);
  }

  /** Updates all parameters from their gradients, and clears these. Runs everything that is pending. */
  async step(): Promise<void> {
    await this.#packed;
    this.#update();
    await flush();
    this.steps++;
    this.zeroGrad();
  }

  /**
   * What `step` would run and need, known before it runs: kernels, pipelines, `peakBytes`. Changes nothing; call it
   * after `backward`. Undefined on the reference backend.
   */
  async plan(): Promise<PlanReport | undefined> {
    await this.#packed;
    return planUpdates(() => this.#update());
  }

  #update(): void {
    const rates = this.learningRates();
    checkFinite(this.constructor.name, Object.fromEntries(rates.map((lr, i) => [`learning rate of group ${i}`, lr])));
    building(() => {
      const gradients = this.#meanGradients();
      const scale = this.#clip(gradients);
      this.groups.forEach((group, i) => {
        const p = this.update({
          group,
          step: this.steps + 1,
          p: pack(group.params),
          g: gradients[i],
          lr: rates[i],
          scale,
        });
        group.params.forEach((param, k) =>
          assign(param, p.narrow(0, group.offsets[k], numel(param.shape)).reshape(param.shape)),
        );
      });
    });
  }

  /** Adds the gradients to those kept for the next `step`, clears them, and runs what is pending: one micro-batch. */
  async accumulate(): Promise<void> {
    await this.#packed;
    building(() => {
      const fresh = this.groups.map((group) => this.#gradients(group)); // may throw, before anything is assigned
      const older = scalar(this.#micro > 0 ? 1 : 0);
      this.groups.forEach((group, i) => {
        group.accumulated ??= flat(group.size);
        assign(group.accumulated, group.accumulated.where(older.gt(0), 0).add(fresh[i]));
      });
    });
    await flush();
    this.#micro++;
    this.#clear();
  }

  /** Drops the gradients, those kept by `accumulate` included. */
  zeroGrad(): void {
    this.#micro = 0;
    this.#clear();
  }

  #clear(): void {
    for (const { params } of this.groups) for (const p of params) p.grad = null;
  }

  /** The state by name: handles, not copies. With the parameters it is all that training needs to go on. */
  stateDict(): StateDict {
    const entries = this.groups.flatMap(({ state }, i) =>
      Object.entries(state).map(([key, t]): [string, Tensor] => [`group.${i}.${key}`, t]),
    );
    return { steps: tensor(Int32Array.of(this.steps)), ...Object.fromEntries(entries) };
  }

  /** Takes over a state saved from an optimizer with the same parameters. */
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
          `${this.constructor.name}.loadStateDict: ${name} has shape ${show(saved[name].shape)}, expected ${show(shape)}: other parameters?`,
        );
      }
    }
    this.steps = await saved.steps.item();
    for (const [name, target] of Object.entries(own)) if (name !== "steps") setParameter(target, saved[name]);
  }

  /** Gradients of each group, accumulated ones included. */
  #meanGradients(): Tensor[] {
    const pending = this.#micro === 0 || this.groups.some(({ params }) => params.some((p) => p.grad));
    const passes = this.#micro + (pending ? 1 : 0);
    return this.groups.map((group) => {
      const fresh = pending ? this.#gradients(group) : undefined;
      if (passes === 1 && fresh) return fresh;
      const total = fresh ? group.accumulated!.add(fresh) : group.accumulated!;
      return this.#options.accumulation === "sum" ? total : total.mul(scalar(1 / passes));
    });
  }

  /** All gradients of a group, flat [size]. */
  #gradients({ params }: Group): Tensor {
    const missing = params.filter((p) => !p.grad);
    if (missing.length) {
      const shapes = missing
        .slice(0, 6)
        .map((p) => show(p.shape))
        .join(" ");
      throw new Error(
        `${this.constructor.name}: ${missing.length} of ${params.length} parameters have no gradient (${shapes}${missing.length > 6 ? " …" : ""}): ` +
          "call backward() on a loss they take part in, or leave them out or freeze them before making the optimizer",
      );
    }
    return pack(params.map((p) => p.grad!));
  }

  #clip(gradients: readonly Tensor[]): Tensor | undefined {
    const { maxNorm } = this.#options;
    if (maxNorm === undefined) return undefined;
    const { norm, scale } = clipScale(gradients, maxNorm);
    this.gradNorm = norm.keep();
    return scale;
  }
}

export interface AdamWOptions extends OptimizerOptions {
  betas?: readonly [number, number];
  eps?: number;
  /**
   * How moments are kept: in f32 (8 bytes a parameter), or in 8 bits with a scale for 256 parameters each (2.03 bytes;
   * arXiv 2110.02861). Default "f32".
   */
  states?: "f32" | "int8";
}

/** Adam with decoupled weight decay (arXiv 1711.05101), the maths of torch.optim.AdamW. */
export class AdamW extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;

  constructor(params: Iterable<Tensor> | readonly ParameterGroup[], options: AdamWOptions = {}) {
    const { betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01, states = "f32" } = options;
    checkFinite("AdamW", { eps, beta1: betas[0], beta2: betas[1] });
    if (betas.some((b) => b < 0 || b >= 1)) throw new RangeError(`AdamW: betas must be in [0, 1), got ${betas}`);
    if (!["f32", "int8"].includes(states))
      throw new TypeError(`AdamW: states must be "f32" or "int8", got ${JSON.stringify(states)}`);
    super("AdamW", params, { ...options, weightDecay }, states === "int8" ? codedMoments : moments);
    this.#betas = betas;
    this.#eps = eps;
  }

  protected override update({ group, step: t, p, g, lr, scale }: Update): Tensor {
    const [b1, b2] = this.#betas.map(Math.fround); // the kernel's betas: corrections must agree with them
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
  momentum?: number;
  nesterov?: boolean;
}

/** Gradient descent with momentum; weight decay is added to the gradient, as in torch.optim.SGD. */
export class SGD extends Optimizer {
  readonly #momentum: number;
  readonly #nesterov: boolean;

  constructor(params: Iterable<Tensor> | readonly ParameterGroup[], options: SGDOptions = {}) {
    const { momentum = 0, nesterov = false } = options;
    if (!(momentum >= 0 && momentum < 1)) throw new RangeError(`SGD: momentum must be in [0, 1), got ${momentum}`);
    if (nesterov && momentum === 0) throw new RangeError("SGD: nesterov needs a momentum");
    super("SGD", params, options, (size) => (momentum > 0 ? { momentum: flat(size) } : {}) as Record<string, Tensor>);
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

/**
 * Scales the gradients of `params` so that their global norm is at most `maxNorm`; returns the norm before, 0-d.
 * An optimizer's `maxNorm` does the same inside its step.
 */
export function clipGradNorm(params: Iterable<Tensor>, maxNorm: number): Tensor {
  if (!(maxNorm > 0 && Number.isFinite(maxNorm)))
    throw new RangeError(`clipGradNorm: maxNorm must be positive, got ${maxNorm}`);
  const graded = [...params].filter((p) => p.grad);
  if (graded.length === 0) throw new Error("clipGradNorm: no parameter has a gradient");
  return building(() => {
    const { norm, scale } = clipScale(
      graded.map((p) => p.grad!),
      maxNorm,
    );
    for (const p of graded) p.grad = p.grad!.mul(scale);
    return norm.keep();
  });
}

/** Groups for the usual choice: weight decay on matrices, none on biases, norms and other vectors. */
export function decayMatrices(params: Iterable<Tensor>, weightDecay: number, lr?: number): ParameterGroup[] {
  const all = [...params];
  return [
    { params: all.filter((p) => p.ndim > 1), weightDecay, lr },
    { params: all.filter((p) => p.ndim <= 1), weightDecay: 0, lr },
  ];
}

/** The factor of torch's clip_grad_norm_: maxNorm / (norm + 1e-6), at most 1. */
function clipScale(gradients: readonly Tensor[], maxNorm: number): { norm: Tensor; scale: Tensor } {
  const norm = gradients
    .map((g) => g.square().sum())
    .reduce((a, b) => a.add(b))
    .sqrt();
  return { norm, scale: scalar(maxNorm).div(norm.add(1e-6)).minimum(1) };
}

/** Zeros from the host: a leaf like any later state, so that the first step has the plan of the others. */
const flat = (size: number): Tensor => tensor(new Float32Array(size));

const moments = (size: number): Record<string, Tensor> => ({ m: flat(size), v: flat(size) });
const codedMoments = (size: number): Record<string, Tensor> => ({
  m: tensor(new Uint32Array(size / 4)),
  v: tensor(new Uint32Array(size / 4)),
  scales: tensor(new Float32Array(2 * Math.ceil(size / STATE_BLOCK)), { shape: [Math.ceil(size / STATE_BLOCK), 2] }),
});

/** A number that may change from step to step. */
const scalar = (value: number): Tensor => tensor(Float32Array.of(value), { shape: [] });

const building = <T>(fn: () => T): T => noGrad(() => untracked(fn));

function checkFinite(name: string, values: Record<string, number>): void {
  for (const [key, value] of Object.entries(values)) {
    if (!(Number.isFinite(value) && value >= 0))
      throw new RangeError(`${name}: ${key} must be a finite number >= 0, got ${value}`);
  }
}
