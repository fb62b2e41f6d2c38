import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import { batchNorm, instanceNorm, type Normalized, tensor } from "../ops/functional.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { constant } from "./init.ts";
import { Module } from "./module.ts";
import { inDtypeOf } from "./precision.ts";

/** Options of the norms that can keep running statistics. */
export interface RunningNormOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /**
   * Weight of a new batch in the running statistics. Default 0.1. null: batch norms take plain averages over all batches,
   * instance norms leave them as they are, as torch does.
   */
  momentum?: number | null;
  /** Learnt weight and bias. */
  affine?: boolean;
  /** Keep the running statistics that `eval` mode uses. */
  trackRunningStats?: boolean;
}

/** Weight, bias and running statistics per channel. */
abstract class RunningNorm extends Module {
  weight?: Tensor; // [C]
  bias?: Tensor; // [C]
  running_mean?: Tensor; // [C]
  running_var?: Tensor; // [C], with divisor n - 1
  num_batches_tracked?: Tensor; // i32 []; stays 0 in instance norms, as in torch
  readonly eps: number;
  readonly momentum: number | null;

  constructor(
    readonly numFeatures: number,
    options: RunningNormOptions,
    { affine, trackRunningStats }: { affine: boolean; trackRunningStats: boolean },
  ) {
    super();
    const layer = new.target.name;
    checkOptions(layer, options, ["eps", "momentum", "affine", "trackRunningStats"]);
    checkSizes(layer, { numFeatures });
    const { eps = 1e-5, momentum = 0.1 } = options;
    if (!(eps >= 0 && Number.isFinite(eps))) throw new RangeError(`${layer}: eps must be finite and >= 0, got ${eps}`);
    if (momentum !== null && !(momentum >= 0 && momentum <= 1))
      throw new RangeError(`${layer}: momentum must be null or in [0, 1], got ${momentum}`);
    this.eps = eps;
    this.momentum = momentum;
    if (options.affine ?? affine) {
      this.weight = constant([numFeatures], 1);
      this.bias = constant([numFeatures], 0);
    }
    if (!(options.trackRunningStats ?? trackRunningStats)) return;
    this.registerBuffer("running_mean", constant([numFeatures], 0).requiresGrad_(false));
    this.registerBuffer("running_var", constant([numFeatures], 1).requiresGrad_(false));
    this.registerBuffer("num_batches_tracked", tensor(Int32Array.of(0), { shape: [] }));
  }

  /** Checks x [N, C, ...] with one of the given ranks. */
  protected check(x: Tensor, ranks: readonly number[], layout: string): void {
    if (!ranks.includes(x.ndim) || x.shape[1] !== this.numFeatures)
      throw new Error(
        `${this.constructor.name}: expected ${layout} with C = ${this.numFeatures}, got ${show(x.shape)}`,
      );
  }

  /** The vectors for the functions `batchNorm` and `instanceNorm`. */
  protected vectors(x: Tensor, momentum: number | Tensor) {
    const { running_mean: runningMean, running_var: runningVar, eps } = this;
    return {
      weight: this.weight && inDtypeOf(x, this.weight),
      bias: this.bias && inDtypeOf(x, this.bias),
      runningMean,
      runningVar,
      momentum,
      eps,
    };
  }

  /** Updates the running statistics in place, with the next flush. */
  protected update({ runningMean, runningVar }: Normalized): void {
    if (!this.running_mean || !this.running_var) return;
    assign(this.running_mean, runningMean!.to(this.running_mean.dtype));
    assign(this.running_var, runningVar!.to(this.running_var.dtype));
  }
}

abstract class BatchNorm extends RunningNorm {
  constructor(numFeatures: number, options: RunningNormOptions = {}) {
    super(numFeatures, options, { affine: true, trackRunningStats: true });
  }

  protected normalize(x: Tensor): Tensor {
    const training = this.training || !this.running_mean;
    const batches = this.num_batches_tracked?.add(1);
    const momentum = this.momentum ?? batches?.float().reciprocal() ?? 0;
    const result = batchNorm(x, { ...this.vectors(x, momentum), training });
    if (this.training) {
      this.update(result);
      if (batches) assign(this.num_batches_tracked!, batches);
    }
    return result.output;
  }
}

/**
 * Batch norm of [N, C] or [N, C, L] (arXiv 1502.03167). In training it uses the statistics of the batch and updates the running
 * ones, in place, with the next flush; in `eval` mode it uses the running ones, which are buffers.
 * @example new BatchNorm1d(64, { momentum: 0.01 })
 */
export class BatchNorm1d extends BatchNorm {
  forward(x: Tensor): Tensor {
    this.check(x, [2, 3], "[N, C] or [N, C, L]");
    return this.normalize(x);
  }
}

/** Batch norm of [N, C, H, W], as `BatchNorm1d`. */
export class BatchNorm2d extends BatchNorm {
  forward(x: Tensor): Tensor {
    this.check(x, [4], "[N, C, H, W]");
    return this.normalize(x);
  }
}

/** Batch norm of [N, C, D, H, W], as `BatchNorm1d`. */
export class BatchNorm3d extends BatchNorm {
  forward(x: Tensor): Tensor {
    this.check(x, [5], "[N, C, D, H, W]");
    return this.normalize(x);
  }
}

abstract class InstanceNorm extends RunningNorm {
  constructor(numFeatures: number, options: RunningNormOptions = {}) {
    super(numFeatures, options, { affine: false, trackRunningStats: false });
  }

  /** x [N, C, ...] with `rank` dims, or without N. */
  protected normalize(x: Tensor, rank: number, layout: string): Tensor {
    if (x.ndim === rank - 1) return this.normalize(x.unsqueeze(0), rank, layout).squeeze(0);
    this.check(x, [rank], layout);
    const useInputStats = this.training || !this.running_mean;
    const result = instanceNorm(x, { ...this.vectors(x, this.momentum ?? 0), useInputStats });
    if (this.training) this.update(result);
    return result.output;
  }
}

/**
 * Normalises each channel of each sample: [N, C, L] or [C, L] (arXiv 1607.08022). No weight, bias or running statistics unless
 * asked for.
 * @example new InstanceNorm1d(64, { affine: true })
 */
export class InstanceNorm1d extends InstanceNorm {
  forward(x: Tensor): Tensor {
    return this.normalize(x, 3, "[N, C, L]");
  }
}

/** Instance norm of [N, C, H, W] or [C, H, W], as `InstanceNorm1d`. */
export class InstanceNorm2d extends InstanceNorm {
  forward(x: Tensor): Tensor {
    return this.normalize(x, 4, "[N, C, H, W]");
  }
}

/** Instance norm of [N, C, D, H, W] or [C, D, H, W], as `InstanceNorm1d`. */
export class InstanceNorm3d extends InstanceNorm {
  forward(x: Tensor): Tensor {
    return this.normalize(x, 5, "[N, C, D, H, W]");
  }
}
