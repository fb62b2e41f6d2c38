import { type FileSource, openCheckpoint, openFolder } from "../src/io/index.ts";
import { type LoadOptions, loadModel, type Rename } from "./checkpoints/load.ts";
import { SiglipVisionModel } from "./siglip.ts";
import { CLIPVisionModel, type VisionConfig, ViT } from "./vit.ts";

const towers = { clip_vision_model: CLIPVisionModel, siglip_vision_model: SiglipVisionModel, vit_conv_stem: ViT };

/** A config as published, with the defaults of the reference class where it leaves keys out. */
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

/** Makes the encoder of images that a config describes, by its model_type (default CLIP). */
export function visionTower(config: VisionConfig): CLIPVisionModel | SiglipVisionModel | ViT {
  const type = config.model_type ?? "clip_vision_model";
  if (!(type in towers)) {
    throw new Error(`vision tower "${type}" is not supported; known are ${Object.keys(towers).join(", ")}`);
  }
  return new towers[type as keyof typeof towers](config);
}

/** What CLIP and SigLIP checkpoints hold besides the vision encoder. */
export const besideVision: Rename[] = [
  [/^text_model\.|^visual_projection\.|^text_projection\.|^logit_(scale|bias)$/, null],
];

/** Loads a vision tower alone, also out of a checkpoint of the whole two-tower model. */
export async function loadVisionTower(
  where: string | FileSource,
  options?: LoadOptions,
): Promise<CLIPVisionModel | SiglipVisionModel | ViT> {
  const source = await openFolder(where);
  const { config, tensors } = await openCheckpoint(source);
  const make = () => visionTower(completeVisionConfig(config.vision_config ?? config));
  return loadModel(source, make, [tensors], besideVision, options);
}
