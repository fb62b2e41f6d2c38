import type { DType } from "../graph/dtype.ts";
import type { Origin } from "../graph/op.ts";
import { allOps } from "../graph/op.ts";
import { type Shape, sameShape, show } from "../graph/shape.ts";
import { addLowering } from "../lowering/index.ts";
import { apply, applyMany, Tensor } from "../tensor/tensor.ts";
import { type Arguments, type Attributes, attributesKey, copiedAttributes, splitArguments } from "./attributes.ts";
import {
  checkCount,
  checkDefinition,
  checkedGradients,
  checkOperands,
  checkOptions,
  definitionError,
  functionOps,
  type Gradients,
  guarded,
  kindOf,
  opOf,
  originHere,
  outputProblem,
  registerOwn,
} from "./definition.ts";
import { lowerBy, type PlanDispatches } from "./dispatch.ts";
import { addFiles, type Wgsl } from "./wgsl-file.ts";

export interface KernelDefinition<A extends object, Y extends Tensor | Tensor[]> {
  /** A name that no op has yet: letters, digits, _. */
  name: string;
  /** Replaces an earlier definition of this name; calls that were made with that one keep it. For notebook cells. */
  replace?: boolean;
  /** The text of a WGSL file, or several by name. */
  wgsl: Wgsl;
  /** Number of tensor inputs; default 1. f16 inputs reach the kernel as f32. */
  inputs?: number;
  /** Inputs that may be strided views, whose offset and strides `dispatch` then reads. Others are contiguous. */
  strided?: readonly number[];
  /** Shape and dtype of the result, or of several. Default: those of the first input. */
  output?: (
    x: readonly { readonly shape: Shape; readonly dtype: DType }[],
    attributes: A,
  ) => OutputShape | readonly OutputShape[];
  /** The kernels of a call. Undefined: this call runs as its fallback. */
  dispatch: PlanDispatches<A>;
  /** The same value in tensor ops: the definition. Oracle, reference backend, and gradient unless `gradient` is given. */
  fallback: (x: Tensor[], attributes: A) => Y;
  /** Gradients of the inputs, in tensor ops. Default: those of `fallback`. */
  gradient?: (g: Y, y: Y, x: Tensor[], attributes: A) => Gradients;
}

