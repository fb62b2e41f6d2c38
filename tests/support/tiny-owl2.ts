import type { MplugOwl2Config } from "../../models/owl2.ts";

/** A few thousand parameters of mPLUG-Owl2, without a vocabulary. */
export const tinyOwl2 = {
  hidden_size: 24,
  intermediate_size: 28,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  visual_config: {
    visual_model: {
      hidden_size: 16,
      intermediate_size: 20,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      image_size: 12,
      patch_size: 4,
    },
    visual_abstractor: {
      hidden_size: 16,
      intermediate_size: 20,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_learnable_queries: 5,
    },
  },
} satisfies Omit<MplugOwl2Config, "vocab_size">;
