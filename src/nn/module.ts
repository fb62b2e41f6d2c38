import { sameShape, show } from "../graph/shape.ts";
import type { HostTensor } from "../io/stored.ts";
import { Tensor } from "../tensor/tensor.ts";
import { setParameter } from "./init.ts";

/** Tensors by dotted name. */
export type StateDict = Record<string, Tensor>;

/** Gets a module's arguments and output. A returned value replaces the output. */
export type ForwardHook = (module: Module, args: readonly any[], output: any) => any;

/**
 * A tree of named tensors and modules. Public fields that hold a Tensor, a Module or an array of them are state, under the
 * name of the field. Private fields (`#field`) and fields of other types are not.
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
  /** Whether dropout is active. */
  training = true;
  /** Whether `requiresGrad_` leaves the module's own tensors alone: they never train. */
  readonly frozen: boolean = false;

  readonly #hooks: { call: ForwardHook }[] = [];

  /**
   * Calls `hook` after every forward pass of this module, until `remove()` of the returned handle. The hook sees lazy tensors:
   * `keep()` those to read later. A hook that always builds the same ops does not change plan reuse.
   * @throws if the module has no `forward`.
   */
  registerForwardHook(hook: ForwardHook): { remove(): void } {
    const own = this as { forward?: (...args: any[]) => any };
    const forward = own.forward;
    if (!forward) throw new Error(`registerForwardHook: ${this.constructor.name} has no forward method`);
    const hooks = this.#hooks;
    // While there are hooks, a method of the instance overrides the one of the class. Without hooks there is no overhead.
    if (hooks.length === 0) {
      const value = (...args: any[]) =>
        hooks.reduce((output, { call }) => call(this, args, output) ?? output, forward.apply(this, args));
      Object.defineProperty(this, "forward", { value, configurable: true });
    }
    const entry = { call: hook };
    hooks.push(entry);
    return {
      remove() {
        const at = hooks.indexOf(entry);
        if (at < 0) return;
        hooks.splice(at, 1);
        if (hooks.length === 0) delete own.forward;
      },
    };
  }

  /** Fields that may hold state, in order. */
  protected fields(): Iterable<[string, unknown]> {
    return Object.entries(this);
  }

  /** The direct children, named by field ("layers.0" in an array). */
  *children(): Generator<[string, Module]> {
    for (const [name, value] of leaves(this.fields(), "")) if (value instanceof Module) yield [name, value];
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

  /** This module ("" by default) and its descendants, depth first, with dotted names. */
  *namedModules(prefix = ""): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, value] of leaves(this.fields(), prefix)) {
      if (value instanceof Module) yield* value.namedModules(name);
    }
  }

  /** All tensors with dotted names, frozen ones included. A shared tensor appears once, under its first name. */
  *namedParameters(prefix = ""): Generator<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const [path, module] of this.namedModules(prefix)) {
      for (const [name, value] of leaves(module.fields(), path)) {
        if (!(value instanceof Tensor) || seen.has(value)) continue;
        seen.add(value);
        yield [name, value];
      }
    }
  }

  /** All tensors, frozen ones included, each once. */
  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, tensor]) => tensor);
  }

  /** All tensors by name, as handles, not copies. */
  stateDict(): StateDict {
    return Object.fromEntries(this.namedParameters());
  }

  /**
   * Sets every tensor from `state`. With `strict: false`, names may be missing or unexpected.
   * @throws if a name is missing or unexpected, or a shape differs. The error lists all of them, and nothing is changed.
   */
  loadStateDict(state: Readonly<Record<string, HostTensor | Tensor>>, { strict = true } = {}): void {
    const own = this.stateDict();
    const problems: string[] = [];
    for (const [name, tensor] of Object.entries(own)) {
      const value = state[name];
      if (!value) {
        if (strict) problems.push(`missing ${name} ${show(tensor.shape)}`);
      } else if (!sameShape(value.shape, tensor.shape)) {
        problems.push(`${name} has shape ${show(value.shape)}, expected ${show(tensor.shape)}`);
      }
    }
    if (strict)
      problems.push(
        ...Object.keys(state)
          .filter((name) => !own[name])
          .map((name) => `unexpected ${name} ${show(state[name].shape)}`),
      );
    if (problems.length) throw new Error(`loadStateDict (${this.constructor.name}): ${problems.join("; ")}`);
    for (const [name, tensor] of Object.entries(own)) {
      if (state[name]) setParameter(tensor, state[name]);
    }
  }

  /** Sets whether the tensors of this module and its descendants train. Tensors of `frozen` modules never do. */
  requiresGrad_(on = true): this {
    for (const [, module] of this.namedModules())
      for (const [, value] of leaves(module.fields(), ""))
        if (value instanceof Tensor) value.requiresGrad_(on && !module.frozen);
    return this;
  }

  /** Switches this module and its descendants to training mode, or out of it. */
  train(on = true): this {
    for (const [, module] of this.namedModules()) module.training = on;
    return this;
  }

  /** `train(false)`: no dropout. */
  eval(): this {
    return this.train(false);
  }
}

/** The fields, with the elements of arrays as fields of their own: layers.0, layers.1, … */
function* leaves(fields: Iterable<[string, unknown]>, prefix: string): Generator<[string, unknown]> {
  for (const [field, value] of fields) {
    const name = prefix ? `${prefix}.${field}` : field;
    if (Array.isArray(value)) yield* leaves(Object.entries(value), name);
    else yield [name, value];
  }
}

/**
 * Applies layers one after another. Functions count as layers in names, but hold no state.
 * @example new Sequential(new Linear(8, 32), (x) => x.gelu(), new Linear(32, 8)) // 0.weight, 0.bias, 2.weight, 2.bias
 */
export class Sequential extends Module {
  readonly #layers: (Layer | ((x: Tensor) => Tensor))[];

  constructor(...layers: (Layer | ((x: Tensor) => Tensor))[]) {
    super();
    this.#layers = layers;
  }

  protected override fields(): Iterable<[string, unknown]> {
    return Object.entries(this.#layers);
  }

  override replaceChild(name: string, child: Module): void {
    this.#layers[Number(name)] = child as Layer;
  }

  forward(x: Tensor): Tensor {
    return this.#layers.reduce((y, layer) => (typeof layer === "function" ? layer(y) : layer.forward(y)), x);
  }
}

/** A module that maps one tensor to one tensor. */
export type Layer = Module & { forward(x: Tensor): Tensor };
