import * as activation from "../../ops/activation.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** this where it is above 0, else negativeSlope * this (default 0.01). */
    leakyRelu(negativeSlope?: number): Tensor;
    /** this where it is above 0, else weight * this. `weight` is [1], or [C] for this [N, C, ...]. */
    prelu(weight: Tensor): Tensor;
    /** this where it is above 0, else alpha (exp(this) - 1). Default alpha 1. */
    elu(alpha?: number): Tensor;
    /** this where it is above 0, else alpha (exp(this / alpha) - 1). Default alpha 1. */
    celu(alpha?: number): Tensor;
    /** elu scaled to keep mean 0 and variance 1 (https://arxiv.org/abs/1706.02515). */
    selu(): Tensor;
    /** this * tanh(softplus(this)). */
    mish(): Tensor;
    /** Limited to [minVal, maxVal], default [-1, 1]. Slope 0 at both ends. */
    hardtanh(minVal?: number, maxVal?: number): Tensor;
    /** Limited to [0, 6]. Slope 0 at both ends. */
    relu6(): Tensor;
    /** relu6(this + 3) / 6. */
    hardsigmoid(): Tensor;
    /** this * relu6(this + 3) / 6. */
    hardswish(): Tensor;
    /** this outside [-lambd, lambd], else 0. Default lambd 0.5. */
    hardshrink(lambd?: number): Tensor;
    /** this moved towards 0 by lambd (default 0.5): 0 in [-lambd, lambd]. */
    softshrink(lambd?: number): Tensor;
    /** this / (1 + |this|). */
    softsign(): Tensor;
    /** this - tanh(this). */
    tanhshrink(): Tensor;
    /** this where it is above `limit`, else `value`. NaN stays. */
    threshold(limit: number, value: number): Tensor;
    /** log(sigmoid(this)), without overflow. */
    logsigmoid(): Tensor;
    /** a * sigmoid(b) for the halves a and b of `dim` (default the last): [..., 2n, ...] -> [..., n, ...]. */
    glu(dim?: number): Tensor;
    /** softmax(-this) along `dim`. */
    softmin(dim: number): Tensor;
  }
}

addMethods({
  leakyRelu(negativeSlope?: number): Tensor {
    return activation.leakyRelu(this, negativeSlope);
  },
  prelu(weight: Tensor): Tensor {
    return activation.prelu(this, weight);
  },
  elu(alpha?: number): Tensor {
    return activation.elu(this, alpha);
  },
  celu(alpha?: number): Tensor {
    return activation.celu(this, alpha);
  },
  selu(): Tensor {
    return activation.selu(this);
  },
  mish(): Tensor {
    return activation.mish(this);
  },
  hardtanh(minVal?: number, maxVal?: number): Tensor {
    return activation.hardtanh(this, minVal, maxVal);
  },
  relu6(): Tensor {
    return activation.relu6(this);
  },
  hardsigmoid(): Tensor {
    return activation.hardsigmoid(this);
  },
  hardswish(): Tensor {
    return activation.hardswish(this);
  },
  hardshrink(lambd?: number): Tensor {
    return activation.hardshrink(this, lambd);
  },
  softshrink(lambd?: number): Tensor {
    return activation.softshrink(this, lambd);
  },
  softsign(): Tensor {
    return activation.softsign(this);
  },
  tanhshrink(): Tensor {
    return activation.tanhshrink(this);
  },
  threshold(limit: number, value: number): Tensor {
    return activation.threshold(this, limit, value);
  },
  logsigmoid(): Tensor {
    return activation.logsigmoid(this);
  },
  glu(dim?: number): Tensor {
    return activation.glu(this, dim);
  },
  softmin(dim: number): Tensor {
    return activation.softmin(this, dim);
  },
});
