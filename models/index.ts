export {
  Abstractor,
  type AbstractorConfig,
  type Adapter,
  Projector,
  type ProjectorOptions,
  pixelShuffle,
  SlotEmbedding,
} from "./adapter.ts";
export { type BpeOptions, trainBPE } from "./bpe.ts";
export { KVCache } from "./cache.ts";
export * from "./conversation.ts";
export {
  type GenerateOptions,
  generate,
  generateText,
  type Prompt,
  type SamplingOptions,
  type Step,
  steps,
  textPrompt,
} from "./generate.ts";
export * from "./image.ts";
export {
  type DecoderInput,
  inverseFrequencies,
  type LlamaConfig,
  LlamaForCausalLM,
  type RopeScaling,
} from "./llama.ts";
export { loadCLIPVision, loadLlama, loadWeights, type Rename } from "./load.ts";
export { type DecodeOptions, type EncodeOptions, Tokenizer, type TokenizerJson } from "./tokenizer.ts";
export { type Progress, parameterTable, type TrainOptions, type TrainResult, train } from "./train.ts";
export { CLIPVisionModel, type VisionConfig, type VisionTower, ViT, ViTHeads, visionTower } from "./vit.ts";
export { Llava, type LlavaConfig, type LlavaInput, type MergedInput } from "./vlm.ts";
