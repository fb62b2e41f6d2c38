import type { RefArray } from "../graph/op.ts";
import { registerOp } from "../graph/op.ts";
import { broadcast, comparison, float, numeric, type Operand } from "../ops/elementwise.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  type Attributes,
  checkedGradients,
  checkGradient,
  checkName,
  checkOperands,
  checkOptions,
  definitionError,
  type Gradients,
  originHere,
  splitArguments,
} from "./definition.ts";

export interface ElementwiseDefinition<A extends Attributes> {
  /** A name that no op has yet: letters, digits, _. Plans, traces and `explain()` show it. */
  name: string;
  /** Number of operands; default 1. They broadcast as in torch, and numbers are allowed. */
  operands?: number;
  /** Operands are cast to float (default; integers become f32), or stay numbers of any kind (booleans become i32). */
  dtype?: "float" | "number";
  /** The result has the operands' dtype (default), or is bool. */
  result?: "same" | "bool";
  /**
   * WGSL expression of the result. `x` are the operands' names. `type` is the WGSL type of the result: scalars ("f32") and
   * vectors ("vec4f") both occur, so constants are written `${type}(0.5)`.
   */
  wgsl: (x: string[], attributes: A, type: string) => string;
  /** WGSL functions that the expression calls, for `type`. Put `type` without <> into their names. */
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
export type ElementwiseOp<A extends Attributes> = (...args: [...Operand[], A] | Operand[]) => Tensor;

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
export function defineElementwise<A extends Attributes = Attributes>(
  definition: ElementwiseDefinition<A>,
): ElementwiseOp<A> {
  const origin = originHere();
  const { name, operands: count = 1, dtype = "float", result = "same", wgsl, js, gradient } = definition;
  checkName(name, origin);
  checkOptions(name, origin, definition, {
    name: "string",
    operands: "undefined number",
    dtype: "undefined string",
    result: "undefined string",
    wgsl: "function",
    helpers: "undefined function",
    js: "function",
    gradient: "undefined function",
    commutative: "undefined boolean",
    cost: "undefined number",
  });
  if (!Number.isInteger(count) || count < 1)
    throw definitionError(name, origin, `operands must be a positive integer, got ${count}`);
  if (!["float", "number"].includes(dtype) || !["same", "bool"].includes(result))
    throw definitionError(name, origin, `dtype is "float" or "number", result "same" or "bool"`);
  if (result === "bool" && gradient) throw definitionError(name, origin, "a boolean result has no gradient");

  const op = registerOp({
    name,
    kind: "elementwise" as const,
    origin,
    helpers: definition.helpers,
    commutative: definition.commutative,
    cost: definition.cost,
    wgsl: (x: string[], attributes: A, type: string) => `(${checkedExpression(wgsl(x, attributes, type))})`,
    reference: (x: RefArray[], attributes: A, node: Pick<RefArray, "shape" | "dtype">) => ({
      data: x[0].data.map((_, i) =>
        Number(
          js(
            x.map((a) => a.data[i]),
            attributes,
          ),
        ),
      ),
      shape: node.shape,
      dtype: node.dtype,
    }),
    vjp:
      gradient &&
      ((g: Tensor, y: Tensor, x: Tensor[], attributes: A) =>
        checkedGradients(name, origin, gradient(g, y, x, attributes), x)),
  });
  const rule = result === "bool" ? comparison : dtype === "float" ? float : numeric;
  return (...args) => {
    const { operands, attributes } = splitArguments<A>(args);
    checkOperands(name, origin, operands, count, true);
    if (!gradient && result === "same") checkGradient(name, origin, operands);
    return broadcast(op, rule, operands as Operand[], attributes);
  };

  function checkedExpression(text: unknown): string {
    if (typeof text === "string" && text.trim() !== "") return text;
    throw definitionError(name, origin, `wgsl must return an expression, got ${JSON.stringify(text)}`);
  }
}
