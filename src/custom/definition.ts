import { isGradEnabled } from "../graph/build.ts";
import type { Attrs } from "../graph/node.ts";
import { callSite } from "../graph/node.ts";
import { allOps, type Origin } from "../graph/op.ts";
import { sameShape, show } from "../graph/shape.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Numbers, strings, booleans and lists of them that specialise an op. Each combination is compiled apart. */
export type Attributes = Attrs;

/** Gradients of the inputs: one per input, null where there is none. One tensor serves an op of one input. */
export type Gradients = Tensor | null | readonly (Tensor | null)[];

/** The user's line that defines an op. */
export const originHere = (wgsl?: string): Origin => ({ place: callSite() ?? "outside of any file", wgsl });

/** An error about a definition: names the op and the user's line. */
export const definitionError = (name: string, { place }: Origin, problem: string): Error =>
  new Error(`${name}: ${problem}\n    defined ${place}`);

/** Throws unless `name` is a name that no op has. */
export function checkName(name: string, origin: Origin): void {
  if (typeof name !== "string" || !/^[a-z_]\w*$/i.test(name))
    throw definitionError(String(name), origin, "a name has letters, digits and _ only, and begins with a letter");
  const known = allOps().get(name);
  if (!known) return;
  const where = known.origin ? `, defined ${known.origin.place}` : " in the library";
  throw definitionError(name, origin, `there is an op of this name already${where}; choose another`);
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
    const value = (options as Record<string, unknown>)[key];
    const type = Array.isArray(value) ? "array" : typeof value;
    if (!types.split(" ").includes(type))
      throw definitionError(name, origin, `${key} must be ${types.split(" ").join(" or ")}, got ${type}`);
  }
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

/** The gradients that a user's rule returned, one per input; throws if their number or shapes are wrong. */
export function checkedGradients(
  name: string,
  origin: Origin,
  given: Gradients,
  x: readonly Tensor[],
): (Tensor | null)[] {
  const list = (given === null || given instanceof Tensor ? [given] : given) as (Tensor | null)[];
  if (!Array.isArray(list) || list.length !== x.length)
    throw definitionError(
      name,
      origin,
      `gradient must return ${x.length} gradients, one per input (null = none), got ${Array.isArray(list) ? list.length : typeof given}`,
    );
  list.forEach((g, i) => {
    if (g && !sameShape(g.shape, x[i].shape))
      throw definitionError(
        name,
        origin,
        `the gradient of input ${i} must have its shape ${show(x[i].shape)}, got ${show(g.shape)}`,
      );
  });
  return list;
}

/** Splits the arguments of a call into operands and attributes, which come last. */
export function splitArguments<A extends Attributes>(args: readonly unknown[]): { operands: unknown[]; attributes: A } {
  const last = args.at(-1);
  const given = typeof last === "object" && last !== null && !(last instanceof Tensor);
  return { operands: given ? args.slice(0, -1) : [...args], attributes: (given ? last : {}) as A };
}

/** Throws unless each operand is a tensor (or, if `numbers`, a number) and there are `count` of them. */
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
        `input ${i} must be a tensor${numbers ? " or a number" : ""}, got ${x === null ? "null" : typeof x}`,
      );
  });
}
