// Whether ops record the graph of gradients: the state behind `noGrad`.

/** A value per asynchronous flow: every `await` in `fn`, and all that it calls, sees the value of its own `run`. */
interface Flows {
  run<T>(value: boolean, fn: () => T): T;
  get(): boolean | undefined;
}

/**
 * The flows of the runtime: `AsyncLocalStorage` (Node, Deno, Bun). Browsers have none yet. Looked up on the first call of
 * `noGrad`, because a runtime that tracks flows makes promises slower.
 */
function findFlows(): Flows | undefined {
  type Storage = { run<T>(value: boolean, fn: () => T): T; getStore(): boolean | undefined };
  const scope = globalThis as {
    process?: { getBuiltinModule?(name: string): { AsyncLocalStorage?: new () => Storage } };
  };
  const name = "node:async_hooks"; // not imported: the runtime has it, or it is not there
  try {
    const AsyncLocalStorage = scope.process?.getBuiltinModule?.(name)?.AsyncLocalStorage;
    if (!AsyncLocalStorage) return undefined;
    const storage = new AsyncLocalStorage();
    return { run: (value, fn) => storage.run(value, fn), get: () => storage.getStore() };
  } catch {
    return undefined;
  }
}

/**
 * One state for the whole program, where flows are unknown. The scopes that are open, oldest first: the last one decides. A
 * scope leaves the list by identity, in whatever order they close.
 */
class OpenScopes implements Flows {
  readonly #open: { readonly value: boolean }[] = [];

  run<T>(value: boolean, fn: () => T): T {
    const own = { value };
    this.#open.push(own);
    const close = (): void => void this.#open.splice(this.#open.indexOf(own), 1);
    let result: T;
    try {
      result = fn();
    } catch (error) {
      close();
      throw error;
    }
    if (isPromise(result)) return result.then(...closing<Awaited<T>>(close)) as T;
    close();
    return result;
  }

  get(): boolean | undefined {
    return this.#open.at(-1)?.value;
  }
}

const isPromise = (x: unknown): x is Promise<unknown> =>
  typeof (x as Promise<unknown> | undefined)?.then === "function";

/** Handlers of a promise that pass its result or error on, after calling `close`. */
const closing = <T>(close: () => void): [(value: unknown) => T, (error: unknown) => never] => [
  (value) => {
    close();
    return value as T;
  },
  (error) => {
    close();
    throw error;
  },
];

let flows: Flows | undefined;
/** State of the synchronous code that runs now. It comes before that of the flow. */
let current: boolean | undefined;

/** State outside of all scopes. */
let everywhere = true;

/** Chooses how flows are told apart. For tests: `true` behaves as a browser does. */
export const forgetFlows = (asBrowser = false): void => void (flows = asBrowser ? new OpenScopes() : undefined);

/** Whether ops record the graph of gradients now: false inside `noGrad`. */
export const isGradEnabled = (): boolean => current ?? flows?.get() ?? everywhere;

/** Runs `fn`, which is synchronous, with recording of gradients on or off. */
export function withRecording<T>(on: boolean, fn: () => T): T {
  const before = current;
  current = on;
  try {
    return fn();
  } finally {
    current = before;
  }
}

/** As `withRecording`, for functions that may be async: the state holds until their promise settles. */
function withFlow<T>(on: boolean, fn: () => T): T {
  flows ??= findFlows() ?? new OpenScopes();
  const before = current;
  current = undefined;
  try {
    return flows.run(on, fn);
  } finally {
    current = before;
  }
}

/**
 * Runs `fn` (sync or async) without recording gradients, and returns its result: `noGrad(() => model.forward(x))`.
 * An async `fn` is without gradients until its promise settles. In Node, Deno and Bun that holds for the code that `fn` calls
 * and for no other. Browsers cannot tell such code apart: there, other code that runs meanwhile records no gradients either.
 */
export const noGrad = <T>(fn: () => T): T => withFlow(false, fn);

/** Runs `fn` (sync or async) with recording of gradients, inside `noGrad` too. As `noGrad` otherwise. */
export const enableGrad = <T>(fn: () => T): T => withFlow(true, fn);

/**
 * With `fn`: runs it with recording of gradients on or off, as `enableGrad` and `noGrad`. Without: the state of all code outside
 * of these functions.
 */
export function setGradEnabled<T>(on: boolean, fn?: () => T): T | undefined {
  if (fn) return withFlow(on, fn);
  everywhere = on;
  return undefined;
}
