import { sameShape, show } from "../shape.ts";
import { applyMany, type Tensor } from "../tensor.ts";
import { defineOp } from "./define.ts";
import { lowerAdamw } from "./lower/optim.ts";

/**
 * One AdamW step (https://arxiv.org/abs/1711.05101, torch's order: decay first). Sources parameters, gradient, first and
 * second moments, all f32 [n], and hyper f32 [8] = lr, beta1, beta2, eps, weight decay, 1 - beta1^t, 1 - beta2^t, and a
 * factor for the gradient (clipping). Outputs the new parameters and moments.
 */
export const adamwOp = defineOp({
  name: "adamw",
  kind: "kernel",
  lower: lowerAdamw,
  inPlace: [0, 2, 3],
  fallback: ([p, g, m, v, hyper]) => {
    const [lr, beta1, beta2, eps, decay, correction1, correction2, scale] = hyper.chunk(8); // [1] each
    const scaled = g.mul(scale);
    const m1 = m.mul(beta1).add(scaled.mul(beta1.neg().add(1)));
    const v1 = v.mul(beta2).add(scaled.square().mul(beta2.neg().add(1)));
    const root = v1.sqrt().div(correction2.sqrt()).add(eps);
    const step = m1.div(root).mul(lr.div(correction1));
    return [p.mul(lr.mul(decay).neg().add(1)).sub(step), m1, v1];
  },
});

/** The new [parameters, first moment, second moment] of one step; see `adamwOp` for `hyper`. */
export function adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor, hyper: Tensor): [Tensor, Tensor, Tensor] {
  if (p.ndim !== 1 || ![g, m, v].every((t) => sameShape(t.shape, p.shape)) || !sameShape(hyper.shape, [8])) {
    throw new Error(
      `adamw: vectors of one size and hyper [8] expected, got ${[p, g, m, v, hyper].map((t) => show(t.shape)).join(", ")}`,
    );
  }
  const output = { shape: p.shape, dtype: "f32" as const };
  return applyMany(adamwOp, [p, g, m, v, hyper], {}, [output, output, output]) as [Tensor, Tensor, Tensor];
}
