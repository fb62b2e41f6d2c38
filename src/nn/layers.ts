import { checkOptions } from "../graph/options.ts";
import {
  alphaDropout,
  bilinear,
  dropout,
  dropout1d,
  dropout2d,
  dropout3d,
  linear,
  unflatten,
} from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkProbability, checkSizes } from "./check.ts";
import { uniform } from "./init.ts";
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

/** y[o] = a W[o] b + bias[o]: [..., in1] and [..., in2] to [..., out]. W [out, in1, in2] and bias are uniform in ±1/√in1. */
export class Bilinear extends Module {
  weight: Tensor; // [out, in1, in2]
  bias?: Tensor; // [out]

  constructor(
    readonly in1Features: number,
    readonly in2Features: number,
    readonly outFeatures: number,
    options: { bias?: boolean } = {},
  ) {
    super();
    checkOptions("Bilinear", options, ["bias"]);
    checkSizes("Bilinear", { in1Features, in2Features, outFeatures });
    const bound = 1 / Math.sqrt(in1Features);
    this.weight = uniform([outFeatures, in1Features, in2Features], bound);
    if (options.bias ?? true) this.bias = uniform([outFeatures], bound);
  }

  forward(a: Tensor, b: Tensor): Tensor {
    return bilinear(a, b, inDtypeOf(a, this.weight), this.bias && inDtypeOf(a, this.bias));
  }
}

/** Returns its input. */
export class Identity extends Module {
  forward(x: Tensor): Tensor {
    return x;
  }
}

/**
 * Zeroes each element with probability p in training, and scales the others by 1/(1-p). As is in `eval` mode.
 * @throws unless 0 <= p < 1.
 */
export class Dropout extends Module {
  constructor(readonly p = 0.5) {
    super();
    checkProbability(new.target.name, "p", p);
  }

  forward(x: Tensor): Tensor {
    return this.p > 0 && this.training ? dropout(x, this.p, { training: true }) : x;
  }
}

/** Zeroes whole channels of [N, C, L] or [C, L] with probability p in training, and scales the others by 1/(1-p). */
export class Dropout1d extends Dropout {
  override forward(x: Tensor): Tensor {
    return dropout1d(x, this.p, { training: this.training });
  }
}

/** As Dropout1d, for [N, C, H, W] or [C, H, W]. */
export class Dropout2d extends Dropout {
  override forward(x: Tensor): Tensor {
    return dropout2d(x, this.p, { training: this.training });
  }
}

/** As Dropout1d, for [N, C, D, H, W] or [C, D, H, W]. */
export class Dropout3d extends Dropout {
  override forward(x: Tensor): Tensor {
    return dropout3d(x, this.p, { training: this.training });
  }
}

/** Dropout for SELU, which keeps mean 0 and variance 1 (arXiv 1706.02515). */
export class AlphaDropout extends Dropout {
  override forward(x: Tensor): Tensor {
    return alphaDropout(x, this.p, { training: this.training });
  }
}

/** Joins dims `startDim` to `endDim` (inclusive) into one; by default all but the batch. */
export class Flatten extends Module {
  constructor(
    readonly startDim = 1,
    readonly endDim = -1,
  ) {
    super();
  }

  forward(x: Tensor): Tensor {
    return x.flatten(this.startDim, this.endDim);
  }
}

/** Splits `dim` into `sizes`; one may be -1. */
export class Unflatten extends Module {
  constructor(
    readonly dim: number,
    readonly sizes: readonly number[],
  ) {
    super();
  }

  forward(x: Tensor): Tensor {
    return unflatten(x, this.dim, this.sizes);
  }
}
