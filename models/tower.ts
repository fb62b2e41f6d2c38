/** The vision towers by `model_type`. A new tower needs its own file and one line here. */
import { type FileSource, openCheckpoint, openFolder } from "../src/io/index.ts";
import { besideVision, completeVisionConfig } from "./checkpoints/defaults.ts";
import { type LoadOptions, loadModel } from "./checkpoints/load.ts";
import { CLIPVisionModel, type VisionConfig } from "./clip.ts";
import { SiglipVisionModel } from "./siglip.ts";
import { ViT } from "./vit.ts";

export const towers = {
  clip_vision_model: CLIPVisionModel,
  siglip_vision_model: SiglipVisionModel,
  vit_conv_stem: ViT,
};

/** The vision tower that a config describes, by its `model_type` (default CLIP), with initial values. @throws if unknown. */
export function visionTower(config: VisionConfig): CLIPVisionModel | SiglipVisionModel | ViT {
  const type = config.model_type ?? "clip_vision_model";
  if (!(type in towers)) {
    throw new Error(`vision tower "${type}" is not supported; known are ${Object.keys(towers).join(", ")}`);
  }
  return new towers[type as keyof typeof towers](config);
}

/** Loads a vision tower alone, also from a checkpoint with both towers (CLIP, SigLIP). */
export async function loadVisionTower(
  where: string | FileSource,
  options?: LoadOptions,
): Promise<CLIPVisionModel | SiglipVisionModel | ViT> {
  const source = await openFolder(where);
  const { config, tensors } = await openCheckpoint(source);
  const make = () => visionTower(completeVisionConfig(config.vision_config ?? config));
  return loadModel(source, make, [tensors], besideVision, options);
}
