/** The text of every kernel by file name. */
import attention from "./attention.wgsl";
import attentionDkv from "./attention_dkv.wgsl";
import attentionDq from "./attention_dq.wgsl";
import attentionStats from "./attention_stats.wgsl";
import matmul from "./matmul.wgsl";
import matmulSplit from "./matmul_split.wgsl";
import matmulTiled from "./matmul_tiled.wgsl";
import matvec from "./matvec.wgsl";
import softmax from "./softmax.wgsl";
import softmaxBackward from "./softmax_backward.wgsl";

const sources: Record<string, string> = {
  attention,
  attention_dkv: attentionDkv,
  attention_dq: attentionDq,
  attention_stats: attentionStats,
  matmul,
  matmul_split: matmulSplit,
  matmul_tiled: matmulTiled,
  matvec,
  softmax,
  softmax_backward: softmaxBackward,
};

export function kernelSource(name: string): string {
  const source = sources[name];
  if (!source) throw new Error(`there is no kernel ${name}; kernels: ${Object.keys(sources).join(", ")}`);
  return source;
}

export const kernelNames = (): string[] => Object.keys(sources);
