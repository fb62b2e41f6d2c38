/** Keys that published config.json files leave out: the defaults of the reference classes. */
import type { VisionConfig } from "../clip.ts";
import type { Rename } from "./load.ts";

export const llamaDefaults = {
  vocab_size: 32000,
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  max_position_embeddings: 2048,
} as const;

/** The published config of a vision tower, completed with the defaults of its reference class. */
export function completeVisionConfig(config: Partial<VisionConfig>): VisionConfig {
  return {
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    image_size: 224,
    patch_size: config.model_type === "clip_vision_model" || config.model_type === undefined ? 32 : 16,
    ...config,
  };
}

/** Weights of the text encoder in CLIP and SigLIP checkpoints, which are not loaded. */
export const besideVision: Rename[] = [
  [/^text_model\.|^visual_projection\.|^text_projection\.|^logit_(scale|bias)$/, null],
];
