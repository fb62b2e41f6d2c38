import { sameShape, show } from "../graph/shape.ts";
import type { HostTensor } from "../io/stored.ts";
import { Tensor } from "../tensor/tensor.ts";
import { setParameter } from "./init.ts";

export type StateDict = Record<string, Tensor>;

/** Sees a module's arguments and result; what it returns, if anything, takes the place of the result. */
export type ForwardHook = (module: Module, args: readonly any[], output: any) => any;

/**
 * A tree of named tensors and modules, nothing else. Public fields that hold a Tensor, a Module or an array of
 * them are its state, under the field's name; anything private (`#field`) or of another type is not.
 */
export abstract class Module {
  /** Whether dropout is active. */
  training = true;
  /** Whether its own tensors never train, whatever `requiresGrad_` asks of a model they are part of. */
  readonly frozen: boolean = false;

  readonly #hooks: { call: ForwardHook }[] = [];

  /**
   * Calls `hook` after every forward pass of this module. It sees lazy tensors: `keep()` those to read later. With a
   * hook that does the same each time, plans replay as without one. `remove()` of what is returned takes it away.
   */
  registerForwardHook(hook: ForwardHook): { remove(): void } {
    const own = this as { forward?: (...args: any[]) => any };
    const plain = own.forward;
    if (!plain) throw new Error(`registerForwardHook: ${this.constructor.name} has no forward`);
    const hooks = this.#hooks;
    // The instance's own method hides the class's as long as there are hooks; without any there is no cost.
    if (hooks.length === 0) {
      const value = (...args: any[]) =>
        hooks.reduce((output, { call }) => call(this, args, output) ?? output, plain.apply(this, args));
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

  /** The modules right below, with the names that `fields` gives them ("layers.0" in an array). */
  *children(): Generator<[string, Module]> {
    for (const [name, value] of leaves(this.fields(), "")) if (value instanceof Module) yield [name, value];
  }

  /** Puts another module in the place of a child. Modules with private fields say where it is. */
  replaceChild(name: string, child: Module): void {
    const path = name.split(".");
    const last = path.pop()!;
    const place = path.reduce((at, key) => at[key] as Record<string, unknown>, this as Record<string, unknown>);
    if (!(place?.[last] instanceof Module)) throw new Error(`${this.constructor.name} has no child ${name}`);
    place[last] = child;
  }

  /** This module and all below it, depth first, with dotted names ("" for itself). */
  *namedModules(prefix = ""): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, value] of leaves(this.fields(), prefix)) {
      if (value instanceof Module) yield* value.namedModules(name);
    }
  }

  /** All tensors with dotted names, frozen ones included; a shared tensor appears once, under its first name. */
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

  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, tensor]) => tensor);
  }

  /** The tensors by name: handles, not copies. */
  stateDict(): StateDict {
    return Object.fromEntries(this.namedParameters());
  }

  /**
   * Sets every tensor from `state`. Nothing is changed unless all names and shapes fit; the error lists
   * every missing and unexpected name and every wrong shape. `strict: false` allows missing and unexpected ones.
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

  /** Freezes (`false`) or trains all tensors below but frozen ones. */
  requiresGrad_(on = true): this {
    for (const [, module] of this.namedModules())
      for (const [, value] of leaves(module.fields(), ""))
        if (value instanceof Tensor) value.requiresGrad_(on && !module.frozen);
    return this;
  }

  train(on = true): this {
    for (const [, module] of this.namedModules()) module.training = on;
    return this;
  }

  eval(): this {
    return this.train(false);
  }
}

/** Fields with arrays taken apart: `layers` gives layers.0, layers.1, … */
function* leaves(fields: Iterable<[string, unknown]>, prefix: string): Generator<[string, unknown]> {
  for (const [field, value] of fields) {
    const name = prefix ? `${prefix}.${field}` : field;
    if (Array.isArray(value)) yield* leaves(Object.entries(value), name);
    else yield [name, value];
  }
}

/** Layers applied in turn; functions (activations) take a number but hold no state. */
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

/** A module from one tensor to one. */
export type Layer = Module & { forward(x: Tensor): Tensor };
