import { isFloat, promote } from "../graph/dtype.ts";
import type { Op } from "../graph/op.ts";
import { checkOptions } from "../graph/options.ts";
import { numel, sameShape, show } from "../graph/shape.ts";
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
 * Layer normalisation over the last dims, together (https://arxiv.org/abs/1607.06450): x [..., ...D], weight and bias [...D] ->
 * [..., ...D]. Without a weight the bias says which dims, without both the last one is normalised.
 * @param weight a tensor, or only the normalised shape: `x.shape.slice(-2)` for two dims without a weight
 * @throws if weight and bias are not of the last dims of x
 */
export function layerNorm(
  x: Tensor,
  weight?: Tensor | readonly number[] | null,
  bias?: Tensor | null,
  eps = 1e-5,
): Tensor {
  const w = weight && "dtype" in weight ? weight : null;
  const shape = w?.shape ?? (weight as readonly number[] | null | undefined) ?? bias?.shape ?? x.shape.slice(-1);
  const last = x.shape.slice(x.ndim - shape.length);
  if (shape.length === 0 || !sameShape(shape, last) || (bias && !sameShape(bias.shape, shape)))
    throw new Error(
      `layerNorm: input ${show(x.shape)} with ${w ? "weight" : "normalised shape"} ${show(shape)}${bias ? ` and bias ${show(bias.shape)}` : ""}: expected the sizes of the last dims, those of the last one ${show(x.shape.slice(-1))}`,
    );
  checkEps("layerNorm", eps);
  const D = numel(shape);
  const rows = shape.length === 1 ? x : x.reshape([numel(x.shape.slice(0, x.ndim - shape.length)), D]);
  const scale = w?.reshape([D]) ?? full([D], 1);
  const y = apply(
    layerNormOp,
    [rows, scale, bias?.reshape([D]) ?? full([D], 0)],
    { eps },
    rows.shape,
    promote(x.dtype, scale.dtype),
  );
  return y.reshape(x.shape);
}

/** weight * x / sqrt(mean(x²) + eps) over the last dim (https://arxiv.org/abs/1910.07467): x [..., D], weight [D]. */
export function rmsNorm(x: Tensor, weight?: Tensor | null, eps = 1e-6): Tensor {
  const D = x.shape[x.ndim - 1];
  if (weight) checkVector("rmsNorm", "weight", weight, D);
  checkEps("rmsNorm", eps);
  const w = weight ?? full([D], 1);
  return apply(rmsNormOp, [x, w], { eps }, x.shape, promote(x.dtype, w.dtype));
}

const perChannel = (v: Tensor, x: Tensor): Tensor => v.reshape([v.numel, ...x.shape.slice(2).map(() => 1)]);

/** y scaled and shifted per channel. */
function affine(y: Tensor, weight?: Tensor | null, bias?: Tensor | null): Tensor {
  const scaled = weight ? y.mul(perChannel(weight, y)) : y;
  return bias ? scaled.add(perChannel(bias, y)) : scaled;
}

/**
 * Group normalisation of x [N, C, ...] over `groups` groups of channels (https://arxiv.org/abs/1803.08494). Weight and bias
 * are [C].
 * @throws if `groups` does not divide C.
 */
export function groupNorm(x: Tensor, groups: number, weight?: Tensor | null, bias?: Tensor | null, eps = 1e-5): Tensor {
  const [N, C] = x.shape;
  if (x.ndim < 2 || !(Number.isInteger(groups) && groups > 0) || C % groups !== 0)
    throw new Error(
      `groupNorm: ${groups} groups do not divide the channels of ${show(x.shape)}: expected [B, C, ...] with C a multiple of ${groups}`,
    );
  if (weight) checkVector("groupNorm", "weight", weight, C);
  if (bias) checkVector("groupNorm", "bias", bias, C);
  const rows = x.reshape([N, groups, (C / groups) * numel(x.shape.slice(2))]);
  return affine(layerNorm(rows, null, null, eps).reshape(x.shape), weight, bias);
}

interface ChannelNormOptions {
  /** [C]: averages over earlier batches, for evaluation. */
  runningMean?: Tensor | null;
  runningVar?: Tensor | null;
  /** [C]: multiplies the normalised values. */
  weight?: Tensor | null;
  /** [C] */
  bias?: Tensor | null;
  /** Weight of the new value in a running average. Default 0.1. */
  momentum?: number | Tensor;
  /** Default 1e-5. */
  eps?: number;
}

export interface BatchNormOptions extends ChannelNormOptions {
  /** Normalises with the statistics of the batch and updates the running ones. Default false: with the running ones. */
  training?: boolean;
}

export interface InstanceNormOptions extends ChannelNormOptions {
  /** Normalises with the statistics of each sample (default). False: with the running ones. */
  useInputStats?: boolean;
}

/** Sources: x [N, C, S]. Outputs: mean and variance (divisor N S) of each channel, [C]. */
const channelMomentsOp = defineOp({
  name: "channel_moments",
  kind: "kernel",
  fallback: ([x]) => {
    const mean = x.mean([0, 2], true);
    return [mean.reshape([-1]), x.sub(mean).square().mean([0, 2])];
  },
});

/** Sources: x and g [N, C, S], mean and inverse deviation [C]. Outputs, [C]: Σ g, and Σ g (x - mean) inverse. */
const channelSumsOp = defineOp({
  name: "channel_sums",
  kind: "kernel",
  fallback: ([x, g, mean, inverse]) => [
    g.sum([0, 2]),
    g
      .mul(x.sub(perChannel(mean, x)))
      .sum([0, 2])
      .mul(inverse),
  ],
});

/**
 * Sources: x [N, C, S]; weight, bias [C]; mean and inverse deviation [C], which are functions of x. Their part of the gradient
 * is in that of x; derivatives of it reach them as sources.
 */
const batchNormOp = defineOp({
  name: "batch_norm",
  kind: "kernel",
  fallback: ([x, weight, bias, mean, inverse]) =>
    x
      .sub(perChannel(mean, x))
      .mul(perChannel(inverse.mul(weight), x))
      .add(perChannel(bias, x)),
  vjp: (g, _y, [x, weight, bias, mean, inverse]) => {
    const specs = [bias, weight].map(({ shape, dtype }) => ({ shape, dtype }));
    const [db, dw] = applyMany(channelSumsOp, [x, g, mean, inverse], {}, specs);
    const count = x.numel / mean.numel;
    const normal = x.sub(perChannel(mean, x)).mul(perChannel(inverse, x));
    const shift = normal
      .mul(perChannel(dw, x))
      .add(perChannel(db, x))
      .mul(1 / count);
    const dx = g.sub(shift).mul(perChannel(inverse.mul(weight), x));
    return [dx, dw, db, null, null];
  },
});

/** A normalised tensor, and the running statistics after it, without gradients. */
export interface Normalized {
  readonly output: Tensor;
  /** [C] if a running mean was given. */
  readonly runningMean?: Tensor;
  /** [C] if a running variance was given. The variance of a batch enters with divisor n - 1. */
  readonly runningVar?: Tensor;
}

/** Checks shapes of x [N, C, ...] and vectors [C]. */
function checkChannels(op: string, x: Tensor, options: ChannelNormOptions, running: boolean): void {
  if (x.ndim < 2) throw new Error(`${op}: expected [N, C, ...], got ${show(x.shape)}`);
  if (!isFloat(x.dtype)) throw new TypeError(`${op}: input ${show(x.shape)} is ${x.dtype}: cast it with float()`);
  for (const name of ["weight", "bias", "runningMean", "runningVar"] as const)
    if (options[name]) checkVector(op, name, options[name], x.shape[1]);
  checkEps(op, options.eps ?? 1e-5);
  const { momentum = 0.1 } = options;
  if (typeof momentum === "number" && !Number.isFinite(momentum))
    throw new RangeError(`${op}: momentum must be a finite number, got ${momentum}`);
  if (running && !(options.runningMean && options.runningVar))
    throw new Error(`${op}: normalising with running statistics needs runningMean and runningVar`);
}

/** (x - mean) / sqrt(variance + eps) with statistics [C] that are no function of x. */
function withRunning(x: Tensor, { runningMean, runningVar, weight, bias, eps = 1e-5 }: ChannelNormOptions): Tensor {
  const scale = runningVar!.to("f32").add(eps).rsqrt();
  const y = x.to("f32").sub(perChannel(runningMean!, x)).mul(perChannel(scale, x));
  return affine(y, weight, bias).to(x.dtype);
}

/** running * (1 - momentum) + now * momentum. */
const averaged = (running: Tensor | null | undefined, now: Tensor, momentum: number | Tensor): Tensor | undefined =>
  running ? running.detach().add(now.detach().sub(running.detach()).mul(momentum)) : undefined;

/**
 * Batch normalisation of x [N, C, ...] per channel (https://arxiv.org/abs/1502.03167). In training it returns the new running
 * statistics: values never change in place, so assign them. Their variance has divisor n - 1, that of the output n.
 * @throws in training if a channel has one value; in evaluation without running statistics
 * @example const { output } = batchNorm(x, { weight, bias, training: true })
 */
export function batchNorm(x: Tensor, options: BatchNormOptions = {}): Normalized {
  const known = ["runningMean", "runningVar", "weight", "bias", "training", "momentum", "eps"];
  checkOptions("batchNorm", options, known);
  const { runningMean, runningVar, weight, bias, training = false, momentum = 0.1, eps = 1e-5 } = options;
  checkChannels("batchNorm", x, options, !training);
  if (!training)
    return {
      output: withRunning(x, options),
      runningMean: runningMean ?? undefined,
      runningVar: runningVar ?? undefined,
    };
  const count = x.numel / x.shape[1];
  if (count < 2)
    throw new Error(`batchNorm: ${count} value(s) per channel of ${show(x.shape)}: training expects more than one`);
  const C = x.shape[1];
  const rows = x.to("f32").reshape([x.shape[0], C, numel(x.shape.slice(2))]);
  const spec = { shape: [C], dtype: "f32" as const };
  const [mean, variance] = applyMany(channelMomentsOp, [rows], {}, [spec, spec]);
  const vectors = [weight ?? full([C], 1), bias ?? full([C], 0)].map((v) => v.to("f32"));
  const sources = [rows, ...vectors, mean, variance.add(eps).rsqrt()];
  const output = apply(batchNormOp, sources, {}, rows.shape, "f32").reshape(x.shape).to(x.dtype);
  const unbiased = variance.mul(count / (count - 1));
  return {
    output,
    runningMean: averaged(runningMean, mean, momentum),
    runningVar: averaged(runningVar, unbiased, momentum),
  };
}

/**
 * Instance normalisation of x [N, C, ...]: each channel of each sample over its spatial dims (https://arxiv.org/abs/1607.08022).
 * Running statistics, where given, take the means over the batch of each sample's mean and variance (divisor n - 1).
 * @throws if a sample has one value per channel; with `useInputStats: false` without running statistics
 */
export function instanceNorm(x: Tensor, options: InstanceNormOptions = {}): Normalized {
  const known = ["runningMean", "runningVar", "weight", "bias", "useInputStats", "momentum", "eps"];
  checkOptions("instanceNorm", options, known);
  const { runningMean, runningVar, weight, bias, useInputStats = true, momentum = 0.1, eps = 1e-5 } = options;
  checkChannels("instanceNorm", x, options, !useInputStats);
  if (!useInputStats)
    return {
      output: withRunning(x, options),
      runningMean: runningMean ?? undefined,
      runningVar: runningVar ?? undefined,
    };
  const [N, C, ...spatial] = x.shape;
  const count = numel(spatial);
  if (count < 2)
    throw new Error(
      `instanceNorm: ${count} value(s) per channel and sample of ${show(x.shape)}: expected more than one`,
    );
  const rows = x.reshape([N, C, count]);
  const output = affine(layerNorm(rows, null, null, eps).reshape(x.shape), weight, bias);
  const fixed = rows.detach().to("f32");
  return {
    output,
    runningMean: averaged(runningMean, fixed.mean(2).mean(0), momentum),
    runningVar: averaged(runningVar, fixed.var({ dim: 2 }).mean(0), momentum),
  };
}
