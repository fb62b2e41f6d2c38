import type { Lower } from "../graph/kernel-call.ts";
import { lowerAttention, lowerAttentionBackward } from "./attention.ts";
import { lowerWriteAt, lowerWriteInt8 } from "./cache-write.ts";
import {
  lowerChannelMoments,
  lowerChannelSums,
  lowerConv,
  lowerConvWeight,
  lowerConvWindows,
  lowerMaxPool,
} from "./conv.ts";
import { lowerCholesky, lowerEigh, lowerLu, lowerOrthogonalColumns, lowerQr, lowerTriangularSolve } from "./factor.ts";
import { lowerIndexAdd, lowerIndexSum, lowerLastWriter, lowerScatterAdd, lowerScatterReduce } from "./gather.ts";
import { lowerCrossEntropy, lowerCrossEntropyBackward } from "./loss.ts";
import { lowerMatmul } from "./matmul.ts";
import { lowerAdamw, lowerAdamwInt8 } from "./optim.ts";
import { lowerQuantizedMatmul } from "./quantized.ts";
import { lowerRope } from "./rope.ts";
import {
  lowerLayerNorm,
  lowerLayerNormBackward,
  lowerLogSoftmax,
  lowerLogSoftmaxBackward,
  lowerRmsNorm,
  lowerRmsNormBackward,
  lowerSoftmax,
  lowerSoftmaxBackward,
} from "./rows.ts";
import { lowerSample } from "./sample.ts";
import { lowerCumsum, lowerScan } from "./scan.ts";
import { lowerArgsort, lowerSearchsorted, lowerTopk } from "./sort.ts";

/** Op name → its lowering to template kernels. An op without a lowering runs as its fallback. */
const table = new Map<string, Lower>(
  Object.entries({
    adamw: lowerAdamw,
    adamw_int8: lowerAdamwInt8,
    argsort: lowerArgsort,
    attention: lowerAttention,
    attention_backward: lowerAttentionBackward,
    channel_moments: lowerChannelMoments,
    channel_sums: lowerChannelSums,
    cholesky: lowerCholesky,
    conv: lowerConv,
    conv_weight_windows: lowerConvWeight,
    conv_windows: lowerConvWindows,
    cross_entropy: lowerCrossEntropy,
    cross_entropy_backward: lowerCrossEntropyBackward,
    cumsum: lowerCumsum,
    eigh: lowerEigh,
    index_add: lowerIndexAdd,
    index_sum: lowerIndexSum,
    last_writer: lowerLastWriter,
    layer_norm: lowerLayerNorm,
    layer_norm_backward: lowerLayerNormBackward,
    log_softmax: lowerLogSoftmax,
    log_softmax_backward: lowerLogSoftmaxBackward,
    lu: lowerLu,
    matmul: lowerMatmul,
    max_pool_indices: lowerMaxPool,
    orthogonal_columns: lowerOrthogonalColumns,
    qr: lowerQr,
    quantized_matmul: lowerQuantizedMatmul,
    rms_norm: lowerRmsNorm,
    rms_norm_backward: lowerRmsNormBackward,
    rope: lowerRope,
    sample: lowerSample,
    scan: lowerScan,
    scatter_add: lowerScatterAdd,
    scatter_reduce: lowerScatterReduce,
    searchsorted: lowerSearchsorted,
    softmax: lowerSoftmax,
    softmax_backward: lowerSoftmaxBackward,
    topk: lowerTopk,
    triangular_solve: lowerTriangularSolve,
    write_at: lowerWriteAt,
    write_int8: lowerWriteInt8,
  }),
);

/** Lowerings from outside the package, the latest first. */
const added = new Map<string, readonly Lower[]>();

/** The lowering of an op, if it has one: the first of those added that takes the node, else the library's. */
export function loweringOf(op: string): Lower | undefined {
  const [own, base] = [added.get(op) ?? [], table.get(op)];
  if (own.length === 0) return base;
  return (node, cx) => {
    for (const lower of own) {
      const calls = lower(node, cx);
      if (calls) return calls;
    }
    return base?.(node, cx);
  };
}

let version = 0;

/** Counts the changes of the table. A plan compiled at another version is out of date. */
export const loweringVersion = (): number => version;

/** Adds a lowering of an op, which is asked before the others. Returns a function that takes it away, in any order. */
export function addLowering(op: string, lower: Lower): () => void {
  const own: Lower = (node, cx) => lower(node, cx); // one function each, if the same is added twice
  added.set(op, [own, ...(added.get(op) ?? [])]);
  version++;
  return () => {
    const rest = (added.get(op) ?? []).filter((other) => other !== own);
    if (rest.length === added.get(op)?.length) return;
    added.set(op, rest);
    version++;
  };
}
