import type { Origin, RefArray } from "../graph/op.ts";
import { broadcast, comparison, float, numeric, type Operand } from "../ops/elementwise.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Arguments, type Attributes, attributesKey, copiedAttributes, splitArguments } from "./attributes.ts";
import {
  checkCount,
  checkDefinition,
  checkedGradients,
  checkGradient,
  checkOperands,
  definitionError,
  type Gradients,
  guarded,
  originHere,
  registerOwn,
} from "./definition.ts";

export interface ElementwiseDefinition<A extends object> {
  /** A name that no op has yet: letters, digits, _. Plans, traces and `explain()` show it. */
  name: string;
  /** Replaces an earlier definition of this name; calls that were made with that one keep it. For notebook cells. */
  replace?: boolean;
  /** Number of operands; default 1. They broadcast as in torch, and numbers are allowed. */
  operands?: number;
  /** Operands are cast to float (default; integers become f32), or stay numbers of any kind (booleans become i32). */
  dtype?: "float" | "number";
  /** The result has the operands' dtype (default), or is bool. */
  result?: "same" | "bool";
  /**
   * WGSL expression of the result. `x` are the operands' names. `type` is the WGSL type of the operands: scalars ("f32") and
   * vectors ("vec4f") both occur, so constants are written `${type}(0.5)`. WGSL has no infinite constants: a number that may
   * be infinite is an operand, not an attribute.
   */
  wgsl: (x: string[], attributes: A, type: string) => string;
  /** WGSL functions and constants that the expression uses, for `type`. Their names may be those of other ops' helpers. */
  helpers?: (type: string) => string;
  /** The definition in f64: the oracle of tests, and the reference backend. */
  js: (x: number[], attributes: A) => number;
  /**
   * Gradients of the operands from the gradient `g` of the result `y`, in tensor ops. Absent: the op has none, and a call
   * that needs one is an error.
   */
  gradient?: (g: Tensor, y: Tensor, x: Tensor[], attributes: A) => Gradients;
  /** f(a, b) = f(b, a): more graphs share one kernel. */
  commutative?: boolean;
  /** Rough cost in flops; default 1. From 8 on the compiler stores the value rather than compute it several times. */
  cost?: number;
}

/** A defined elementwise op: operands, then its attributes if it has some. */
export type ElementwiseOp<A extends object> = (...args: Arguments<Operand, A>) => Tensor;

/**
 * Defines an elementwise op. It fuses with its neighbours, can be differentiated again, and runs on every backend.
 *
 * @example
 * const softsign = defineElementwise({
 *   name: "softsign",
 *   wgsl: ([x], _, type) => `${x} / (${type}(1.0) + abs(${x}))`,
 *   js: ([x]) => x / (1 + Math.abs(x)),
 *   gradient: (g, _y, [x]) => g.div(x.abs().add(1).square()),
 * });
 * await softsign(tensor([-1, 0, 3])).data(); // [-0.5, 0, 0.75]
 * @throws if the name is taken, or an option is unknown or of another type.
 */
export function defineElementwise<A extends object = Attributes>(
  definition: ElementwiseDefinition<A>,
): ElementwiseOp<A> {
  const origin = originHere(defineElementwise);
  const own = checkDefinition("defineElementwise", origin, definition, OPTIONS);
  checkFacts(definition, origin);
  const { name, operands: count = 1, dtype = "float", result = "same", gradient, commutative, cost } = definition;
  const rules = guardedRules(definition, own, origin);
  const op = registerOwn({ name: own, kind: "elementwise" as const, origin, commutative, cost, ...rules });
  const rule = result === "bool" ? comparison : dtype === "float" ? float : numeric;
  return (...args) => {
    const { operands, attributes } = splitArguments<A>(args);
    checkOperands(name, origin, operands, count, true);
    if (!gradient && result === "same") checkGradient(name, origin, operands);
    return broadcast(op, rule, operands as Operand[], copiedAttributes(name, origin, attributes));
  };
}

const OPTIONS = {
  operands: "undefined number",
  dtype: "undefined string",
  result: "undefined string",
  wgsl: "function",
  helpers: "undefined function",
  js: "function",
  gradient: "undefined function",
  commutative: "undefined boolean",
  cost: "undefined number",
};

