import { checkOptions } from "../graph/options.ts";
import { type Shape, sameShape, show } from "../graph/shape.ts";
import { groupNorm, layerNorm, rmsNorm } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { constant } from "./init.ts";
import { Module } from "./module.ts";
import { inDtypeOf } from "./precision.ts";

const cast = (x: Tensor, vector: Tensor | undefined): Tensor | undefined => vector && inDtypeOf(x, vector);

/** Options of LayerNorm. */
export interface LayerNormOptions {
  /** Learnt weight and bias. Default true. */
  elementwiseAffine?: boolean;
  /** Learnt bias, if there is a weight. Default true. */
  bias?: boolean;
}

/** The dims that a norm covers, checked. */
function checkNormShape(layer: string, shape: number | Shape): Shape {
  const dims = typeof shape === "number" ? [shape] : [...shape];
  checkSizes(layer, dims.length === 1 ? { dim: dims[0] } : Object.fromEntries(dims.map((n, i) => [`dim ${i}`, n])));
  if (dims.length === 0) throw new RangeError(`${layer}: expected at least one dim`);
  return dims;
}

/**
 * Normalises the last dims together to mean 0 and variance 1, then scales and shifts them: [..., ...shape] (arXiv 1607.06450).
 * @example new LayerNorm(64), new LayerNorm([8, 64])
 */
export class LayerNorm extends Module {
  weight!: Tensor; // shape; absent without elementwiseAffine
  bias!: Tensor; // shape; absent without bias
  readonly normalizedShape: Shape;

  constructor(
    shape: number | Shape,
    readonly eps = 1e-5,
    options: LayerNormOptions = {},
  ) {
    super();
    checkOptions("LayerNorm", options, ["elementwiseAffine", "bias"]);
    const { elementwiseAffine = true, bias = true } = options;
    this.normalizedShape = checkNormShape("LayerNorm", shape);
    if (elementwiseAffine) this.weight = constant(this.normalizedShape, 1);
    if (elementwiseAffine && bias) this.bias = constant(this.normalizedShape, 0);
  }

  forward(x: Tensor): Tensor {
    const { normalizedShape: shape, weight, bias } = this;
    const last = x.shape.slice(x.ndim - shape.length);
    if (!sameShape(last, shape)) throw new Error(`LayerNorm: expected [..., ${shape.join(",")}], got ${show(x.shape)}`);
    const [w, b] = [weight, bias].map((t: Tensor | undefined) => t && inDtypeOf(x, t));
    if (shape.length === 1) return layerNorm(x, w, b, this.eps);
    const rows = x.reshape([...x.shape.slice(0, x.ndim - shape.length), -1]);
    return layerNorm(rows, w?.reshape([-1]), b?.reshape([-1]), this.eps).reshape(x.shape);
  }
}

/** Divides by the root mean square of the last dims, then scales: [..., ...shape] (arXiv 1910.07467). */
export class RMSNorm extends Module {
  weight!: Tensor; // shape; absent without elementwiseAffine
  readonly normalizedShape: Shape;

  constructor(
    shape: number | Shape,
    readonly eps = 1e-6,
    options: { elementwiseAffine?: boolean } = {},
  ) {
    super();
    checkOptions("RMSNorm", options, ["elementwiseAffine"]);
    this.normalizedShape = checkNormShape("RMSNorm", shape);
    if (options.elementwiseAffine ?? true) this.weight = constant(this.normalizedShape, 1);
  }

  forward(x: Tensor): Tensor {
    const { normalizedShape: shape, weight } = this;
    const last = x.shape.slice(x.ndim - shape.length);
    if (!sameShape(last, shape)) throw new Error(`RMSNorm: expected [..., ${shape.join(",")}], got ${show(x.shape)}`);
    const scale: Tensor | undefined = weight && inDtypeOf(x, weight);
    if (shape.length === 1) return rmsNorm(x, scale, this.eps);
    const rows = x.reshape([...x.shape.slice(0, x.ndim - shape.length), -1]);
    return rmsNorm(rows, scale?.reshape([-1]), this.eps).reshape(x.shape);
  }
}

/** Normalises groups of channels of each sample: [N, C, ...] (arXiv 1803.08494). */
export class GroupNorm extends Module {
  weight?: Tensor; // [C]
  bias?: Tensor; // [C]
  readonly eps: number;

  constructor(
    readonly numGroups: number,
    readonly numChannels: number,
    options: { eps?: number; affine?: boolean } = {},
  ) {
    super();
    checkOptions("GroupNorm", options, ["eps", "affine"]);
    checkSizes("GroupNorm", { numGroups, numChannels });
    if (numChannels % numGroups)
      throw new RangeError(`GroupNorm: numGroups must divide numChannels ${numChannels}, got ${numGroups}`);
    this.eps = options.eps ?? 1e-5;
    if (options.affine === false) return;
    this.weight = constant([numChannels], 1);
    this.bias = constant([numChannels], 0);
  }

  forward(x: Tensor): Tensor {
    if (x.ndim < 2 || x.shape[1] !== this.numChannels)
      throw new Error(`GroupNorm: expected [N, ${this.numChannels}, ...], got ${show(x.shape)}`);
    return groupNorm(x, this.numGroups, cast(x, this.weight), cast(x, this.bias), this.eps);
  }
}

/** Batch norm of [B, C, H, W] with fixed statistics, as torchvision's FrozenBatchNorm2d. Nothing in it trains. */
export class FrozenBatchNorm2d extends Module {
  weight!: Tensor; // [C]; all four are buffers
  bias!: Tensor; // [C]
  running_mean!: Tensor; // [C]
  running_var!: Tensor; // [C]

  constructor(
    channels: number,
    readonly eps = 1e-5,
  ) {
    super();
    checkSizes("FrozenBatchNorm2d", { channels });
    const initial = { weight: 1, bias: 0, running_mean: 0, running_var: 1 };
    for (const [name, value] of Object.entries(initial))
      this.registerBuffer(name, constant([channels], value).requiresGrad_(false));
  }

  forward(x: Tensor): Tensor {
    const scale = this.weight.mul(this.running_var.add(this.eps).rsqrt());
    const shift = this.bias.sub(this.running_mean.mul(scale));
    const channel = (v: Tensor): Tensor => v.reshape([v.numel, 1, 1]);
    return x.mul(channel(scale)).add(channel(shift));
  }
}
