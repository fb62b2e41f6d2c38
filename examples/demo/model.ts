/** The demo's LLaVA: a small ViT, a projector with pixel shuffle and mean token, a small LLaMA. */

import { Llava, type LlavaConfig, ViTHeads } from "../../models/index.ts";
import type { Module } from "../../src/nn/index.ts";
import { type HeadClasses, TILE_TOKENS } from "./batches.ts";
import { TILE } from "./draw.ts";
import { BOS, EOS, IMAGE, PAD } from "./pack.ts";
import { Random } from "./random.ts";

export interface Size {
  visionDim: number;
  visionLayers: number;
  textDim: number;
  textLayers: number;
  /** Inner width of the SwiGLU. */
  textInner: number;
  vocabulary: number;
}

/** Channels of one attention head, in both towers. */
const HEAD = 32;

export function llavaConfig(size: Size): LlavaConfig {
  const { visionDim, textDim } = size;
  return {
    model_type: "llava",
    image_token_index: IMAGE,
    vision_feature_layer: -1,
    vision_feature_select_strategy: "full",
    mm_projector_type: "mlp2x_gelu",
    projector_hidden_act: "gelu",
    projector_pixel_shuffle: 2,
    projector_mean_token: true,
    projector_slots: 4 * TILE_TOKENS,
    vision_config: {
      model_type: "vit_conv_stem",
      hidden_size: visionDim,
      intermediate_size: 4 * visionDim,
      num_hidden_layers: size.visionLayers,
      num_attention_heads: visionDim / HEAD,
      image_size: TILE,
      patch_size: 8,
      stem_channels: [visionDim / 4, visionDim / 2, visionDim],
      hidden_act: "gelu",
    },
    text_config: {
      model_type: "llama",
      vocab_size: size.vocabulary,
      hidden_size: textDim,
      intermediate_size: size.textInner,
      num_hidden_layers: size.textLayers,
      num_attention_heads: textDim / HEAD,
      hidden_act: "silu",
      rms_norm_eps: 1e-5,
      tie_word_embeddings: true,
      logit_scale: 4 / Math.sqrt(textDim),
      max_position_embeddings: 128,
      bos_token_id: BOS,
      eos_token_id: EOS,
      pad_token_id: PAD,
    },
  };
}

export function createModel(size: Size, seed: number, change: Partial<LlavaConfig> = {}): Llava {
  const model = new Llava({ ...llavaConfig(size), ...change });
  initialise(model, seed, 2 * Math.max(size.visionLayers, size.textLayers));
  return model;
}

export function createHeads(model: Llava, classes: HeadClasses, tagWords: number, seed: number): ViTHeads {
  const heads = new ViTHeads(model.config.vision_config.hidden_size, { ...classes, tags: tagWords });
  initialise(heads, seed + 1, 1);
  return heads;
}

/**
 * Initial values for small matrices, smaller than PyTorch's defaults: normal with 0.7/√fan-in, outputs of residual branches
 * divided by the root of their number, word embeddings 1/√dim, biases 0.
 */
export function initialise(model: Module, seed: number, branches: number): void {
  const random = new Random(seed);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  for (const [name, { shape, numel }] of model.namedParameters()) {
    const leaf = name.split(".").slice(-2).join(".");
    if (/norm/.test(leaf) || /position_embedding|image_slots/.test(name)) continue;
    let std = 0.7 / Math.sqrt(shape.slice(1).reduce((a, b) => a * b, 1));
    if (/embed_tokens/.test(name)) std = 1 / Math.sqrt(shape[1]);
    if (/(out_proj|fc2|o_proj|down_proj)\.weight/.test(leaf)) std /= Math.sqrt(branches);
    const data = Float32Array.from({ length: numel }, () => (leaf.endsWith(".bias") ? 0 : std * normal()));
    model.loadStateDict({ [name]: { data, shape, dtype: "f32" } }, { strict: false });
  }
}

/** FLOPs (multiply and add are two) of one forward pass: of the ViT on a tile, of the LLaMA on a row, of its head on a label. */
export function forwardFlops(config: LlavaConfig): { tile: number; row(length: number): number; label: number } {
  const { vision_config: v, text_config: t } = config;
  let side = v.image_size;
  let stem = 0;
  [3, ...v.stem_channels!].reduce((from, to) => {
    side /= 2;
    stem += 2 * 9 * from * to * side * side;
    return to;
  });
  const patches = side * side;
  const d = v.hidden_size;
  const tile =
    stem + v.num_hidden_layers * (2 * patches * (4 * d * d + 2 * d * v.intermediate_size) + 4 * patches * patches * d);
  const linear = t.num_hidden_layers * (4 * t.hidden_size ** 2 + 3 * t.hidden_size * t.intermediate_size);
  return {
    tile,
    row: (length) => 2 * length * linear + t.num_hidden_layers * 4 * length * length * t.hidden_size,
    label: 2 * t.hidden_size * t.vocab_size,
  };
}
