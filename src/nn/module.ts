import { isFloat } from "../graph/dtype.ts";
import { withRecording } from "../graph/recording.ts";
import { sameShape, show } from "../graph/shape.ts";
import type { HostTensor } from "../io/stored.ts";
import { Tensor } from "../tensor/tensor.ts";
import { setParameter } from "./parameter.ts";

/** Tensors by dotted name. */
export type StateDict = Record<string, Tensor>;

/** Arguments of a module's `forward`. */
export type ForwardArgs<M> = M extends { forward(...args: infer A): any } ? A : any[];
/** Result of a module's `forward`. */
export type ForwardOutput<M> = M extends { forward(...args: any[]): infer R } ? R : any;

/** Gets a module's arguments and output. A returned value replaces the output. */
export type ForwardHook<M = Module> = (
  module: M,
  args: ForwardArgs<M>,
  output: ForwardOutput<M>,
  // biome-ignore lint/suspicious/noConfusingVoidType: hooks that return nothing are the usual ones
) => ForwardOutput<M> | undefined | void;

/** Gets a module's arguments. A returned array replaces them. */
export type ForwardPreHook<M = Module> = (
  module: M,
  args: ForwardArgs<M>,
  // biome-ignore lint/suspicious/noConfusingVoidType: hooks that return nothing are the usual ones
) => ForwardArgs<M> | undefined | void;

/** Removes a hook. */
export interface HookHandle {
  remove(): void;
}

/** The names in which a state and a module differ. */
export interface StateDifference {
  missingKeys: string[];
  unexpectedKeys: string[];
}

/**
 * A tree of named tensors and modules. Public fields that hold a Tensor, a Module or an array of them are state, under the
 * name of the field. Private fields (`#field`) and fields of other types are not. Tensors are parameters, except those of
 * `registerBuffer`.
 * @example
 * class MLP extends Module {
 *   up = new Linear(8, 32);
 *   down = new Linear(32, 8);
 *   forward(x: Tensor): Tensor {
 *     return this.down.forward(this.up.forward(x).gelu());
 *   }
 * }
 * Object.keys(new MLP().stateDict()); // up.weight, up.bias, down.weight, down.bias
 */
export abstract class Module {
  /** Whether dropout is active, and batch norm uses the statistics of the batch. */
  training = true;
  /** Whether `requiresGrad_` and `to` leave the module's own tensors alone: they never train. */
  readonly frozen: boolean = false;

  /** Field names of buffers, and whether the state dict contains them. */
  readonly #buffers = new Map<string, boolean>();
  readonly #preHooks: ForwardPreHook<any>[] = [];
  readonly #hooks: ForwardHook<any>[] = [];

  /**
   * Calls `hook` after every forward pass of this module, until `remove()` of the returned handle. The hook sees lazy tensors:
   * `keep()` those to read later. A hook that always builds the same ops does not change plan reuse.
   * @throws if the module has no `forward`.
   * @example layer.registerForwardHook((_layer, [x], y) => console.log(x.shape, y.shape))
   */
  registerForwardHook(hook: ForwardHook<this>): HookHandle {
    return this.#addHook("registerForwardHook", this.#hooks, hook);
  }

  /**
   * Calls `hook` before every forward pass of this module, until `remove()` of the returned handle.
   * @throws if the module has no `forward`.
   * @example layer.registerForwardPreHook((_layer, [x]) => [x.mul(2)])
   */
  registerForwardPreHook(hook: ForwardPreHook<this>): HookHandle {
    return this.#addHook("registerForwardPreHook", this.#preHooks, hook);
  }

  #addHook<H>(op: string, list: H[], hook: H): HookHandle {
    const own = this as { forward?: (...args: any[]) => any };
    const forward = own.forward;
    if (!forward) throw new Error(`${op}: ${this.constructor.name} has no forward method`);
    const [before, after] = [this.#preHooks, this.#hooks];
    // While there are hooks, a method of the instance overrides the one of the class. Without hooks there is no overhead.
    if (before.length + after.length === 0) {
      const value = (...given: any[]) => {
        const args = before.reduce((args, call) => call(this, args) ?? args, given);
        return after.reduce((output, call) => call(this, args, output) ?? output, forward.apply(this, args));
      };
      Object.defineProperty(this, "forward", { value, configurable: true });
    }
    const entry = ((...args: unknown[]) => (hook as (...args: unknown[]) => unknown)(...args)) as H; // one per call
    list.push(entry);
    return {
      remove() {
        const at = list.indexOf(entry);
        if (at < 0) return;
        list.splice(at, 1);
        if (before.length + after.length === 0) delete own.forward;
      },
    };
  }

