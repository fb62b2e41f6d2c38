/** The models: architectures, and loading them from checkpoint folders. */

/** Also in shadegrad/generate: a model and its text in one import. */
export { generate, textPrompt } from "../src/generate/index.ts";
export { type DecodeOptions, decodeImage } from "../src/image/index.ts";
export { Abstractor, type AbstractorConfig } from "./abstractor.ts";
export type { LlavaConfig, LlavaLoadOptions } from "./checkpoints/llava.ts";
export {
  type LoadOptions,
  type LoadProgress,
  loadModel,
  loadWeights,
  type Rename,
  saveModel,
} from "./checkpoints/load.ts";
export { type AdapterOptions, loadAdapter, saveAdapter } from "./checkpoints/peft.ts";
export { loadProjector, type ProjectorFileOptions, saveProjector } from "./checkpoints/projector.ts";
export { type ViTConfig, ViTForImageClassification } from "./classifier.ts";
export { CLIPVisionModel, type VisionConfig, type VisionTower } from "./clip.ts";
export { languageModel, loadLlama } from "./language.ts";
export {
  type DecoderFamily,
  type DecoderInput,
  type DecoderPart,
  type LlamaConfig,
  LlamaForCausalLM,
} from "./llama.ts";
export {
  type Adapter,
  Llava,
  Projector,
  type ProjectorOptions,
  pixelShuffle,
} from "./llava.ts";
export { MistralForCausalLM } from "./mistral.ts";
export { MplugOwl, type MplugOwlConfig, OwlVisionModel } from "./owl.ts";
export { MplugOwl2, type MplugOwl2Config } from "./owl2.ts";
export { type Blip2Config, Blip2ImageEncoder, QFormer, type QFormerConfig } from "./qformer.ts";
export { Qwen2ForCausalLM } from "./qwen2.ts";
export { fromPretrained, type Loadable, loadGguf, registerModel } from "./registry.ts";
export { Resampler, type ResamplerConfig, resamplerNames } from "./resampler.ts";
export { inverseFrequencies, type RopeScaling } from "./rope.ts";
export { type SiglipConfig, SiglipVisionModel } from "./siglip.ts";
export { SlotEmbedding } from "./tiles.ts";
export { loadVisionTower, visionTower } from "./tower.ts";
export { ViT, ViTHeads } from "./vit.ts";
export { type ImageRows, type MergedInput, type VisionLanguageInput, VisionLanguageModel } from "./vlm.ts";
