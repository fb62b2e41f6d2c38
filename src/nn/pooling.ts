import { checkOptions } from "../graph/options.ts";
import {
  type AdaptiveSize,
  type AvgPoolOptions,
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveAvgPool3d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  adaptiveMaxPool3d,
  avgPool1d,
  avgPool2d,
  avgPool3d,
  type InterpolateOptions,
  interpolate,
  type MaxPoolOptions,
  maxPool1d,
  maxPool2d,
  maxPool3d,
  pixelShuffle,
  pixelUnshuffle,
  type Spatial,
} from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { Module } from "./module.ts";

/** Options of the max pools. The functions `maxPool1d` to `maxPool3d` also return indices. */
export type MaxPoolLayerOptions = Omit<MaxPoolOptions, "returnIndices">;

/** Kernel and options of a pool, checked when it is made. */
abstract class Pool<Options extends object> extends Module {
  readonly options: Options;

  constructor(
    readonly kernelSize: Spatial,
    options: Options,
    known: readonly string[],
  ) {
    super();
    checkOptions(new.target.name, options, known);
    checkSizes(new.target.name, Object.fromEntries([kernelSize].flat().map((n, i) => [`kernelSize ${i}`, n])));
    this.options = options;
  }
}

abstract class MaxPool extends Pool<MaxPoolLayerOptions> {
  constructor(kernelSize: Spatial, options: MaxPoolLayerOptions = {}) {
    super(kernelSize, options, ["stride", "padding", "dilation", "ceilMode"]);
  }
}

/** Largest value of each window: [N, C, L] to [N, C, L']. `stride` is by default the kernel's size. */
export class MaxPool1d extends MaxPool {
  forward(x: Tensor): Tensor {
    return maxPool1d(x, this.kernelSize, this.options);
  }
}

/**
 * Largest value of each window: [N, C, H, W] to [N, C, H', W']. `stride` is by default the kernel's size.
 * @example new MaxPool2d(3, { stride: 2, padding: 1 })
 */
export class MaxPool2d extends MaxPool {
  forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernelSize, this.options);
  }
}

/** Largest value of each window: [N, C, D, H, W] to [N, C, D', H', W']. `stride` is by default the kernel's size. */
export class MaxPool3d extends MaxPool {
  forward(x: Tensor): Tensor {
    return maxPool3d(x, this.kernelSize, this.options);
  }
}

abstract class AvgPool extends Pool<AvgPoolOptions> {
  constructor(kernelSize: Spatial, options: AvgPoolOptions = {}) {
    super(kernelSize, options, ["stride", "padding", "ceilMode", "countIncludePad", "divisorOverride"]);
  }
}

/** Mean of each window: [N, C, L] to [N, C, L']. `stride` is by default the kernel's size. */
export class AvgPool1d extends AvgPool {
  forward(x: Tensor): Tensor {
    return avgPool1d(x, this.kernelSize, this.options);
  }
}

/**
 * Mean of each window: [N, C, H, W] to [N, C, H', W']. `stride` is by default the kernel's size.
 * @example new AvgPool2d(2)
 */
export class AvgPool2d extends AvgPool {
  forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernelSize, this.options);
  }
}

/** Mean of each window: [N, C, D, H, W] to [N, C, D', H', W']. `stride` is by default the kernel's size. */
export class AvgPool3d extends AvgPool {
  forward(x: Tensor): Tensor {
    return avgPool3d(x, this.kernelSize, this.options);
  }
}

/** A pool with windows that cover the input; `outputSize` is a number for all dims, or one per dim (null: as the input). */
abstract class AdaptivePool extends Module {
  constructor(readonly outputSize: AdaptiveSize) {
    super();
  }
}

/** Means over `outputSize` windows that cover [N, C, L]. */
export class AdaptiveAvgPool1d extends AdaptivePool {
  forward(x: Tensor): Tensor {
    return adaptiveAvgPool1d(x, this.outputSize);
  }
}

/**
 * Means over `outputSize` windows that cover [N, C, H, W].
 * @example new AdaptiveAvgPool2d(1) // [N, C, 1, 1]
 */
export class AdaptiveAvgPool2d extends AdaptivePool {
  forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }
}

/** Means over `outputSize` windows that cover [N, C, D, H, W]. */
export class AdaptiveAvgPool3d extends AdaptivePool {
  forward(x: Tensor): Tensor {
    return adaptiveAvgPool3d(x, this.outputSize);
  }
}

/** Largest values of `outputSize` windows that cover [N, C, L]. */
export class AdaptiveMaxPool1d extends AdaptivePool {
  forward(x: Tensor): Tensor {
    return adaptiveMaxPool1d(x, this.outputSize);
  }
}

/** Largest values of `outputSize` windows that cover [N, C, H, W]. */
export class AdaptiveMaxPool2d extends AdaptivePool {
  forward(x: Tensor): Tensor {
    return adaptiveMaxPool2d(x, this.outputSize);
  }
}

/** Largest values of `outputSize` windows that cover [N, C, D, H, W]. */
export class AdaptiveMaxPool3d extends AdaptivePool {
  forward(x: Tensor): Tensor {
    return adaptiveMaxPool3d(x, this.outputSize);
  }
}

/**
 * Resizes [N, C, ...] to a size or by a factor, as the function `interpolate`.
 * @example new Upsample({ scaleFactor: 2, mode: "bilinear" })
 */
export class Upsample extends Module {
  constructor(readonly options: InterpolateOptions) {
    super();
    checkOptions("Upsample", options, ["size", "scaleFactor", "mode", "alignCorners", "antialias"]);
    if ((options.size === undefined) === (options.scaleFactor === undefined))
      throw new Error("Upsample: expected size or scaleFactor, one of them");
  }

  forward(x: Tensor): Tensor {
    return interpolate(x, this.options);
  }
}

/** Channels become pixels: [..., C r², H, W] to [..., C, H r, W r] (arXiv 1609.05158). */
export class PixelShuffle extends Module {
  constructor(readonly factor: number) {
    super();
    checkSizes("PixelShuffle", { factor });
  }

  forward(x: Tensor): Tensor {
    return pixelShuffle(x, this.factor);
  }
}

/** Pixels become channels: [..., C, H r, W r] to [..., C r², H, W]. */
export class PixelUnshuffle extends Module {
  constructor(readonly factor: number) {
    super();
    checkSizes("PixelUnshuffle", { factor });
  }

  forward(x: Tensor): Tensor {
    return pixelUnshuffle(x, this.factor);
  }
}