interface OutputShape {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** A defined kernel op: tensors, then its attributes if it has some. */
export type KernelOp<A extends object, Y> = (...args: Arguments<Tensor, A>) => Y;

/**
 * Defines an op by a WGSL file of your own. Elementwise work before and after it is fused into its hooks; plans, tuning,
 * tracing and the f64 oracle treat it as a built-in op. See docs/custom.md for a kernel with its parts explained.
 * @throws if the name is taken, an option is wrong, or the file lacks bindings in order, a `main`, or hooks in a known form.
 */
export function defineKernel<A extends object = Attributes, Y extends Tensor | Tensor[] = Tensor>(
  definition: KernelDefinition<A, Y>,
): KernelOp<A, Y> {
  const origin = originHere(defineKernel);
  const own = checkDefinition("defineKernel", origin, definition, KERNEL_OPTIONS);
  const { name, inputs = 1, strided = [], dispatch } = definition;
  checkCount(name, origin, "inputs", inputs);
  if (!strided.every((i) => Number.isInteger(i) && i >= 0 && i < inputs))
    throw definitionError(name, origin, `strided must list inputs from 0 to ${inputs - 1}, got ${show(strided)}`);
  const files = addFiles(own, name, definition.wgsl, origin);
  const outputsOf = outputRule(definition, origin);
  const gradient = definition.gradient && guarded(name, origin, "gradient", definition.gradient);
  const op = registerOwn({
    name: own,
    kind: "kernel" as const,
    origin,
    strided,
    keyOf: attributesKey,
    fallback: checkedFallback(definition, outputsOf, origin),
    vjp:
      gradient &&
      ((g: Y, y: Y, x: Tensor[], attributes: A) => checkedGradients(name, origin, gradient(g, y, x, attributes), x)),
  });
  addLowering(own, lowerBy(name, own, files, dispatch, origin));
  return (...args) => {
    const { operands, attributes } = splitArguments<A>(args);
    checkOperands(name, origin, operands, inputs, false);
    const [x, copied] = [operands as Tensor[], copiedAttributes(name, origin, attributes)];
    const { single, specs } = outputsOf(x, copied);
    return (single ? apply(op, x, copied, specs[0].shape, specs[0].dtype) : applyMany(op, x, copied, specs)) as Y;
  };
}

const KERNEL_OPTIONS = {
  wgsl: "string object",
  inputs: "undefined number",
  strided: "undefined array",
  output: "undefined function",
  dispatch: "function",
  fallback: "function",
  gradient: "undefined function",
};

type OutputRule<A> = (x: readonly OutputShape[], attributes: A) => { single: boolean; specs: readonly OutputShape[] };

/** The rule for the outputs of a call: `output`, checked. */
function outputRule<A extends object, Y extends Tensor | Tensor[]>(
  { name, output }: KernelDefinition<A, Y>,
  origin: Origin,
): OutputRule<A> {
  const given = output && guarded(name, origin, "output", output);
  return (x, attributes) => {
    const specs = given ? given(x, attributes) : x[0];
    const list = (Array.isArray(specs) ? specs : [specs]) as readonly OutputShape[];
    if (list.length === 0)
      throw definitionError(name, origin, "output must give at least one output, got an empty list");
    for (const spec of list) {
      const problem = outputProblem(spec);
      if (problem) throw definitionError(name, origin, `output must give { shape, dtype }, or a list: ${problem}`);
    }
    return { single: !Array.isArray(specs), specs: list.map(({ shape, dtype }) => ({ shape: [...shape], dtype })) };
  };
}

/** `fallback`, which throws unless its results have the shapes and dtypes of the outputs. */
function checkedFallback<A extends object, Y extends Tensor | Tensor[]>(
  { name, fallback }: KernelDefinition<A, Y>,
  outputsOf: OutputRule<A>,
  origin: Origin,
): (x: Tensor[], attributes: A) => Tensor | Tensor[] {
  const given = guarded(name, origin, "fallback", fallback);
  const describe = (list: readonly OutputShape[]): string => list.map((t) => `${t.dtype}${show(t.shape)}`).join(", ");
  return (x, attributes) => {
    const value: Tensor | Tensor[] = given(x, attributes);
    const list = Array.isArray(value) ? value : [value];
    const stranger = list.find((t) => !(t instanceof Tensor));
    if (list.length === 0 || stranger !== undefined || value === undefined)
      throw definitionError(name, origin, `fallback must return a tensor, or a list of tensors, got ${kindOf(value)}`);
    const { single, specs } = outputsOf(x, attributes);
    const equal = (t: Tensor, i: number): boolean => sameShape(t.shape, specs[i].shape) && t.dtype === specs[i].dtype;
    if (single === Array.isArray(value) || list.length !== specs.length || !list.every(equal))
      throw definitionError(
        name,
        origin,
        `fallback returns ${Array.isArray(value) ? "a list: " : ""}${describe(list)}; the op's output is ${single ? "" : "a list: "}${describe(specs)}`,
      );
    return value;
  };
}

export interface LoweringDefinition<A extends object> {
  /** The op to compute by other kernels, such as "softmax". */
  op: string;
  /** Takes away what earlier calls added for this op. For notebook cells. */
  replace?: boolean;
  /** The text of a WGSL file, or several by name. */
  wgsl: Wgsl;
  /** The kernels of a call. Undefined: the call runs as it did before. */
  dispatch: PlanDispatches<A>;
}

/**
 * Computes an existing op by kernels of your own, where `dispatch` returns some. Everything else about the op stays: shapes,
 * gradient, reference. The latest definition is asked first. Returns a function that takes this lowering away again.
 * @throws if there is no op of this name, or it is no kernel op (elementwise ops, views and reductions are generated).
 */
export function defineLowering<A extends object = Attributes>(definition: LoweringDefinition<A>): () => void {
  const origin = originHere(defineLowering);
  if (kindOf(definition) !== "object")
    throw definitionError("defineLowering", origin, `an object of options expected, got ${kindOf(definition)}`);
  const { op: name, wgsl, dispatch, replace } = definition;
  checkOptions(`lowering of ${name}`, origin, definition, {
    op: "string",
    replace: "undefined boolean",
    wgsl: "string object",
    dispatch: "function",
  });
  const op = opOf(name);
  if (op?.kind !== "kernel" || functionOps.has(op)) {
    const lowered = [...allOps().values()].filter((o) => o.kind === "kernel" && !functionOps.has(o));
    const kernels = lowered.map((o) => o.name.split("@")[0]);
    const reason = !op
      ? "there is no such op, or its entry point is not imported"
      : functionOps.has(op)
        ? "a function of defineFunction has no kernel of its own: lower the ops inside it"
        : "the op is generated, not lowered";
    throw definitionError(
      `lowering of ${name}`,
      origin,
      `${reason}; ops with kernels: ${[...new Set(kernels)].sort().join(", ")}`,
    );
  }
  const own = `${op.name}~${++lowerings}`;
  const files = addFiles(own, `lowering of ${name}`, wgsl, origin);
  if (replace) for (const remove of removers.get(op.name) ?? []) remove();
  const remove = addLowering(op.name, lowerBy(`lowering of ${name}`, own, files, dispatch, origin));
  removers.set(op.name, [...(replace ? [] : (removers.get(op.name) ?? [])), remove]);
  return remove;
}

let lowerings = 0;
/** Functions that take user's lowerings away, by op. */
const removers = new Map<string, (() => void)[]>();
