import { numel } from "../../src/graph/shape.ts";
import { grad, type Shape, type Tensor, tensor } from "../../src/index.ts";
import { evaluate } from "../../src/reference/interpreter.ts";

/** A leaf whose values stay in f64 on the reference interpreter. */
export function leaf(values: ArrayLike<number>, shape: Shape, requiresGrad = true): Tensor {
  const t = tensor(Float32Array.from(values), { shape });
  t.node.host = Float64Array.from(values);
  return requiresGrad ? t.requiresGrad_() : t;
}

/** The values of a tensor, computed in f64 whatever the engine runs on. */
export function valuesOf(t: Tensor): Float64Array {
  evaluate([t.node]);
  return Float64Array.from(t.node.host!);
}

/** Deterministic numbers in [low, high), another sequence for every seed. */
export function uniform(count: number, low = -1, high = 1, seed = 1): number[] {
  let state = (seed * 2654435761) >>> 0 || 1;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return low + ((state >>> 0) / 2 ** 32) * (high - low);
  });
}

/** A leaf of deterministic numbers. */
export const randomLeaf = (shape: Shape, low = -1, high = 1, seed = 1): Tensor =>
  leaf(uniform(numel(shape), low, high, seed), shape);

/** Central differences of the scalar f(x) for every element of every input. */
export function differences(f: (...x: Tensor[]) => Tensor, inputs: readonly Tensor[], step = 1e-5): Float64Array[] {
  const value = (k: number, i: number, change: number): number => {
    const moved = inputs.map((t, j) => {
      const data = Float64Array.from(t.node.host!);
      if (j === k) data[i] += change;
      return leaf(data, t.shape, false);
    });
    return valuesOf(f(...moved))[0];
  };
  return inputs.map((t, k) =>
    Float64Array.from({ length: t.numel }, (_, i) => (value(k, i, step) - value(k, i, -step)) / (2 * step)),
  );
}

/** A weighted sum that gives every element of y its own gradient. */
export const probe = (y: Tensor): Tensor => y.mul(leaf(uniform(y.numel, 0.5, 1.5, 7), y.shape, false)).sum();

/** Largest difference between gradients and central differences, relative to 1 + |difference|. */
export function gradientError(f: (...x: Tensor[]) => Tensor, inputs: readonly Tensor[], step = 1e-5): number {
  const scalar = (...x: Tensor[]): Tensor => probe(f(...x));
  const got = gradients(scalar(...inputs), inputs);
  return worst(got, differences(scalar, inputs, step));
}

/** As `gradientError`, for the gradient of the gradient. */
export function secondOrderError(f: (...x: Tensor[]) => Tensor, inputs: readonly Tensor[], step = 1e-5): number {
  const slope = (...x: Tensor[]): Tensor => {
    const leaves = x.map((t) => (t.requiresGrad ? t : t.requiresGrad_()));
    const grads = grad(probe(f(...leaves)), leaves, { createGraph: true, allowUnused: true });
    return grads
      .filter((g) => g !== null)
      .map((g) => probe(g))
      .reduce((a, b) => a.add(b), leaf([0], [], false));
  };
  const y = slope(...inputs);
  return worst(gradients(y, inputs), differences(slope, inputs, step));
}

/** Gradients of y; zeros where it does not depend on an input, or in a constant way. */
function gradients(y: Tensor, inputs: readonly Tensor[]): Float64Array[] {
  const grads = y.requiresGrad ? grad(y, inputs, { allowUnused: true }) : inputs.map(() => null);
  return grads.map((g, i) => (g ? valuesOf(g) : new Float64Array(inputs[i].numel)));
}

function worst(got: readonly Float64Array[], want: readonly Float64Array[]): number {
  let error = 0;
  got.forEach((g, k) =>
    g.forEach((x, i) => (error = Math.max(error, Math.abs(x - want[k][i]) / (1 + Math.abs(want[k][i]))))),
  );
  return error;
}
