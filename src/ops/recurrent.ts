import { promote } from "../graph/dtype.ts";
import { type Shape, sameShape, show } from "../graph/shape.ts";
import { apply, applyMany, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { cat, stack } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";

// Recurrent layers over a whole sequence of T steps, N samples and H hidden values. The input products of all steps are
// computed before (`inputs`), so a step is one product with the state and elementwise work. The gradients recompute the
// products of all steps at once from the stored states, and sum over steps in one product.

interface RecurrentAttrs extends Record<string, unknown> {
  /** Steps go from the last to the first. */
  reverse: boolean;
}

/** Step numbers in the order in which they are computed. */
const order = (T: number, { reverse }: RecurrentAttrs): number[] =>
  Array.from({ length: T }, (_, i) => (reverse ? T - 1 - i : i));

/** Values [N, …] of the steps, given in the order of computation, as [T, N, …]. */
const joined = (steps: readonly Tensor[], { reverse }: RecurrentAttrs): Tensor =>
  stack(reverse ? [...steps].reverse() : steps);

/** The state before each step: the states [T, N, H] shifted by one step, with the initial one [N, H] at the start. */
function shifted(states: Tensor, initial: Tensor, { reverse }: RecurrentAttrs): Tensor {
  const T = states.shape[0];
  const first = initial.unsqueeze(0);
  if (T === 1) return first;
  return reverse ? cat([states.narrow(0, 1, T - 1), first]) : cat([first, states.narrow(0, 0, T - 1)]);
}

/** x [T, N, K] times the transpose of w [M, K], for all steps at once: [T, N, M]. */
const product = (x: Tensor, w: Tensor): Tensor => x.matmul(w.t());

/** Gradient [M, K] of w in `product`: g [T, N, M], x [T, N, K]. */
function weightGradient(g: Tensor, x: Tensor): Tensor {
  const rows = (t: Tensor): Tensor => t.reshape([-1, t.shape[2]]);
  return rows(g).t().matmul(rows(x));
}

/** a + b, where either may be absent. */
const plus = (a: Tensor | null | undefined, b: Tensor): Tensor => (a ? a.add(b) : b);

/** The gradient of one step's output, if there is one. */
const at = (g: Tensor | null, t: number): Tensor | undefined => g?.select(0, t);

// ---- RNN ----------------------------------------------------------------------------------------

interface RnnAttrs extends RecurrentAttrs {
  nonlinearity: "tanh" | "relu";
}

/** Sources: inputs [T, N, H], h0 [N, H], weight [H, H]. Output: h of each step [T, N, H]. */
const rnnOp = defineOp<RnnAttrs>({
  name: "rnn",
  kind: "kernel",
  fallback: ([inputs, h0, weight], attrs) => {
    let h = h0;
    const steps = order(inputs.shape[0], attrs).map((t) => {
      const y = inputs.select(0, t).add(h.matmul(weight.t()));
      return (h = attrs.nonlinearity === "tanh" ? y.tanh() : y.relu());
    });
    return joined(steps, attrs);
  },
  vjp: (g: Tensor, hs: Tensor, [, h0, weight], attrs) => {
    const slope = attrs.nonlinearity === "tanh" ? hs.square().neg().add(1) : where(hs.le(0), 0, 1).to(hs.dtype);
    let later: Tensor | null = null; // gradient of h that the step after it gives
    const steps: Tensor[] = [];
    for (const t of order(hs.shape[0], attrs).reverse()) {
      const own = g.select(0, t);
      const step: Tensor = (later ? later.add(own) : own).mul(slope.select(0, t));
      steps.push(step);
      later = step.matmul(weight);
    }
    const dy = joined(steps.reverse(), attrs);
    return [dy, later, weightGradient(dy, shifted(hs, h0, attrs))];
  },
});

/**
 * h_t = tanh(inputs_t + W h_{t-1}), or relu: inputs [T, N, H], h0 [N, H], weight [H, H] -> [T, N, H].
 * @throws if shapes do not fit.
 */
export function rnn(inputs: Tensor, h0: Tensor, weight: Tensor, attrs: RnnAttrs): Tensor {
  checkShapes("rnn", { inputs, h0, weight }, 1, weight.shape[0]);
  const x = inOneDtype([inputs, h0, weight]);
  return apply(rnnOp, x, attrs, inputs.shape, x[0].dtype);
}

// ---- LSTM ---------------------------------------------------------------------------------------

/** The gates input, forget, cell and output of products [..., 4H]. */
function lstmGates(products: Tensor): Tensor[] {
  const [i, f, g, o] = products.chunk(4, -1);
  return [i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()];
}

/**
 * Sources: inputs [T, N, 4H], h0 [N, P], c0 [N, H], weight [4H, P], and for P other than H a projection [P, H].
 * Outputs: h of each step [T, N, P], c of each step [T, N, H].
 */
const lstmOp = defineOp<RecurrentAttrs>({
  name: "lstm",
  kind: "kernel",
  fallback: ([inputs, h0, c0, weight, projection], attrs) => {
    let [h, c] = [h0, c0];
    const cells: Tensor[] = [];
    const steps = order(inputs.shape[0], attrs).map((t) => {
      const [i, f, g, o] = lstmGates(inputs.select(0, t).add(h.matmul(weight.t())));
      c = f.mul(c).add(i.mul(g));
      cells.push(c);
      const hidden = o.mul(c.tanh());
      return (h = projection ? hidden.matmul(projection.t()) : hidden);
    });
    return [joined(steps, attrs), joined(cells, attrs)];
  },
  vjp: ([gh, gc]: (Tensor | null)[], [hs, cs]: Tensor[], [inputs, h0, c0, weight, projection], attrs) => {
    const [T, N, H] = cs.shape;
    const [before, cellsBefore] = [shifted(hs, h0, attrs), shifted(cs, c0, attrs)];
    const [i, f, g, o] = lstmGates(inputs.add(product(before, weight)));
    const squashed = cs.tanh();
    const slope = (y: Tensor): Tensor => y.mul(y.neg().add(1)); // of the sigmoid
    const slopeTanh = (y: Tensor): Tensor => y.square().neg().add(1);
    // Gradient of the products of a step, per unit of that of c (three gates), or of the hidden value (the output gate).
    const local = stack([g.mul(slope(i)), cellsBefore.mul(slope(f)), i.mul(slopeTanh(g)), squashed.mul(slope(o))], 2);
    const throughCell = o.mul(slopeTanh(squashed));
    const isOutput = positionsAlong(1, 4, 3).eq(3);
    const spread = (hidden: Tensor, cell: Tensor): Tensor => where(isOutput, hidden.unsqueeze(1), cell.unsqueeze(1));

    let [dh, dc]: (Tensor | null)[] = [null, null]; // gradients of h and c that the step after them gives
    const hidden: Tensor[] = [];
    const projected: Tensor[] = [];
    const cell: Tensor[] = [];
    for (const t of order(T, attrs).reverse()) {
      const whole: Tensor = plus(at(gh, t), dh ?? full([N, h0.shape[1]], 0, hs.dtype));
      projected.push(whole);
      const own: Tensor = projection ? whole.matmul(projection) : whole;
      const sum: Tensor = plus(at(gc, t), plus(dc, own.mul(throughCell.select(0, t))));
      hidden.push(own);
      cell.push(sum);
      dc = sum.mul(f.select(0, t));
      dh = local
        .select(0, t)
        .mul(spread(own, sum))
        .reshape([N, 4 * H])
        .matmul(weight);
    }
    const [dHidden, dCell] = [hidden, cell].map((steps) => joined(steps.reverse(), attrs).reshape([T * N, H]));
    const dInputs = local
      .reshape([T * N, 4, H])
      .mul(spread(dHidden, dCell))
      .reshape([T, N, 4 * H]);
    const gradients = [dInputs, dh, dc, weightGradient(dInputs, before)];
    if (!projection) return gradients;
    return [...gradients, weightGradient(joined(projected.reverse(), attrs), o.mul(squashed))];
  },
});

/**
 * LSTM (Hochreiter and Schmidhuber 1997) over a sequence: inputs [T, N, 4H] (gates i, f, g, o), h0 [N, P], c0 [N, H],
 * weight [4H, P], projection [P, H] or none (then P = H) -> h [T, N, P] and c [T, N, H] of each step.
 * @throws if shapes do not fit.
 */
export function lstm(
  inputs: Tensor,
  h0: Tensor,
  c0: Tensor,
  weight: Tensor,
  projection: Tensor | undefined,
  attrs: RecurrentAttrs,
): [h: Tensor, c: Tensor] {
  const [T, N] = inputs.shape;
  const H = c0.shape[1];
  checkShapes("lstm", { inputs, h0, weight }, 4, H);
  if (
    c0.ndim !== 2 ||
    c0.shape[0] !== N ||
    (projection ? !sameShape(projection.shape, [h0.shape[1], H]) : h0.shape[1] !== H)
  )
    throw new Error(
      `lstm: c0 ${show(c0.shape)} and projection ${projection ? show(projection.shape) : "none"} do not fit inputs ${show(inputs.shape)} and h0 ${show(h0.shape)}: expected c0 [N, H] and projection [P, H]`,
    );
  const x = inOneDtype([inputs, h0, c0, weight, ...(projection ? [projection] : [])]);
  const output = (shape: Shape) => ({ shape, dtype: x[0].dtype });
  const [h, c] = applyMany(lstmOp, x, attrs, [output([T, N, h0.shape[1]]), output([T, N, H])]);
  return [h, c];
}

// ---- GRU ----------------------------------------------------------------------------------------

/** The gates reset, update and new, and the products of the new gate with the state, from products [..., 3H]. */
function gruGates(inputs: Tensor, state: Tensor): { r: Tensor; z: Tensor; n: Tensor; candidate: Tensor } {
  const [xr, xz, xn] = inputs.chunk(3, -1);
  const [hr, hz, candidate] = state.chunk(3, -1);
  const r = xr.add(hr).sigmoid();
  return { r, z: xz.add(hz).sigmoid(), n: xn.add(r.mul(candidate)).tanh(), candidate };
}

/** Sources: inputs [T, N, 3H], h0 [N, H], weight [3H, H], bias [3H]. Output: h of each step [T, N, H]. */
const gruOp = defineOp<RecurrentAttrs>({
  name: "gru",
  kind: "kernel",
  fallback: ([inputs, h0, weight, bias], attrs) => {
    let h = h0;
    const steps = order(inputs.shape[0], attrs).map((t) => {
      const { z, n } = gruGates(inputs.select(0, t), h.matmul(weight.t()).add(bias));
      return (h = n.add(z.mul(h.sub(n))));
    });
    return joined(steps, attrs);
  },
  vjp: (g: Tensor, hs: Tensor, [inputs, h0, weight, bias], attrs) => {
    const [T, N, H] = hs.shape;
    const before = shifted(hs, h0, attrs);
    const { r, z, n, candidate } = gruGates(inputs, product(before, weight).add(bias));
    const fresh = z.neg().add(1).mul(n.square().neg().add(1)); // dh/d(pre-activation of n)
    const reset = fresh.mul(candidate).mul(r.mul(r.neg().add(1)));
    const update = before.sub(n).mul(z.mul(z.neg().add(1)));
    const ofState = stack([reset, update, fresh.mul(r)], 2); // [T, N, 3, H], per unit of the gradient of h

    let later: Tensor | null = null;
    const steps: Tensor[] = [];
    for (const t of order(T, attrs).reverse()) {
      const own = g.select(0, t);
      const step: Tensor = later ? later.add(own) : own;
      steps.push(step);
      const products = ofState
        .select(0, t)
        .mul(step.unsqueeze(1))
        .reshape([N, 3 * H]);
      later = products.matmul(weight).add(step.mul(z.select(0, t)));
    }
    const dh = joined(steps.reverse(), attrs).unsqueeze(2); // [T, N, 1, H]
    const scaled = (unit: Tensor): Tensor => unit.mul(dh).reshape([T, N, 3 * H]);
    const dState = scaled(ofState);
    return [scaled(stack([reset, update, fresh], 2)), later, weightGradient(dState, before), dState.sum([0, 1])];
  },
});

/**
 * GRU (arXiv 1406.1078) over a sequence, with the reset after the product, as in torch and cuDNN: inputs [T, N, 3H]
 * (gates r, z, n), h0 [N, H], weight [3H, H], bias [3H] -> h of each step [T, N, H].
 * @throws if shapes do not fit.
 */
export function gru(
  inputs: Tensor,
  h0: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  attrs: RecurrentAttrs,
): Tensor {
  const H = h0.shape[1];
  checkShapes("gru", { inputs, h0, weight }, 3, H);
  if (bias && !sameShape(bias.shape, [3 * H])) throw new Error(`gru: bias must be [${3 * H}], got ${show(bias.shape)}`);
  const x = inOneDtype([inputs, h0, weight, bias ?? full([3 * H], 0, inputs.dtype)]);
  const [T, N] = inputs.shape;
  return apply(gruOp, x, attrs, [T, N, H], x[0].dtype);
}

function checkShapes(
  op: string,
  { inputs, h0, weight }: { inputs: Tensor; h0: Tensor; weight: Tensor },
  gates: number,
  H: number,
): void {
  const [, N, width] = inputs.shape;
  const fits = inputs.ndim === 3 && h0.ndim === 2 && h0.shape[0] === N && width === gates * H;
  if (!fits || !sameShape(weight.shape, [gates * H, h0.shape[1]]))
    throw new Error(
      `${op}: inputs ${show(inputs.shape)}, h0 ${show(h0.shape)} and weight ${show(weight.shape)} do not fit: expected [T, N, ${gates}H], [N, P] and [${gates}H, P]`,
    );
}

/** All tensors in the dtype that holds them. */
function inOneDtype(x: readonly Tensor[]): Tensor[] {
  const dtype = x.map((t) => t.dtype).reduce(promote);
  return x.map((t) => t.to(dtype));
}
