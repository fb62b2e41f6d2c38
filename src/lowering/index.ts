import type { Lower } from "../graph/kernel-call.ts";
import { lowerAttention, lowerAttentionBackward } from "./attention.ts";
import { lowerWriteAt, lowerWriteInt8 } from "./cache-write.ts";
import { lowerCumsum, lowerIndexAdd, lowerIndexSum, lowerScatterAdd, lowerTopk } from "./gather.ts";
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

/** Op name → its lowering to template kernels. An op without a lowering runs as its fallback. */
const table = new Map<string, Lower>(
  Object.entries({
    adamw: lowerAdamw,
    adamw_int8: lowerAdamwInt8,
    attention: lowerAttention,
    attention_backward: lowerAttentionBackward,
    cross_entropy: lowerCrossEntropy,
    cross_entropy_backward: lowerCrossEntropyBackward,
    cumsum: lowerCumsum,
    index_add: lowerIndexAdd,
    index_sum: lowerIndexSum,
    layer_norm: lowerLayerNorm,
    layer_norm_backward: lowerLayerNormBackward,
    log_softmax: lowerLogSoftmax,
    log_softmax_backward: lowerLogSoftmaxBackward,
    matmul: lowerMatmul,
    quantized_matmul: lowerQuantizedMatmul,
    rms_norm: lowerRmsNorm,
    rms_norm_backward: lowerRmsNormBackward,
    rope: lowerRope,
    sample: lowerSample,
    scatter_add: lowerScatterAdd,
    softmax: lowerSoftmax,
    softmax_backward: lowerSoftmaxBackward,
    topk: lowerTopk,
    write_at: lowerWriteAt,
    write_int8: lowerWriteInt8,
  }),
);

/** The lowering of an op, if it has one. */
export const loweringOf = (op: string): Lower | undefined => table.get(op);

let version = 0;

/** Counts the changes of the table. A plan compiled at another version is out of date. */
export const loweringVersion = (): number => version;

/** Adds or replaces the lowering of an op. Returns the previous one. */
export function setLowering(op: string, lower: Lower): Lower | undefined {
  const before = table.get(op);
  table.set(op, lower);
  version++;
  return before;
}

/** Sets the lowering of an op, or removes it if `lower` is undefined. */
export function restoreLowering(op: string, lower: Lower | undefined): void {
  if (lower) table.set(op, lower);
  else table.delete(op);
  version++;
}
