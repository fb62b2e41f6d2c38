import { untracked } from "../graph/build.ts";
import { withRecording } from "../graph/recording.ts";
import { apply, applyMany, Tensor } from "../tensor/tensor.ts";
import { type Arguments, type Attributes, splitArguments } from "./attributes.ts";
import {
  checkCount,
  checkDefinition,
  checkedGradients,
  checkOperands,
  definitionError,
  functionOps,
  type Gradients,
  guarded,
  kindOf,
  originHere,
  registerOwn,
} from "./definition.ts";

export interface FunctionDefinition<A extends object, Y extends Tensor | Tensor[]> {
  /** A name that no op has yet: letters, digits, _. */
  name: string;
  /** Replaces an earlier definition of this name; calls that were made with that one keep it. For notebook cells. */
  replace?: boolean;
  /** Number of tensor inputs; default 1. */
  inputs?: number;
  /** The value, in tensor ops; gradients are not recorded inside. One tensor, or several. */
  forward: (x: Tensor[], attributes: A) => Y;
  /** Gradients of the inputs from those of the outputs (`g`, `y`: one tensor or several, as `forward` returns). */
  gradient: (g: Y, y: Y, x: Tensor[], attributes: A) => Gradients;
}

/** A defined function: tensors, then its attributes if it has some. */
export type DifferentiableFunction<A extends object, Y> = (...args: Arguments<Tensor, A>) => Y;

/**
 * Defines a function of tensor ops with a gradient of its own, as torch.autograd.Function.
 *
 * @example
 * // Rounds, and passes the gradient straight through.
 * const roundThrough = defineFunction({
 *   name: "round_through",
 *   forward: ([x]) => x.round(),
 *   gradient: (g) => g,
 * });
 * @throws if the name is taken, or an option is missing, unknown or of another type.
 */
export function defineFunction<A extends object = Attributes, Y extends Tensor | Tensor[] = Tensor>(
  definition: FunctionDefinition<A, Y>,
): DifferentiableFunction<A, Y> {
  const origin = originHere(defineFunction);
  const own = checkDefinition("defineFunction", origin, definition, {
    inputs: "undefined number",
    forward: "function",
    gradient: "function",
  });
  const { name, inputs = 1 } = definition;
  checkCount(name, origin, "inputs", inputs);
  const forward = guarded(name, origin, "forward", definition.forward);
  const gradient = guarded(name, origin, "gradient", definition.gradient);
  // The outputs of `forward` are sources too, so that it may use values of the host, which a fallback cannot.
  const op = registerOwn({
    name: own,
    kind: "kernel" as const,
    origin,
    keyOf: () => "",
    fallback: (sources: Tensor[], { outputs }: Call<A>) => (outputs === 0 ? sources[0] : sources.slice(0, outputs)),
    vjp: (g: Y, y: Y, sources: Tensor[], { outputs, attributes }: Call<A>) => {
      const count = Math.max(outputs, 1);
      const x = sources.slice(count);
      const given = gradient(filled(g, y), y, x, attributes);
      return [...new Array<null>(count).fill(null), ...checkedGradients(name, origin, given, x)];
    },
  });
  functionOps.add(op);
  return (...args) => {
    const { operands, attributes } = splitArguments<A>(args);
    checkOperands(name, origin, operands, inputs, false);
    const x = operands as Tensor[];
    const value = untracked(() => withRecording(false, () => forward(x, attributes)));
    const list = (Array.isArray(value) ? value : [value]) as Tensor[];
    if (list.length === 0 || !list.every((t) => t instanceof Tensor))
      throw definitionError(name, origin, `forward must return a tensor, or a list of tensors, got ${kindOf(value)}`);
    const call: Call<A> = { outputs: Array.isArray(value) ? list.length : 0, attributes };
    const specs = list.map(({ shape, dtype }) => ({ shape, dtype }));
    const sources = [...list, ...x];
    return (
      Array.isArray(value)
        ? applyMany(op, sources, call, specs)
        : apply(op, sources, call, specs[0].shape, specs[0].dtype)
    ) as Y;
  };
}

/** Attributes of one call. `outputs` is 0 for a single tensor that is not in a list. */
interface Call<A> extends Record<string, unknown> {
  readonly outputs: number;
  readonly attributes: A;
}

/** Gradients of several outputs with zeros for outputs that nothing uses. */
function filled<Y extends Tensor | Tensor[]>(g: Y, y: Y): Y {
  if (!Array.isArray(y)) return g;
  return (g as (Tensor | null)[]).map((t, i) => t ?? (y as Tensor[])[i].detach().mul(0)) as Y;
}