  /**
   * Makes `this[name]` state that is no parameter: optimisers, `parameters()` and `requiresGrad_` pass it by.
   * @param options persistent: whether the state dict contains it; default true
   * @throws if the name is empty, has a dot, or names a field that holds something else.
   * @example this.registerBuffer("running_mean", zeros(8))
   */
  registerBuffer(name: string, value: Tensor | null, { persistent = true }: { persistent?: boolean } = {}): void {
    const fail = (what: string): never => {
      throw new Error(`registerBuffer (${this.constructor.name}): ${what}`);
    };
    if (!name || name.includes(".")) fail(`expected a name without dots, got "${name}"`);
    if (value !== null && !(value instanceof Tensor)) fail(`expected a Tensor or null as ${name}, got ${typeof value}`);
    const fields = this as Record<string, unknown>;
    if (!this.#buffers.has(name) && fields[name] !== undefined) fail(`the field ${name} exists already`);
    this.#buffers.set(name, persistent);
    fields[name] = value;
  }

  /** Fields that may hold state, in order. */
  protected fields(): Iterable<[string, unknown]> {
    return Object.entries(this);
  }

  /** The direct children, each once. */
  *children(): Generator<Module> {
    for (const [, child] of this.namedChildren()) yield child;
  }

  /** The direct children, each once, named by field ("layers.0" in an array). */
  *namedChildren(): Generator<[string, Module]> {
    const seen = new Set<Module>();
    for (const [name, value] of leaves(this.fields(), "")) {
      if (!(value instanceof Module) || seen.has(value)) continue;
      seen.add(value);
      yield [name, value];
    }
  }

  /** Replaces a direct child. Modules with children in private fields override this. */
  replaceChild(name: string, child: Module): void {
    const path = name.split(".");
    const last = path.pop()!;
    const parent = path.reduce((at, key) => at[key] as Record<string, unknown>, this as Record<string, unknown>);
    if (!(parent?.[last] instanceof Module))
      throw new Error(`replaceChild: ${this.constructor.name} has no child module ${name}`);
    parent[last] = child;
  }

  /** This module and its descendants, depth first, each once. */
  *modules(): Generator<Module> {
    for (const [, module] of this.namedModules()) yield module;
  }

  /** This module ("" by default) and its descendants, depth first, with dotted names. A shared one has its first name. */
  namedModules(prefix = ""): Generator<[string, Module]> {
    return this.#namedModules(prefix, new Set());
  }

  *#namedModules(prefix: string, seen: Set<Module>): Generator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, value] of leaves(this.fields(), prefix)) {
      if (value instanceof Module) yield* value.#namedModules(name, seen);
    }
  }

  /** Calls `fn` once on every descendant, then on this module: children before their parents. */
  apply(fn: (module: Module) => void): this {
    this.#apply(fn, new Set());
    return this;
  }

  #apply(fn: (module: Module) => void, seen: Set<Module>): void {
    if (seen.has(this)) return;
    seen.add(this);
    for (const child of this.children()) child.#apply(fn, seen);
    fn(this);
  }

  /** The tensors of this module alone. */
  *#tensors(prefix: string, which: "parameters" | "buffers"): Generator<[string, Tensor, boolean]> {
    for (const [field, content] of this.fields()) {
      const persistent = this.#buffers.get(field);
      if ((persistent !== undefined) !== (which === "buffers")) continue;
      for (const [name, value] of leaves([[field, content]], prefix))
        if (value instanceof Tensor) yield [name, value, persistent ?? true];
    }
  }

  *#allTensors(prefix: string, kinds: readonly ("parameters" | "buffers")[]): Generator<[string, Tensor, boolean]> {
    const seen = new Set<Tensor>();
    for (const [path, module] of this.namedModules(prefix)) {
      for (const kind of kinds) {
        for (const entry of module.#tensors(path, kind)) {
          if (seen.has(entry[1])) continue;
          seen.add(entry[1]);
          yield entry;
        }
      }
    }
  }

  /** All parameters with dotted names, frozen ones included. A shared tensor appears once, under its first name. */
  *namedParameters(prefix = ""): Generator<[string, Tensor]> {
    for (const [name, value] of this.#allTensors(prefix, ["parameters"])) yield [name, value];
  }

  /** All parameters, frozen ones included, each once. */
  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, tensor]) => tensor);
  }

  /** All buffers with dotted names, each once. */
  *namedBuffers(prefix = ""): Generator<[string, Tensor]> {
    for (const [name, value] of this.#allTensors(prefix, ["buffers"])) yield [name, value];
  }

  /** All buffers, each once. */
  buffers(): Tensor[] {
    return Array.from(this.namedBuffers(), ([, tensor]) => tensor);
  }

  /** All parameters and persistent buffers by name, as handles, not copies. */
  stateDict(): StateDict {
    const entries = [...this.#allTensors("", ["parameters", "buffers"])];
    return Object.fromEntries(entries.filter(([, , persistent]) => persistent).map(([name, value]) => [name, value]));
  }

  /**
   * Sets every tensor from `state`. With `strict: false`, names may be missing or unexpected; the result lists them.
   * @throws if a name is missing or unexpected, or a shape differs. The error lists all of them, and nothing is changed.
   */
  loadStateDict(
    state: Readonly<Record<string, HostTensor | Tensor>>,
    { strict = true }: { strict?: boolean } = {},
  ): StateDifference {
    const own = this.stateDict();
    const missingKeys = Object.keys(own).filter((name) => !state[name]);
    const unexpectedKeys = Object.keys(state).filter((name) => !own[name]);
    const problems = Object.entries(own)
      .filter(([name, { shape }]) => state[name] && !sameShape(state[name].shape, shape))
      .map(([name, { shape }]) => `${name} has shape ${show(state[name].shape)}, expected ${show(shape)}`);
    if (strict) {
      problems.push(...missingKeys.map((name) => `missing ${name} ${show(own[name].shape)}`));
      problems.push(...unexpectedKeys.map((name) => `unexpected ${name} ${show(state[name].shape)}`));
    }
    if (problems.length) throw new Error(`loadStateDict (${this.constructor.name}): ${problems.join("; ")}`);
    for (const [name, tensor] of Object.entries(own)) {
      if (state[name]) setParameter(tensor, state[name]);
    }
    return { missingKeys, unexpectedKeys };
  }

  /** Sets whether the parameters of this module and its descendants train. Tensors of `frozen` modules never do. */
  requiresGrad_(on = true): this {
    for (const module of this.modules())
      for (const [, value] of module.#tensors("", "parameters")) value.requiresGrad_(on && !module.frozen);
    return this;
  }

  /** Drops the gradients of all parameters. */
  zeroGrad(): void {
    for (const p of this.parameters()) p.grad = null;
  }

  /**
   * Casts all float parameters and buffers of this module and its descendants, and drops their gradients. They stay the same
   * tensors. Modules that are `frozen` (packed weights) stay as they are.
   * @example model.to("f16")
   */
  to(dtype: "f32" | "f16"): this {
    if (dtype !== "f32" && dtype !== "f16")
      throw new TypeError(`to (${this.constructor.name}): expected "f32" or "f16", got ${JSON.stringify(dtype)}`);
    for (const module of this.modules()) {
      if (module.frozen) continue;
      for (const kind of ["parameters", "buffers"] as const)
        for (const [, value] of module.#tensors("", kind)) castInPlace(value, dtype);
    }
    return this;
  }

  /** Switches this module and its descendants to training mode, or out of it. */
  train(on = true): this {
    for (const module of this.modules()) module.training = on;
    return this;
  }

  /** `train(false)`: no dropout, and batch norm with its running statistics. */
  eval(): this {
    return this.train(false);
  }
}

/** Gives a tensor its values in another float dtype. */
function castInPlace(x: Tensor, dtype: "f32" | "f16"): void {
  if (!isFloat(x.dtype) || x.dtype === dtype) return;
  const { node } = withRecording(false, () => x.to(dtype));
  node.requiresGrad = x.requiresGrad;
  x.node = node;
  x.grad = null;
}

/** The fields, with the elements of arrays as fields of their own: layers.0, layers.1, … */
function* leaves(fields: Iterable<[string, unknown]>, prefix: string): Generator<[string, unknown]> {
  for (const [field, value] of fields) {
    const name = prefix ? `${prefix}.${field}` : field;
    if (Array.isArray(value)) yield* leaves(Object.entries(value), name);
    else yield [name, value];
  }
}

/** A module that maps one tensor to one tensor. */
export type Layer = Module & { forward(x: Tensor): Tensor };
