/** The models: architectures, and loading them from checkpoint folders. */
export {
  Abstractor,
  type AbstractorConfig,
  type Adapter,
  Projector,
  type ProjectorOptions,
  pixelShuffle,
  SlotEmbedding,
} from "./adapter.ts";
export { type LoadOptions, type LoadProgress, loadWeights, type Rename, saveModel } from "./checkpoints/load.ts";
export { type AdapterOptions, loadAdapter, saveAdapter } from "./checkpoints/peft.ts";
export { loadProjector, type ProjectorFileOptions, saveProjector } from "./checkpoints/projector.ts";
export { type ViTConfig, ViTForImageClassification } from "./classifier.ts";
export {
  type DecoderInput,
  inverseFrequencies,
  type LlamaConfig,
  LlamaForCausalLM,
  loadLlama,
  type RopeScaling,
} from "./llama.ts";
export { Llava, type LlavaConfig } from "./llava.ts";
export { MplugOwl, type MplugOwlConfig, OwlVisionModel } from "./owl.ts";
export { MplugOwl2, type MplugOwl2Config } from "./owl2.ts";
export { type Blip2Config, Blip2ImageEncoder, QFormer, type QFormerConfig } from "./qformer.ts";
export { fromPretrained, loadGguf } from "./registry.ts";
export { Resampler, type ResamplerConfig, resamplerNames } from "./resampler.ts";
export { type SiglipConfig, SiglipVisionModel } from "./siglip.ts";
export { loadVisionTower, visionTower } from "./tower.ts";
export { CLIPVisionModel, type VisionConfig, type VisionTower, ViT, ViTHeads } from "./vit.ts";
export { type ImageRows, type MergedInput, type VisionLanguageInput, VisionLanguageModel } from "./vlm.ts";
