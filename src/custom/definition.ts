import { type DType, isFloat } from "../graph/dtype.ts";
import { callSite } from "../graph/node.ts";
import { allOps, type Op, type Origin, registerOp } from "../graph/op.ts";
import { isGradEnabled } from "../graph/recording.ts";
import { sameShape, show } from "../graph/shape.ts";
import { cast } from "../ops/elementwise.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Gradients of the inputs: one per input, null where there is none. One tensor serves an op of one input. */
export type Gradients = Tensor | null | readonly (Tensor | null)[];

/** The user's line that calls `definer`. */
export function originHere(definer: (definition: never) => unknown, wgsl?: string): Origin {
  const at: { stack?: string } = {};
  // The line after `definer` in the stack: file names do not tell the user's code from the library's in one bundle.
  (Error as { captureStackTrace?: (at: object, after: unknown) => void }).captureStackTrace?.(at, definer);
  return { place: at.stack?.split("\n")[1]?.trim() ?? callSite() ?? "outside of any file", wgsl };
}

/** An error about a definition: names the op and the user's line. */
export const definitionError = (name: string, { place }: Origin, problem: string, cause?: unknown): Error =>
  new Error(`${name}: ${problem}\n    defined ${place}`, { cause });

/** `rule`, a function that the user gave. An error in it names the op and its definition; a promise is an error. */
export function guarded<X extends unknown[], Y>(
  name: string,
  origin: Origin,
  part: string,
  rule: (...x: X) => Y,
): (...x: X) => Y {
  return (...x) => {
    let value: Y;
    try {
      value = rule(...x);
    } catch (error) {
      if (error instanceof Error && error.message.endsWith(`defined ${origin.place}`)) throw error; // says all already
      throw definitionError(name, origin, `${part} threw: ${(error as Error)?.message ?? error}`, error);
    }
    if (value instanceof Promise) throw definitionError(name, origin, `${part} must not be async`);
    return value;
  };
}

/** Ops of `defineFunction`: tensor ops compute them, so they have no kernels of their own. */
export const functionOps = new WeakSet<Op>();

/** Names of the latest definitions, by the names that users gave. They differ for an op that was replaced. */
const latest = new Map<string, string>();

/** The op of a name: its latest definition. */
export const opOf = (name: string): Op | undefined => allOps().get(latest.get(name) ?? name);

/**
 * Checks the name and the options of a definition. Returns the name to register: a replacement gets a new one, because the
 * name is part of the key of plans, and pending values of the earlier definition stay its own.
 */
export function checkDefinition(
  what: string,
  origin: Origin,
  definition: { readonly name: string; readonly replace?: boolean },
  expected: Readonly<Record<string, string>>,
): string {
  if (typeof definition !== "object" || definition === null)
    throw definitionError(what, origin, `an object of options expected, got ${kindOf(definition)}`);
  const { name, replace = false } = definition;
  if (typeof name !== "string" || !/^[a-z_]\w*$/i.test(name))
    throw definitionError(
      what,
      origin,
      `a name has letters, digits and _ only, and begins with a letter or _; got ${JSON.stringify(name)}`,
    );
  const known = opOf(name);
  if (known && !known.origin)
    throw definitionError(name, origin, "there is an op of this name in the library; choose another");
  if (known && !replace)
    throw definitionError(
      name,
      origin,
      `there is an op of this name already, defined ${known.origin!.place}; choose another, or give \`replace: true\` to define it anew (in a notebook cell, say)`,
    );
  checkOptions(name, origin, definition, { name: "string", replace: "undefined boolean", ...expected });
  return known ? `${name}@${Number(known.name.split("@")[1] ?? 1) + 1}` : name;
}

/** Makes a user's op known, under the name that `checkDefinition` gave. */
export function registerOwn<O extends Op>(op: O): O {
  registerOp(op);
  latest.set(op.name.split("@")[0], op.name);
  return op;
}

