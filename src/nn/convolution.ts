import type { Shape } from "../graph/shape.ts";
import { conv2d } from "../ops/functional.ts";
import { type Pair, pair } from "../ops/windows.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { uniform } from "./init.ts";
import { Module } from "./module.ts";

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
