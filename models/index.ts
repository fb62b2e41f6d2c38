export {
  Abstractor,
  type AbstractorConfig,
  type Adapter,
  Projector,
  type ProjectorOptions,
  pixelShuffle,
  SlotEmbedding,
} from "./adapter.ts";
export { anyresRows, anyresTiles, bestResolution, type Size, type TileLayout, tileGrid } from "./anyres.ts";
export { Assistant, type AssistantOptions } from "./assistant.ts";
export { fromPretrained } from "./auto.ts";
export { type Beam, beamSearch } from "./beam.ts";
export { type BpeOptions, trainBPE } from "./bpe.ts";
export { type CacheType, KVCache } from "./cache.ts";
export { type ChatMessage, type ChatOptions, chat, Processor } from "./chat.ts";
export { type ViTConfig, ViTForImageClassification } from "./classifier.ts";
export * from "./conversation.ts";
export * from "./data/index.ts";
export { decodeImage } from "./decode.ts";
export type { NewToken } from "./draw.ts";
export * from "./evaluate/index.ts";
export { generate, generateText, generateTokens, type Step, steps, textPrompt } from "./generate.ts";
export { loadGguf } from "./gguf.ts";
export * from "./image.ts";
export { attentionMaps, drawAttention, imageAttention, type LensToken, logitLens } from "./inspect.ts";
export {
  type DecoderInput,
  inverseFrequencies,
  type LlamaConfig,
  LlamaForCausalLM,
  type RopeScaling,
} from "./llama.ts";
export { Llava, type LlavaConfig } from "./llava.ts";
export {
  checkTokenizer,
  type LoadOptions,
  type LoadProgress,
  loadLlama,
  loadTokenizer,
  loadWeights,
  type Rename,
  saveModel,
} from "./load.ts";
export type { GenerateOptions, Prompt } from "./options.ts";
export { MplugOwl, type MplugOwlConfig, OwlVisionModel } from "./owl.ts";
export { MplugOwl2, type MplugOwl2Config } from "./owl2.ts";
export { type AdapterOptions, loadAdapter, saveAdapter } from "./peft.ts";
export { loadProjector, type ProjectorFileOptions, saveProjector } from "./projector.ts";
export { type Blip2Config, Blip2ImageEncoder, QFormer, type QFormerConfig } from "./qformer.ts";
export { Resampler, type ResamplerConfig, resamplerNames } from "./resampler.ts";
export { ChatSession, type SessionParts } from "./session.ts";
export { type SiglipConfig, SiglipVisionModel } from "./siglip.ts";
export type { ChatTemplateMessage, ChatTemplateOptions } from "./template.ts";
export {
  type DecodeOptions,
  type EncodeOptions,
  Tokenizer,
  type TokenizerConfig,
  type TokenizerJson,
} from "./tokenizer.ts";
export { loadVisionTower, visionTower } from "./tower.ts";
export {
  type Evaluation,
  type Pause,
  type Progress,
  parameterTable,
  type TrainOptions,
  type TrainResult,
  train,
} from "./train.ts";
export * from "./training/index.ts";
export { CLIPVisionModel, type VisionConfig, type VisionTower, ViT, ViTHeads } from "./vit.ts";
export { type ImageRows, type MergedInput, type VisionLanguageInput, VisionLanguageModel } from "./vlm.ts";
