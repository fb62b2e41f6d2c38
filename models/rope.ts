import type { LlamaConfig } from "./llama.ts";

export interface RopeScaling {
  rope_type?: string;
  type?: string;
  factor?: number;
  low_freq_factor?: number;
  high_freq_factor?: number;
  original_max_position_embeddings?: number;
  /** For "factors": divisor of the frequency of each pair of channels. */
  factors?: readonly number[];
}

/** Rotary frequencies of each pair of channels, [head_dim / 2]. */
export function inverseFrequencies(config: LlamaConfig): Float32Array {
  const { hidden_size: d, num_attention_heads: heads, head_dim: dim = d / heads } = config;
  const { rope_theta: theta = 10000, rope_scaling: scaling } = config;
  const plain = Float32Array.from({ length: dim / 2 }, (_, i) => theta ** ((-2 * i) / dim));
  const type = scaling?.rope_type ?? scaling?.type ?? "default";
  if (!scaling || type === "default") return plain;
  const { factor = 1 } = scaling;
  if (type === "factors") return plain.map((f, i) => f / scaling.factors![i]);
  if (type === "linear") return plain.map((f) => f / factor);
  if (type !== "llama3")
    throw new Error(`rope_scaling type "${type}" is not supported; known are default, linear, llama3, factors`);
  // Llama 3.1: long wavelengths grow by `factor`, short ones stay, those between are interpolated.
  const {
    low_freq_factor: low = 1,
    high_freq_factor: high = 4,
    original_max_position_embeddings: length = 8192,
  } = scaling;
  return plain.map((f) => {
    const rotations = (length * f) / (2 * Math.PI); // within the original context
    const keep = Math.min(1, Math.max(0, (rotations - low) / (high - low)));
    return (1 - keep) * (f / factor) + keep * f;
  });
}
