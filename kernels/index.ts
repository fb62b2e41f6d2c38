/** The text of every kernel by file name. */
import adamw from "./adamw.wgsl";
import adamwInt8 from "./adamw_int8.wgsl";
import attention from "./attention.wgsl";
import attentionDecode from "./attention_decode.wgsl";
import attentionDkv from "./attention_dkv.wgsl";
import attentionDkvTiled from "./attention_dkv_tiled.wgsl";
import attentionDq from "./attention_dq.wgsl";
import attentionDqTiled from "./attention_dq_tiled.wgsl";
import attentionMerge from "./attention_merge.wgsl";
import attentionStats from "./attention_stats.wgsl";
import attentionTiled from "./attention_tiled.wgsl";
import crossEntropy from "./cross_entropy.wgsl";
import crossEntropyBackward from "./cross_entropy_backward.wgsl";
import cumsum from "./cumsum.wgsl";
import indexAdd from "./index_add.wgsl";
import indexAddSerial from "./index_add_serial.wgsl";
import indexLinks from "./index_links.wgsl";
import matmul from "./matmul.wgsl";
import matmulInt8 from "./matmul_int8.wgsl";
import matmulSubgroupMatrix from "./matmul_subgroup_matrix.wgsl";
import matmulTiled from "./matmul_tiled.wgsl";
import matmulWorkgroup from "./matmul_workgroup.wgsl";
import matvec from "./matvec.wgsl";
import matvec_quantized from "./matvec_quantized.wgsl";
import norm from "./norm.wgsl";
import normBackward from "./norm_backward.wgsl";
import quantizeRows from "./quantize_rows.wgsl";
import rope from "./rope.wgsl";
import sample from "./sample.wgsl";
import scatterAdd from "./scatter_add.wgsl";
import softmax from "./softmax.wgsl";
import softmaxBackward from "./softmax_backward.wgsl";
import sumParts from "./sum_parts.wgsl";
import topk from "./topk.wgsl";
import transpose from "./transpose.wgsl";
import writeAt from "./write_at.wgsl";
import writeInt8 from "./write_int8.wgsl";

const sources: Record<string, string> = {
  adamw,
  adamw_int8: adamwInt8,
  attention,
  attention_decode: attentionDecode,
  attention_dkv: attentionDkv,
  attention_dkv_tiled: attentionDkvTiled,
  attention_dq: attentionDq,
  attention_dq_tiled: attentionDqTiled,
  attention_merge: attentionMerge,
  attention_stats: attentionStats,
  attention_tiled: attentionTiled,
  cross_entropy: crossEntropy,
  cross_entropy_backward: crossEntropyBackward,
  cumsum,
  index_add: indexAdd,
  index_add_serial: indexAddSerial,
  index_links: indexLinks,
  matmul,
  matmul_int8: matmulInt8,
  matmul_subgroup_matrix: matmulSubgroupMatrix,
  matmul_tiled: matmulTiled,
  matmul_workgroup: matmulWorkgroup,
  matvec,
  matvec_quantized,
  norm,
  norm_backward: normBackward,
  quantize_rows: quantizeRows,
  rope,
  sample,
  scatter_add: scatterAdd,
  softmax,
  softmax_backward: softmaxBackward,
  sum_parts: sumParts,
  topk,
  transpose,
  write_at: writeAt,
  write_int8: writeInt8,
};

/** Makes a kernel known that is not in this folder: an op defined elsewhere names it in its `lower`. */
export function addKernel(name: string, source: string): void {
  if (sources[name]) throw new Error(`there is a kernel ${name} already`);
  sources[name] = source;
}

export function kernelSource(name: string): string {
  const source = sources[name];
  if (!source) throw new Error(`there is no kernel ${name}; kernels: ${Object.keys(sources).join(", ")}`);
  return source;
}

export const kernelNames = (): string[] => Object.keys(sources);
