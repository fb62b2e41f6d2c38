import { Tensor } from "../tensor/tensor.ts";
import { type Layer, Module } from "./module.ts";

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

  /** Number of layers. */
  get length(): number {
    return this.#layers.length;
  }

  [Symbol.iterator](): Iterator<Layer | ((x: Tensor) => Tensor)> {
    return this.#layers[Symbol.iterator]();
  }

  /** Layer `i`; a negative number counts from the end. */
  at(i: number): Layer | ((x: Tensor) => Tensor) | undefined {
    return this.#layers.at(i);
  }

  /** Adds a layer at the end. */
  append(layer: Layer | ((x: Tensor) => Tensor)): this {
    this.#layers.push(layer);
    return this;
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

/** A list of state, under the names 0, 1, … */
abstract class List<T extends Module | Tensor> extends Module {
  readonly #items: T[] = [];

  constructor(items: Iterable<T>) {
    super();
    for (const item of items) this.append(item);
  }

  /** Whether a value can be an element. */
  protected abstract fits(item: unknown): boolean;

  /** Number of elements. */
  get length(): number {
    return this.#items.length;
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items[Symbol.iterator]();
  }

  /** Element `i`; a negative number counts from the end. @throws if there is none. */
  at(i: number): T {
    const found = this.#items.at(i);
    if (!found) throw new RangeError(`${this.constructor.name}: no element ${i} in a list of ${this.length}`);
    return found;
  }

  /** Adds an element at the end. */
  append(item: T): this {
    if (!this.fits(item))
      throw new TypeError(`${this.constructor.name}: a value of type ${typeof item} does not belong into this list`);
    this.#items.push(item);
    return this;
  }

  protected override fields(): Iterable<[string, unknown]> {
    return Object.entries(this.#items);
  }

  override replaceChild(name: string, child: Module): void {
    if (!(this.#items[Number(name)] instanceof Module))
      throw new Error(`replaceChild: ${this.constructor.name} has no child module ${name}`);
    this.#items[Number(name)] = child as T;
  }
}

/**
 * Modules under the names 0, 1, … An array in a field of a module does the same.
 * @example for (const block of new ModuleList([new Linear(4, 4), new Linear(4, 4)])) x = block.forward(x)
 */
export class ModuleList<M extends Module = Module> extends List<M> {
  constructor(modules: Iterable<M> = []) {
    super(modules);
  }

  protected override fits(item: unknown): boolean {
    return item instanceof Module;
  }
}

/**
 * Trainable tensors under the names 0, 1, … An array in a field of a module does the same.
 * @example new ParameterList([parameter(zeros(4)), parameter(ones(4))])
 */
export class ParameterList extends List<Tensor> {
  constructor(parameters: Iterable<Tensor> = []) {
    super(parameters);
  }

  protected override fits(item: unknown): boolean {
    return item instanceof Tensor;
  }
}

/** Named state. */
abstract class Dict<T extends Record<string, Module | Tensor>> extends Module {
  readonly #items: Map<string, Module | Tensor>;

  constructor(items: T) {
    super();
    this.#items = new Map(Object.entries(items));
    const dotted = Object.keys(items).find((name) => name.includes("."));
    if (dotted) throw new Error(`${new.target.name}: expected names without dots, got "${dotted}"`);
  }

  /** The element of a name. @throws if there is none. */
  get<K extends keyof T & string>(name: K): T[K] {
    const found = this.#items.get(name);
    if (!found)
      throw new Error(
        `${this.constructor.name}: no element "${name}"; there are ${[...this.#items.keys()].join(", ")}`,
      );
    return found as T[K];
  }

  /** Whether there is an element of this name. */
  has(name: string): boolean {
    return this.#items.has(name);
  }

  /** Adds an element, or replaces the one of this name. */
  set<K extends keyof T & string>(name: K, value: T[K]): this {
    this.#items.set(name, value);
    return this;
  }

  /** The names, in order. */
  keys(): (keyof T & string)[] {
    return [...this.#items.keys()];
  }

  /** The elements, in order. */
  values(): T[keyof T][] {
    return [...this.#items.values()] as T[keyof T][];
  }

  /** Names and elements, in order. */
  entries(): [keyof T & string, T[keyof T]][] {
    return [...this.#items] as [keyof T & string, T[keyof T]][];
  }

  protected override fields(): Iterable<[string, unknown]> {
    return this.#items;
  }

  override replaceChild(name: string, child: Module): void {
    if (!(this.#items.get(name) instanceof Module))
      throw new Error(`replaceChild: ${this.constructor.name} has no child module ${name}`);
    this.#items.set(name, child);
  }
}

/**
 * Modules by name.
 * @example new ModuleDict({ conv: new Conv2d(3, 8, 3), pool: new MaxPool2d(2) }).get("conv").forward(x)
 */
export class ModuleDict<T extends Record<string, Module> = Record<string, Module>> extends Dict<T> {
  constructor(modules: T = {} as T) {
    super(modules);
  }
}

/**
 * Trainable tensors by name.
 * @example new ParameterDict({ scale: parameter(ones(4)) }).get("scale")
 */
export class ParameterDict<T extends Record<string, Tensor> = Record<string, Tensor>> extends Dict<T> {
  constructor(parameters: T = {} as T) {
    super(parameters);
  }
}
