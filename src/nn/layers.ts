import { checkOptions } from "../graph/options.ts";
import { type Shape, sameShape, show } from "../graph/shape.ts";
import { type Pair, pair } from "../ops/conv.ts";
import { conv2d, dropout, layerNorm, linear, rmsNorm } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { constant, uniform } from "./init.ts";
import type { LoRALayer } from "./lora.ts";
import { Module } from "./module.ts";
import { inDtypeOf } from "./precision.ts";

/**
 * y = x Wᵀ + b: [..., in] to [..., out]. Initial W [out, in] and b [out] are uniform in ±1/√in.
 * @example new Linear(768, 3072).forward(rand(2, 10, 768)) // [2, 10, 3072]
 */
export class Linear extends Module {
  weight: Tensor; // [out, in]
  bias?: Tensor; // [out]
  /** Low-rank updates of the output, added by `addLoRA`. */
  lora?: LoRALayer;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    { bias = true } = {},
  ) {
    super();
    checkSizes("Linear", { inFeatures, outFeatures });
    const bound = 1 / Math.sqrt(inFeatures);
    this.weight = uniform([outFeatures, inFeatures], bound);
    if (bias) this.bias = uniform([outFeatures], bound);
  }

  forward(x: Tensor): Tensor {
    const y = linear(x, inDtypeOf(x, this.weight), this.bias && inDtypeOf(x, this.bias));
    return this.lora ? this.lora.update(x, y) : y;
  }
}

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

/** Zeroes each element with probability p in training, and scales the others by 1/(1-p). As is in `eval` mode. */
export class Dropout extends Module {
  constructor(readonly p: number) {
    super();
    if (!(p >= 0 && p < 1)) throw new RangeError(`Dropout: p must be in [0, 1), got ${p}`);
  }

  forward(x: Tensor): Tensor {
    return this.p > 0 && this.training ? dropout(x, this.p, { training: true }) : x;
  }
}

export interface Conv2dOptions {
  /** Default 1. */
  stride?: Pair;
  /** Zeros on each side. Default 0. */
  padding?: Pair;
  /** Groups of channels that do not mix. Default 1. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
}

/**
 * Cross-correlation: [B, in, H, W] to [B, out, H', W']. `size` is [height, width], or one number for both.
 * @example new Conv2d(3, 768, 14, { stride: 14 }) // patches of a vision transformer
 */
export class Conv2d extends Module {
  weight: Tensor; // [out, in/groups, kh, kw]
  bias?: Tensor; // [out]
  readonly #options: { stride: Pair; padding: Pair; groups: number };

  constructor(inChannels: number, outChannels: number, size: Pair, options: Conv2dOptions = {}) {
    super();
    const { stride = 1, padding = 0, groups = 1, bias = true } = options;
    const [kh, kw] = pair(size);
    const [sh, sw] = pair(stride);
    checkSizes("Conv2d", { inChannels, outChannels, "kernel height": kh, "kernel width": kw, groups });
    checkSizes("Conv2d", { "vertical stride": sh, "horizontal stride": sw });
    if (inChannels % groups || outChannels % groups) {
      throw new RangeError(
        `Conv2d: groups must divide the channels, got ${groups} groups for ${inChannels} input and ${outChannels} output channels`,
      );
    }
    this.#options = { stride, padding, groups };
    const shape: Shape = [outChannels, inChannels / groups, kh, kw];
    const bound = 1 / Math.sqrt(shape[1] * kh * kw);
    this.weight = uniform(shape, bound);
    if (bias) this.bias = uniform([outChannels], bound);
  }

  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.#options);
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

/** An elementwise function. */
export type Activation = (x: Tensor) => Tensor;

/**
 * The activation of a name that Hugging Face configs use.
 * @example activation("gelu_pytorch_tanh")(rand(4))
 */
export function activation(name: string): Activation {
  const found = activations[name];
  if (!found) throw new Error(`activation: unknown name "${name}"; known are ${Object.keys(activations).join(", ")}`);
  return found;
}

const activations: Record<string, Activation> = {
  gelu: (x) => x.gelu(),
  gelu_new: (x) => x.gelu({ approximate: "tanh" }),
  gelu_pytorch_tanh: (x) => x.gelu({ approximate: "tanh" }),
  quick_gelu: (x) => x.quickGelu(),
  hardsigmoid: (x) => x.div(6).add(0.5).clamp({ min: 0, max: 1 }),
  hardswish: (x) => x.mul(x.add(3).clamp({ min: 0, max: 6 })).div(6),
  relu: (x) => x.relu(),
  silu: (x) => x.silu(),
  tanh: (x) => x.tanh(),
};
