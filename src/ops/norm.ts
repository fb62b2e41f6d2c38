import { promote } from "../graph/dtype.ts";
import type { Op } from "../graph/op.ts";
import { numel, show } from "../graph/shape.ts";
import { apply, applyMany, type Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { defineOp } from "./define.ts";
import { splitRows } from "./split.ts";

interface NormAttrs extends Record<string, unknown> {
  eps: number;
  /** Backward ops only: false if neither weight nor bias requires a gradient (frozen norms). */
  vectors?: false;
}

// All ops normalise over the last dim, of D elements.

/** (x - μ) / σ and 1 / σ of each row, for layer_norm. */
function standardize(x: Tensor, eps: number): { normal: Tensor; inverse: Tensor } {
  const centred = x.sub(x.mean(-1, true));
  const inverse = centred.square().mean(-1, true).add(eps).rsqrt();
  return { normal: centred.mul(inverse), inverse };
}

/** x / rms(x) and 1 / rms(x) of each row, for rms_norm. */
function scaleToUnit(x: Tensor, eps: number): { normal: Tensor; inverse: Tensor } {
  const inverse = x.square().mean(-1, true).add(eps).rsqrt();
  return { normal: x.mul(inverse), inverse };
}

/** Gradients of x, weight and bias. Skips those of weight and bias if neither requires one. */
function backward(op: Op<NormAttrs>, g: Tensor, [x, ...vectors]: Tensor[], { eps }: NormAttrs): (Tensor | null)[] {
  const sources = [g, x, vectors[0]];
  if (!vectors.some((v) => v.requiresGrad))
    return [apply(op, sources, { eps, vectors: false }, x.shape, x.dtype), ...vectors.map(() => null)];
  return applyMany(
    op,
    sources,
    { eps },
    [x, ...vectors].map(({ shape, dtype }) => ({ shape, dtype })),
  );
}

/** Sum over all dims but the last. */
const overRows = (x: Tensor): Tensor => x.reshape([-1, x.shape[x.ndim - 1]]).sum(0);

/** Sources: x [..., D], weight [D], bias [D]. Output: [..., D]. */
const layerNormOp = defineOp<NormAttrs>({
  name: "layer_norm",
  kind: "kernel",
  split: splitRows({ sources: [0], flat: true }),
  vjp: (g, _y, x, attrs) => backward(layerNormBackwardOp, g, x, attrs),
  fallback: ([x, weight, bias], { eps }) => standardize(x, eps).normal.mul(weight).add(bias),
});

/** Sources: gradient, x [..., D], weight [D]. Outputs: gradients of x and, unless `vectors` is false, of weight and bias. */
const layerNormBackwardOp = defineOp<NormAttrs>({
  name: "layer_norm_backward",
  kind: "kernel",
  fallback: ([g, x, weight], { eps, vectors }) => {
    const { normal, inverse } = standardize(x, eps);
    const scaled = g.mul(weight);
    const dx = scaled
      .sub(scaled.mean(-1, true))
      .sub(normal.mul(scaled.mul(normal).mean(-1, true)))
      .mul(inverse);
    return vectors === false ? dx : [dx, overRows(g.mul(normal)), overRows(g)];
  },
});

/** Sources: x [..., D], weight [D]. Output: [..., D]. */
const rmsNormOp = defineOp<NormAttrs>({
  name: "rms_norm",
  kind: "kernel",
  split: splitRows({ sources: [0], flat: true }),
  vjp: (g, _y, x, attrs) => backward(rmsNormBackwardOp, g, x, attrs),
  fallback: ([x, weight], { eps }) => scaleToUnit(x, eps).normal.mul(weight),
});

/** Sources: gradient, x [..., D], weight [D]. Outputs: gradients of x and, unless `vectors` is false, of weight. */
const rmsNormBackwardOp = defineOp<NormAttrs>({
  name: "rms_norm_backward",
  kind: "kernel",
  fallback: ([g, x, weight], { eps, vectors }) => {
    const { normal, inverse } = scaleToUnit(x, eps);
    const scaled = g.mul(weight);
    const dx = scaled.sub(normal.mul(scaled.mul(normal).mean(-1, true))).mul(inverse);
    return vectors === false ? dx : [dx, overRows(g.mul(normal))];
  },
});

function checkVector(op: string, name: string, vector: Tensor, size: number): void {
  if (vector.ndim !== 1 || vector.shape[0] !== size)
    throw new Error(`${op}: ${name} must be [${size}], got ${show(vector.shape)}`);
}

function checkEps(op: string, eps: number): void {
  if (!(eps >= 0 && Number.isFinite(eps))) throw new RangeError(`${op}: eps must be a finite number >= 0, got ${eps}`);
}

/**
 * Layer normalisation over the last dim (https://arxiv.org/abs/1607.06450): x [..., D], weight [D], bias [D] -> [..., D].
 * Unlike torch, the normalised shape is always the last dim.
 */
export function layerNorm(x: Tensor, weight?: Tensor | null, bias?: Tensor | null, eps = 1e-5): Tensor {
  const D = x.shape[x.ndim - 1];
  if (weight) checkVector("layerNorm", "weight", weight, D);
  if (bias) checkVector("layerNorm", "bias", bias, D);
  checkEps("layerNorm", eps);
  const w = weight ?? full([D], 1);
  return apply(layerNormOp, [x, w, bias ?? full([D], 0)], { eps }, x.shape, promote(x.dtype, w.dtype));
}

/** weight * x / sqrt(mean(x²) + eps) over the last dim (https://arxiv.org/abs/1910.07467): x [..., D], weight [D]. */
export function rmsNorm(x: Tensor, weight?: Tensor | null, eps = 1e-6): Tensor {
  const D = x.shape[x.ndim - 1];
  if (weight) checkVector("rmsNorm", "weight", weight, D);
  checkEps("rmsNorm", eps);
  const w = weight ?? full([D], 1);
  return apply(rmsNormOp, [x, w], { eps }, x.shape, promote(x.dtype, w.dtype));
}

/**
 * Group normalisation of x [B, C, ...] over `groups` groups of channels (https://arxiv.org/abs/1803.08494). Weight and bias
 * are [C].
 * @throws if `groups` does not divide C.
 */
export function groupNorm(x: Tensor, groups: number, weight?: Tensor | null, bias?: Tensor | null, eps = 1e-5): Tensor {
  const [B, C] = x.shape;
  if (x.ndim < 2 || C % groups !== 0)
    throw new Error(
      `groupNorm: ${groups} groups do not divide the channels of ${show(x.shape)}: expected [B, C, ...] with C a multiple of ${groups}`,
    );
  const perChannel = (v: Tensor): Tensor => v.reshape([C, ...x.shape.slice(2).map(() => 1)]);
  if (weight) checkVector("groupNorm", "weight", weight, C);
  if (bias) checkVector("groupNorm", "bias", bias, C);
  const normal = layerNorm(x.reshape([B, groups, (C / groups) * numel(x.shape.slice(2))]), null, null, eps).reshape(
    x.shape,
  );
  const scaled = weight ? normal.mul(perChannel(weight)) : normal;
  return bias ? scaled.add(perChannel(bias)) : scaled;
}