/** Throws if options have values that they cannot have, alone or together. */
function checkFacts<A extends object>(definition: ElementwiseDefinition<A>, origin: Origin): void {
  const { name, operands = 1, dtype = "float", result = "same", gradient, commutative, cost = 1 } = definition;
  checkCount(name, origin, "operands", operands);
  if (!["float", "number"].includes(dtype) || !["same", "bool"].includes(result))
    throw definitionError(name, origin, `dtype is "float" or "number", result "same" or "bool"`);
  if (result === "bool" && gradient) throw definitionError(name, origin, "a boolean result has no gradient");
  if (commutative && operands !== 2)
    throw definitionError(name, origin, `an op of ${operands} operands cannot be commutative, only one of two`);
  if (!(Number.isFinite(cost) && cost >= 0))
    throw definitionError(name, origin, `cost must be a number from 0 on, got ${cost}`);
}

/** The user's rules as the compiler calls them; `own` is the registered name. */
function guardedRules<A extends object>(definition: ElementwiseDefinition<A>, own: string, origin: Origin) {
  const { name, result, gradient } = definition;
  const wgsl = guarded(name, origin, "wgsl", definition.wgsl);
  const js = guarded(name, origin, "js", definition.js);
  const helpers = definition.helpers && guarded(name, origin, "helpers", definition.helpers);
  const vjp = gradient && guarded(name, origin, "gradient", gradient);
  const checkText = (text: unknown, what: string): string => {
    if (typeof text === "string" && text.trim() !== "") return text;
    throw definitionError(name, origin, `${what} as a string expected, got ${JSON.stringify(text)}`);
  };
  /** Renames the helpers of `type`, so that those of two ops, or of two types, do not meet in one shader. */
  const renamed = (text: string, type: string): string =>
    helpers ? rename(text, declaredIn(checkText(helpers(type), "helpers: WGSL")), `${own}_${type}`) : text;
  return {
    operandTyped: result === "bool",
    keyOf: attributesKey,
    helpers: helpers && ((type: string) => renamed(helpers(type), type)),
    wgsl(x: string[], attributes: A, type: string): string {
      const text = checkText(wgsl(x, attributes, type), "wgsl: an expression");
      if (/;\s*$|^\s*return\b/.test(text))
        throw definitionError(name, origin, `wgsl must return an expression, not a statement: ${text.trim()}`);
      return `(${renamed(text, type)}\n)`; // the expression may end with a comment
    },
    reference: (x: RefArray[], attributes: A, node: Pick<RefArray, "shape" | "dtype">) => ({
      data: x[0].data.map((_, i) => Number(js(valuesAt(x, i), attributes))),
      shape: node.shape,
      dtype: node.dtype,
    }),
    vjp:
      vjp &&
      ((g: Tensor, y: Tensor, x: Tensor[], attributes: A) =>
        checkedGradients(name, origin, vjp(g, y, x, attributes), x)),
  };
}

const valuesAt = (x: readonly RefArray[], i: number): number[] => x.map(({ data }) => data[i]);

/** The names that WGSL declares at module scope. */
function declaredIn(wgsl: string): Set<string> {
  let text = wgsl.replace(/\/\/.*/g, "").replace(/\/\*[\s\S]*?\*\//g, "");
  for (let before = ""; before !== text; ) {
    before = text;
    text = text.replace(/\{[^{}]*\}/g, ";"); // bodies, from the inside out
  }
  return new Set([...text.matchAll(/\b(?:fn|struct|alias|const|var(?:<[^>]*>)?)\s+(\w+)/g)].map((m) => m[1]));
}

/** `text` with `suffix` after each of `names`, where it is a word of its own and no member. */
const rename = (text: string, names: ReadonlySet<string>, suffix: string): string =>
  text.replace(/(?<![.\w])[A-Za-z_]\w*/g, (word) =>
    names.has(word) ? `${word}_${suffix.replace(/\W/g, "_").replace(/_+$/, "")}` : word,
  );
