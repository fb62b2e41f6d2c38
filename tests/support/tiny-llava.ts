/** The tiny LLaVA of the tests: every size small, and configs of other sizes from it by their differences. */
import type { LlavaConfig } from "../../models/checkpoints/llava.ts";
import { Llava } from "../../models/llava.ts";
import { manualSeed } from "../../src/index.ts";

/** The image token of `tinyConfig`. */
export const IMAGE = 9;

/** Differences from `tinyConfig`. */
export interface TinyOptions extends Partial<Omit<LlavaConfig, "text_config" | "vision_config">> {
  text?: Partial<LlavaConfig["text_config"]>;
  vision?: Partial<LlavaConfig["vision_config"]>;
}

/** 4 x 4 pixels in 4 patches, a tower 8 wide, a decoder 16 wide with two layers, 12 token ids. */
export const tinyConfig = ({ text, vision, ...rest }: TinyOptions = {}): LlavaConfig => ({
  text_config: {
    vocab_size: 12,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    ...text,
  },
  vision_config: {
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    image_size: 4,
    patch_size: 2,
    ...vision,
  },
  image_token_index: IMAGE,
  ...rest,
});

/** A tiny LLaVA with the initial values of `seed`. */
export function tinyLlava(options?: TinyOptions, seed = 3): Llava {
  manualSeed(seed);
  return new Llava(tinyConfig(options));
}
