import { numel, sameShape, show } from "../graph/shape.ts";
import { full } from "../ops/constant.ts";
import { stack } from "../ops/movement.ts";
import { grad } from "./autograd.ts";
import type { Tensor } from "./tensor.ts";

// Derivatives of functions of tensors, as torch.autograd.functional has them.

type One = (x: Tensor) => Tensor;
type Many = (...x: Tensor[]) => Tensor;

export interface DerivativeOptions {
  /** The results can be differentiated again, also with respect to the inputs. Default false: the inputs are detached. */
  createGraph?: boolean;
}

/** The inputs as tensors of their own that require grad, so that nothing outside `fn` receives gradients. */
function trained(op: string, inputs: readonly Tensor[], { createGraph = false, ...rest }: DerivativeOptions): Tensor[] {
  for (const name of Object.keys(rest)) throw new TypeError(`${op}: unknown option ${name}: expected createGraph`);
  return inputs.map((x) => (createGraph && x.requiresGrad ? x.clone() : x.detach().requiresGrad_()));
}

const zerosOf = (x: Tensor): Tensor => full(x.shape, 0, x.dtype);

/** Gradients of y with respect to x: zeros where y does not depend on one. */
function gradients(y: Tensor, x: readonly Tensor[], gradOutput: Tensor | undefined, createGraph: boolean): Tensor[] {
  if (!y.requiresGrad) return x.map(zerosOf);
  return grad(y, x, { gradOutput, createGraph, allowUnused: true }).map((g, i) => g ?? zerosOf(x[i]));
}

function sameShapes(op: string, what: string, x: readonly Tensor[], v: readonly Tensor[]): void {
  if (x.length !== v.length || x.some((t, i) => !sameShape(t.shape, v[i].shape)))
    throw new Error(
      `${op}: ${what} ${v.map((t) => show(t.shape)).join(", ")} must have the shapes ${x.map((t) => show(t.shape)).join(", ")}`,
    );
}

/**
 * Vector-Jacobian product: the output of `fn(...inputs)`, and the gradients of sum(v * output) for each input.
 * @param v in the shape of the output; may be absent for an output of one element (then it is 1)
 * @example const { output, gradients } = vjp((x) => x.square().sum(), [x])
 */
export function vjp(
  fn: Many,
  inputs: readonly Tensor[],
  v?: Tensor,
  options: DerivativeOptions = {},
): { output: Tensor; gradients: Tensor[] } {
  const x = trained("vjp", inputs, options);
  const output = fn(...x);
  if (v) sameShapes("vjp", "v", [output], [v]);
  else if (output.numel !== 1)
    throw new Error(`vjp: the output ${show(output.shape)} has more than one element: pass v in its shape`);
  const found = gradients(output, x, v, options.createGraph ?? false);
  return { output: options.createGraph ? output : output.detach(), gradients: found };
}

/**
 * Jacobian-vector product: the output of `fn(...inputs)`, and its derivative along `tangents`, one per input, in the shapes of
 * the inputs. Two reverse passes: the gradient is linear in its seed, and the derivative for the seed is the product.
 */
export function jvp(
  fn: Many,
  inputs: readonly Tensor[],
  tangents: readonly Tensor[],
  options: DerivativeOptions = {},
): { output: Tensor; tangent: Tensor } {
  sameShapes("jvp", "tangents", inputs, tangents);
  const x = trained("jvp", inputs, options);
  const output = fn(...x);
  const seed = zerosOf(output).requiresGrad_();
  const products = gradients(output, x, seed, true).flatMap((g, i) =>
    g.requiresGrad ? [g.mul(tangents[i]).sum()] : [],
  );
  const total = products.length > 0 ? products.reduce((a, b) => a.add(b)) : undefined;
  const [tangent] = total ? gradients(total, [seed], undefined, options.createGraph ?? false) : [zerosOf(output)];
  return { output: options.createGraph ? output : output.detach(), tangent };
}

/**
 * Jacobian of `fn` at the inputs, of shape [...output, ...input]; a list of inputs gives a list. One reverse pass per element of
 * the output.
 * @example const j = jacobian((x) => x.softmax(-1), x) // [3] -> [3, 3]
 */
export function jacobian(fn: One, input: Tensor, options?: DerivativeOptions): Tensor;
export function jacobian(fn: Many, inputs: readonly Tensor[], options?: DerivativeOptions): Tensor[];
export function jacobian(
  fn: Many,
  inputs: Tensor | readonly Tensor[],
  options: DerivativeOptions = {},
): Tensor | Tensor[] {
  const list = isList(inputs) ? inputs : [inputs];
  const x = trained("jacobian", list, options);
  const found = rows(fn(...x), x, options.createGraph ?? false);
  return isList(inputs) ? found : found[0];
}

/** d y / d x of shape [...y, ...x], for every x. */
function rows(y: Tensor, x: readonly Tensor[], createGraph: boolean): Tensor[] {
  const flat = y.reshape([-1]);
  const slopes = Array.from({ length: numel(y.shape) }, (_, i) =>
    gradients(flat.select(0, i), x, undefined, createGraph),
  );
  return x.map((t, k) =>
    slopes.length === 0
      ? full([...y.shape, ...t.shape], 0, t.dtype)
      : stack(slopes.map((s) => s[k])).reshape([...y.shape, ...t.shape]),
  );
}

/**
 * Hessian of a function of one element, of shape [...input, ...input]; a list of inputs gives a square of them.
 * @example const h = hessian((x) => x.pow(3).sum(), x)
 */
export function hessian(fn: One, input: Tensor, options?: DerivativeOptions): Tensor;
export function hessian(fn: Many, inputs: readonly Tensor[], options?: DerivativeOptions): Tensor[][];
export function hessian(
  fn: Many,
  inputs: Tensor | readonly Tensor[],
  options: DerivativeOptions = {},
): Tensor | Tensor[][] {
  const list = isList(inputs) ? inputs : [inputs];
  const x = trained("hessian", list, options);
  const slopes = gradients(scalarOf("hessian", fn(...x)), x, undefined, true);
  const found = slopes.map((slope) => rows(slope, x, options.createGraph ?? false));
  return isList(inputs) ? found : found[0][0];
}

/** Hessian-vector product: the Hessian of a function of one element times `v`, one per input. */
export function hvp(
  fn: Many,
  inputs: readonly Tensor[],
  v: readonly Tensor[],
  options: DerivativeOptions = {},
): { output: Tensor; products: Tensor[] } {
  sameShapes("hvp", "v", inputs, v);
  const x = trained("hvp", inputs, options);
  const output = scalarOf("hvp", fn(...x));
  const slope = gradients(output, x, undefined, true)
    .map((g, i) => g.mul(v[i]).sum())
    .reduce((a, b) => a.add(b));
  const products = gradients(slope, x, undefined, options.createGraph ?? false);
  return { output: options.createGraph ? output : output.detach(), products };
}

const isList = (x: Tensor | readonly Tensor[]): x is readonly Tensor[] => Array.isArray(x);

function scalarOf(op: string, y: Tensor): Tensor {
  if (y.numel !== 1) throw new Error(`${op}: the function must give one element, got ${show(y.shape)}`);
  return y;
}
