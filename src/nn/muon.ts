import { numel, show } from "../graph/shape.ts";
import { pack } from "../ops/pack.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  checkFinite,
  checkOptions,
  isGroups,
  Optimizer,
  type OptimizerOptions,
  type ParameterGroup,
  scalar,
  type Update,
  zeroState,
} from "./optimizer.ts";

export interface MuonOptions extends OptimizerOptions {
  /** Decay of the momentum. Default 0.95. */
  momentum?: number;
  /** Nesterov's momentum. Default true. */
  nesterov?: boolean;
  /** Steps of the Newton-Schulz iteration. Default 5. */
  nsSteps?: number;
  /** Coefficients of its quintic polynomial. Default [3.4445, -4.775, 2.0315]. */
  nsCoefficients?: readonly [number, number, number];
  /** Least norm of a momentum. Default 1e-7. */
  eps?: number;
  /** Factor of the rate: sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)). Default "original". */
  adjustLr?: "original" | "match_rms_adamw";
  /** AdamW for parameters that are not matrices: biases, norms. Default lr 1e-3, betas [0.9, 0.999], eps 1e-8, weightDecay 0. */
  others?: { lr?: number; betas?: readonly [number, number]; eps?: number; weightDecay?: number };
}

/**
 * Steps along an orthogonal matrix near the momentum of each matrix, by Newton-Schulz iterations
 * (https://kellerjordan.github.io/posts/muon). Weight decay is decoupled. Default lr 1e-3, weightDecay 0.1. Embeddings and
 * output layers train better with AdamW: put them in an optimizer of their own.
 */
export class Muon extends Optimizer {
  readonly #options: Required<Omit<MuonOptions, keyof OptimizerOptions | "others">>;
  readonly #others: { betas: readonly [number, number]; eps: number };

  constructor(params: Iterable<Tensor> | readonly ParameterGroup[], options: MuonOptions = {}) {
    const { momentum = 0.95, nesterov = true, nsSteps = 5, eps = 1e-7, weightDecay = 0.1 } = options;
    const { nsCoefficients = [3.4445, -4.775, 2.0315], adjustLr = "original", others = {} } = options;
    checkOptions("Muon", options, ["momentum", "nesterov", "nsSteps", "nsCoefficients", "eps", "adjustLr", "others"]);
    checkFinite("Muon", { momentum, eps });
    if (!(Number.isInteger(nsSteps) && nsSteps > 0 && nsSteps < 100))
      throw new RangeError(`Muon: nsSteps must be a whole number from 1 to 99, got ${nsSteps}`);
    if (adjustLr !== "original" && adjustLr !== "match_rms_adamw")
      throw new TypeError(`Muon: adjustLr must be "original" or "match_rms_adamw", got ${JSON.stringify(adjustLr)}`);
    const list = [...params] as Tensor[] | ParameterGroup[];
    const groups = isGroups(list) ? list : [{ params: list }];
    for (const { params } of groups)
      for (const p of params)
        if (p.ndim > 2) throw new Error(`Muon: expected matrices and vectors, got a parameter ${show(p.shape)}`);
    const apart = groups.flatMap((group) => {
      const all = [...group.params];
      const rest = { lr: others.lr ?? 1e-3, weightDecay: others.weightDecay ?? 0 };
      return [
        { ...group, params: all.filter((p) => p.ndim === 2) },
        { ...rest, params: all.filter((p) => p.ndim !== 2) },
      ];
    });
    super("Muon", apart, { ...options, weightDecay }, (size, { params }) => ({
      m: zeroState(size),
      ...(params[0].ndim !== 2 && { v: zeroState(size) }),
    }));
    this.#options = { momentum, nesterov, nsSteps, nsCoefficients, eps, adjustLr };
    this.#others = { betas: others.betas ?? [0.9, 0.999], eps: others.eps ?? 1e-8 };
  }

  protected override update(update: Update): Tensor {
    return update.group.state.v ? this.#adamw(update) : this.#orthogonal(update);
  }

  #orthogonal({ group, p, g, lr, scale }: Update): Tensor {
    const { momentum, nesterov } = this.#options;
    const scaled = scale ? g.mul(scale) : g;
    const m = group.state.m.mul(momentum).add(scaled.mul(1 - momentum));
    assign(group.state.m, m);
    const u = nesterov ? scaled.mul(1 - momentum).add(m.mul(momentum)) : m;
    const directions = group.params.map(({ shape }, i) =>
      this.#orthogonalized(u.narrow(0, group.offsets[i], numel(shape)).reshape(shape)),
    );
    return p.mul(scalar(1 - lr * group.weightDecay)).sub(pack(directions).mul(scalar(lr)));
  }

  /** An orthogonal matrix near u, times the factor of the rate. */
  #orthogonalized(u: Tensor): Tensor {
    const { nsSteps, nsCoefficients, eps, adjustLr } = this.#options;
    const [a, b, c] = nsCoefficients;
    const [rows, columns] = u.shape;
    const tall = rows > columns;
    let x = tall ? u.t() : u;
    x = x.div(x.square().sum().sqrt().maximum(eps));
    for (let i = 0; i < nsSteps; i++) {
      const gram = x.matmul(x.t());
      x = x.mul(a).add(gram.mul(b).add(gram.matmul(gram).mul(c)).matmul(x));
    }
    const ratio =
      adjustLr === "original" ? Math.sqrt(Math.max(1, rows / columns)) : 0.2 * Math.sqrt(Math.max(rows, columns));
    return (tall ? x.t() : x).mul(ratio);
  }

  #adamw({ group, p, g, lr, scale, step: t }: Update): Tensor {
    const { betas, eps } = this.#others;
    const [b1, b2] = betas;
    const scaled = scale ? g.mul(scale) : g;
    const m = group.state.m.mul(b1).add(scaled.mul(1 - b1));
    const v = group.state.v.mul(b2).add(scaled.square().mul(1 - b2));
    assign(group.state.m, m);
    assign(group.state.v, v);
    const root = v
      .sqrt()
      .mul(scalar(1 / Math.sqrt(1 - b2 ** t)))
      .add(eps);
    return p.mul(scalar(1 - lr * group.weightDecay)).sub(m.div(root).mul(scalar(lr / (1 - b1 ** t))));
  }
}