/** Throws if an option is missing, of another type, or unknown. */
export function checkOptions(
  name: string,
  origin: Origin,
  options: object,
  expected: Readonly<Record<string, string>>,
): void {
  for (const key of Object.keys(options))
    if (!(key in expected))
      throw definitionError(name, origin, `unknown option ${key}; options: ${Object.keys(expected).join(", ")}`);
  for (const [key, types] of Object.entries(expected)) {
    const kind = kindOf((options as Record<string, unknown>)[key]);
    if (!types.split(" ").includes(kind))
      throw definitionError(name, origin, `${key} must be ${types.split(" ").join(" or ")}, got ${kind}`);
  }
}

/** `typeof`, which tells lists, null, promises and other classes from plain objects. */
export function kindOf(value: unknown): string {
  if (typeof value !== "object") return typeof value;
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return isPlain(value) ? "object" : (value.constructor?.name ?? "object");
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

/** Throws unless `value` is a positive integer. */
export function checkCount(name: string, origin: Origin, option: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw definitionError(name, origin, `${option} must be a positive integer, got ${value}`);
}

/** Throws if an input needs a gradient that the op does not have. */
export function checkGradient(name: string, origin: Origin, x: readonly unknown[]): void {
  const needing = isGradEnabled() ? x.findIndex((t) => t instanceof Tensor && t.requiresGrad) : -1;
  if (needing >= 0)
    throw definitionError(
      name,
      origin,
      `input ${needing} requires a gradient, and the op has none: give it \`gradient\`, or call it within noGrad or on x.detach()`,
    );
}

/** The gradients that a user's rule returned, one per input, in its dtype; throws if number, shapes or dtypes are wrong. */
export function checkedGradients(
  name: string,
  origin: Origin,
  given: Gradients,
  x: readonly Tensor[],
): (Tensor | null)[] {
  const list: unknown = given === null || given instanceof Tensor ? [given] : given;
  if (!Array.isArray(list) || list.length !== x.length)
    throw definitionError(
      name,
      origin,
      `gradient must return ${x.length} gradient${x.length === 1 ? "" : "s"}, one per input (null = none), got ${Array.isArray(list) ? list.length : kindOf(given)}`,
    );
  return list.map((g: unknown, i) => {
    if (g === null || g === undefined) return null;
    const problem = !(g instanceof Tensor)
      ? `must be a tensor or null, got ${kindOf(g)}`
      : !sameShape(g.shape, x[i].shape)
        ? `must have its shape ${show(x[i].shape)}, got ${show(g.shape)}`
        : !isFloat(g.dtype)
          ? `must be a float tensor, got ${g.dtype}`
          : undefined;
    if (problem) throw definitionError(name, origin, `the gradient of input ${i} ${problem}`);
    return isFloat(x[i].dtype) ? cast(g as Tensor, x[i].dtype) : null;
  });
}

/** Throws unless each operand is a tensor (or, if `numbers`, a number, but not all of them) and there are `count` of them. */
export function checkOperands(
  name: string,
  origin: Origin,
  operands: readonly unknown[],
  count: number,
  numbers: boolean,
): void {
  if (operands.length !== count)
    throw definitionError(name, origin, `${count} input${count === 1 ? "" : "s"} expected, got ${operands.length}`);
  operands.forEach((x, i) => {
    if (!(x instanceof Tensor) && !(numbers && typeof x === "number"))
      throw definitionError(
        name,
        origin,
        `input ${i} must be a tensor${numbers ? " or a number" : ""}, got ${kindOf(x)}`,
      );
  });
  if (operands.every((x) => typeof x === "number"))
    throw definitionError(name, origin, "all inputs are numbers; at least one must be a tensor");
}

const DTYPES: readonly DType[] = ["f32", "f16", "i32", "u32", "bool"];

/** What is wrong with the shape and dtype that a user gave for an output; undefined if nothing is. */
export function outputProblem(spec: unknown): string | undefined {
  const { shape, dtype } = (spec ?? {}) as { shape?: unknown; dtype?: unknown };
  if (!Array.isArray(shape) || !shape.every((n) => Number.isInteger(n) && n > 0))
    return `shape must be a list of positive integers, got ${Array.isArray(shape) ? show(shape) : kindOf(shape)}`;
  return DTYPES.includes(dtype as DType) ? undefined : `dtype must be one of ${DTYPES.join(", ")}, got ${dtype}`;
}
