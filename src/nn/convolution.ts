import { checkOptions } from "../graph/options.ts";
import { numel, type Shape } from "../graph/shape.ts";
import {
  type ConvOptions,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
  type Spatial,
} from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { uniform } from "./init.ts";
import { Module } from "./module.ts";
import { inDtypeOf } from "./precision.ts";

/** Options of Conv1d, Conv2d and Conv3d. Sizes are one number for all spatial dims, or one per dim. */
export interface ConvLayerOptions extends ConvOptions {
  /** Default true. */
  bias?: boolean;
}

/** Options of ConvTranspose1d, ConvTranspose2d and ConvTranspose3d. Sizes are one number for all spatial dims, or one per dim. */
export interface ConvTransposeLayerOptions {
  /** Default 1. */
  stride?: Spatial;
  /** Removed from each side of the output. Default 0. */
  padding?: Spatial;
  /** Added to one side of the output. Default 0. */
  outputPadding?: Spatial;
  /** Default 1. */
  dilation?: Spatial;
  /** Groups of channels that do not mix. Default 1. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
}

/** `value` for each of `dims` spatial dims. */
function perDim(layer: string, name: string, value: Spatial, dims: number): readonly number[] {
  const list = typeof value === "number" ? new Array<number>(dims).fill(value) : value;
  if (list.length !== dims)
    throw new RangeError(`${layer}: ${name} must be one number or ${dims}, got ${JSON.stringify(value)}`);
  checkSizes(layer, Object.fromEntries(list.map((n, i) => [dims === 1 ? name : `${name} ${i}`, n])));
  return list;
}

/** Weight and bias of a convolution, and its options. */
abstract class Convolution<Options extends { stride?: Spatial; dilation?: Spatial; groups?: number }> extends Module {
  weight: Tensor;
  bias?: Tensor; // [out]
  readonly options: Omit<Options, "bias">;

  constructor(
    readonly inChannels: number,
    readonly outChannels: number,
    kernelSize: Spatial,
    { bias = true, ...options }: Options & { bias?: boolean },
    dims: number,
    transposed: boolean,
  ) {
    super();
    const layer = new.target.name;
    const known = transposed ? ["outputPadding"] : ["paddingMode"];
    checkOptions(layer, options, ["stride", "padding", "dilation", "groups", ...known]);
    const { stride = 1, dilation = 1, groups = 1 } = options;
    checkSizes(layer, { inChannels, outChannels, groups });
    const kernel = perDim(layer, "kernelSize", kernelSize, dims);
    perDim(layer, "stride", stride, dims);
    perDim(layer, "dilation", dilation, dims);
    if (inChannels % groups || outChannels % groups)
      throw new RangeError(
        `${layer}: groups must divide the channels, got ${groups} groups for ${inChannels} input and ${outChannels} output channels`,
      );
    this.options = options as Omit<Options, "bias">;
    const [rows, columns] = transposed ? [inChannels, outChannels] : [outChannels, inChannels];
    const shape: Shape = [rows, columns / groups, ...kernel];
    const bound = 1 / Math.sqrt(numel(shape.slice(1)));
    this.weight = uniform(shape, bound);
    if (bias) this.bias = uniform([outChannels], bound);
  }

  /** Input, weight and bias of one dtype, and the options. */
  protected operands(x: Tensor): [Tensor, Tensor, Tensor | undefined, Omit<Options, "bias">] {
    return [x, inDtypeOf(x, this.weight), this.bias && inDtypeOf(x, this.bias), this.options];
  }
}

/**
 * Cross-correlation: [N, in, L] to [N, out, L'], or both without N. Weight [out, in/groups, k].
 * @example new Conv1d(16, 32, 3, { padding: "same" })
 */
export class Conv1d extends Convolution<ConvLayerOptions> {
  constructor(inChannels: number, outChannels: number, kernelSize: Spatial, options: ConvLayerOptions = {}) {
    super(inChannels, outChannels, kernelSize, options, 1, false);
  }

  forward(x: Tensor): Tensor {
    return conv1d(...this.operands(x));
  }
}

/**
 * Cross-correlation: [N, in, H, W] to [N, out, H', W'], or both without N. Weight [out, in/groups, kh, kw]. `kernelSize` is
 * [height, width], or one number for both.
 * @example new Conv2d(3, 768, 14, { stride: 14 }) // patches of a vision transformer
 */
export class Conv2d extends Convolution<ConvLayerOptions> {
  constructor(inChannels: number, outChannels: number, kernelSize: Spatial, options: ConvLayerOptions = {}) {
    super(inChannels, outChannels, kernelSize, options, 2, false);
  }

  forward(x: Tensor): Tensor {
    return conv2d(...this.operands(x));
  }
}

/** Cross-correlation: [N, in, D, H, W] to [N, out, D', H', W'], or both without N. Weight [out, in/groups, kd, kh, kw]. */
export class Conv3d extends Convolution<ConvLayerOptions> {
  constructor(inChannels: number, outChannels: number, kernelSize: Spatial, options: ConvLayerOptions = {}) {
    super(inChannels, outChannels, kernelSize, options, 3, false);
  }

  forward(x: Tensor): Tensor {
    return conv3d(...this.operands(x));
  }
}

/**
 * Transposed convolution, the gradient of `Conv1d`: [N, in, L] to [N, out, L'] with
 * L' = (L - 1) stride - 2 padding + dilation (k - 1) + outputPadding + 1. Weight [in, out/groups, k].
 */
export class ConvTranspose1d extends Convolution<ConvTransposeLayerOptions> {
  constructor(inChannels: number, outChannels: number, kernelSize: Spatial, options: ConvTransposeLayerOptions = {}) {
    super(inChannels, outChannels, kernelSize, options, 1, true);
  }

  forward(x: Tensor): Tensor {
    return convTranspose1d(...this.operands(x));
  }
}

/**
 * Transposed convolution, the gradient of `Conv2d`: [N, in, H, W] to [N, out, H', W'], sizes as `ConvTranspose1d`. Weight
 * [in, out/groups, kh, kw].
 * @example new ConvTranspose2d(64, 32, 3, { stride: 2, padding: 1, outputPadding: 1 }) // doubles height and width
 */
export class ConvTranspose2d extends Convolution<ConvTransposeLayerOptions> {
  constructor(inChannels: number, outChannels: number, kernelSize: Spatial, options: ConvTransposeLayerOptions = {}) {
    super(inChannels, outChannels, kernelSize, options, 2, true);
  }

  forward(x: Tensor): Tensor {
    return convTranspose2d(...this.operands(x));
  }
}

/** Transposed convolution, the gradient of `Conv3d`: [N, in, D, H, W] to [N, out, D', H', W'], sizes as `ConvTranspose1d`. */
export class ConvTranspose3d extends Convolution<ConvTransposeLayerOptions> {
  constructor(inChannels: number, outChannels: number, kernelSize: Spatial, options: ConvTransposeLayerOptions = {}) {
    super(inChannels, outChannels, kernelSize, options, 3, true);
  }

  forward(x: Tensor): Tensor {
    return convTranspose3d(...this.operands(x));
  }
}
