import { checkOptions } from "../graph/options.ts";
import {
  celu,
  elu,
  glu,
  hardshrink,
  hardsigmoid,
  hardswish,
  hardtanh,
  leakyRelu,
  logsigmoid,
  mish,
  prelu,
  relu6,
  type SoftplusOptions,
  selu,
  softmin,
  softplus,
  softshrink,
  softsign,
  tanhshrink,
  threshold,
} from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { constant } from "./init.ts";
import { Module } from "./module.ts";
import { inDtypeOf } from "./precision.ts";

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

// ---- Modules ------------------------------------------------------------------------------------

/** max(x, 0). */
export class ReLU extends Module {
  forward(x: Tensor): Tensor {
    return x.relu();
  }
}

/** x Φ(x), exact or by the tanh approximation (arXiv 1606.08415). */
export class GELU extends Module {
  readonly approximate: "none" | "tanh";

  constructor({ approximate = "none" }: { approximate?: "none" | "tanh" } = {}) {
    super();
    if (approximate !== "none" && approximate !== "tanh")
      throw new Error(`GELU: unknown approximation "${approximate}": expected none or tanh`);
    this.approximate = approximate;
  }

  forward(x: Tensor): Tensor {
    return x.gelu({ approximate: this.approximate });
  }
}

/** x sigmoid(x). */
export class SiLU extends Module {
  forward(x: Tensor): Tensor {
    return x.silu();
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  forward(x: Tensor): Tensor {
    return x.tanh();
  }
}

/** 1 / (1 + exp(-x)). */
export class Sigmoid extends Module {
  forward(x: Tensor): Tensor {
    return x.sigmoid();
  }
}

/** exp(x) / sum(exp(x)) along `dim`. */
export class Softmax extends Module {
  constructor(readonly dim: number) {
    super();
    checkDim("Softmax", dim);
  }

  forward(x: Tensor): Tensor {
    return x.softmax(this.dim);
  }
}

/** log(softmax(x)) along `dim`. */
export class LogSoftmax extends Module {
  constructor(readonly dim: number) {
    super();
    checkDim("LogSoftmax", dim);
  }

  forward(x: Tensor): Tensor {
    return x.logSoftmax(this.dim);
  }
}

/** x / (1 + |x|). */
export class Softsign extends Module {
  forward(x: Tensor): Tensor {
    return softsign(x);
  }
}

/** 1.0507 elu(x, 1.6733) (arXiv 1706.02515). */
export class SELU extends Module {
  forward(x: Tensor): Tensor {
    return selu(x);
  }
}

/** x tanh(softplus(x)) (arXiv 1908.08681). */
export class Mish extends Module {
  forward(x: Tensor): Tensor {
    return mish(x);
  }
}

/** x limited to [0, 6]. */
export class ReLU6 extends Module {
  forward(x: Tensor): Tensor {
    return relu6(x);
  }
}

/** relu6(x + 3) / 6. */
export class Hardsigmoid extends Module {
  forward(x: Tensor): Tensor {
    return hardsigmoid(x);
  }
}

/** x relu6(x + 3) / 6 (arXiv 1905.02244). */
export class Hardswish extends Module {
  forward(x: Tensor): Tensor {
    return hardswish(x);
  }
}

/** log(sigmoid(x)), without overflow. */
export class LogSigmoid extends Module {
  forward(x: Tensor): Tensor {
    return logsigmoid(x);
  }
}

/** x - tanh(x). */
export class Tanhshrink extends Module {
  forward(x: Tensor): Tensor {
    return tanhshrink(x);
  }
}

/** x where x > 0, else negativeSlope x. */
export class LeakyReLU extends Module {
  constructor(readonly negativeSlope = 0.01) {
    super();
    checkFinite("LeakyReLU", { negativeSlope });
  }

  forward(x: Tensor): Tensor {
    return leakyRelu(x, this.negativeSlope);
  }
}

/** x where x > 0, else alpha (exp(x) - 1) (arXiv 1511.07289). */
export class ELU extends Module {
  constructor(readonly alpha = 1) {
    super();
    checkFinite("ELU", { alpha });
  }

  forward(x: Tensor): Tensor {
    return elu(x, this.alpha);
  }
}

/** max(0, x) + min(0, alpha (exp(x / alpha) - 1)) (arXiv 1704.07483). */
export class CELU extends Module {
  constructor(readonly alpha = 1) {
    super();
    checkFinite("CELU", { alpha });
  }

  forward(x: Tensor): Tensor {
    return celu(x, this.alpha);
  }
}

/** x limited to [minVal, maxVal]. */
export class Hardtanh extends Module {
  constructor(
    readonly minVal = -1,
    readonly maxVal = 1,
  ) {
    super();
    checkFinite("Hardtanh", { minVal, maxVal });
  }

  forward(x: Tensor): Tensor {
    return hardtanh(x, this.minVal, this.maxVal);
  }
}

/** x outside [-lambd, lambd], else 0. */
export class Hardshrink extends Module {
  constructor(readonly lambd = 0.5) {
    super();
    checkFinite("Hardshrink", { lambd });
  }

  forward(x: Tensor): Tensor {
    return hardshrink(x, this.lambd);
  }
}

/** x moved towards 0 by lambd, and 0 within [-lambd, lambd]. */
export class Softshrink extends Module {
  constructor(readonly lambd = 0.5) {
    super();
    checkFinite("Softshrink", { lambd });
  }

  forward(x: Tensor): Tensor {
    return softshrink(x, this.lambd);
  }
}

/** x where x > threshold, else value. */
export class Threshold extends Module {
  constructor(
    readonly threshold: number,
    readonly value: number,
  ) {
    super();
    checkFinite("Threshold", { threshold, value });
  }

  forward(x: Tensor): Tensor {
    return threshold(x, this.threshold, this.value);
  }
}

/** log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold. */
export class Softplus extends Module {
  readonly options: SoftplusOptions;

  constructor(options: SoftplusOptions = {}) {
    super();
    checkOptions("Softplus", options, ["beta", "threshold"]);
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return softplus(x, this.options);
  }
}

/** The first half of `dim` times the sigmoid of the second half (arXiv 1612.08083). */
export class GLU extends Module {
  constructor(readonly dim = -1) {
    super();
    checkDim("GLU", dim);
  }

  forward(x: Tensor): Tensor {
    return glu(x, this.dim);
  }
}

/** softmax(-x) along `dim`. */
export class Softmin extends Module {
  constructor(readonly dim: number) {
    super();
    checkDim("Softmin", dim);
  }

  forward(x: Tensor): Tensor {
    return softmin(x, this.dim);
  }
}

/** x where x > 0, else weight x (arXiv 1502.01852). The weight is one number, or one per channel (dim 1); it starts at `init`. */
export class PReLU extends Module {
  weight: Tensor; // [numParameters]

  constructor(
    readonly numParameters = 1,
    options: { init?: number } = {},
  ) {
    super();
    checkOptions("PReLU", options, ["init"]);
    checkSizes("PReLU", { numParameters });
    this.weight = constant([numParameters], options.init ?? 0.25);
  }

  forward(x: Tensor): Tensor {
    return prelu(x, inDtypeOf(x, this.weight));
  }
}

function checkFinite(layer: string, numbers: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(numbers))
    if (!Number.isFinite(value)) throw new RangeError(`${layer}: ${name} must be finite, got ${value}`);
}

function checkDim(layer: string, dim: number): void {
  if (!Number.isInteger(dim)) throw new RangeError(`${layer}: dim must be an integer, got ${dim}`);
}
