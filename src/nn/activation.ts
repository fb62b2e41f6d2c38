import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

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

function checkDim(layer: string, dim: number): void {
  if (!Number.isInteger(dim)) throw new RangeError(`${layer}: dim must be an integer, got ${dim}`);
}
