/** Generation: sampling, beams, prompt lookup, the key/value cache, and chat prompts with images. */
import "../tensor/methods/index.ts";

export { bucket } from "./batch.ts";
export { type Beam, beamSearch } from "./beam.ts";
export { type CacheSizes, type CacheType, KVCache } from "./cache.ts";
export {
  type ChatMessage,
  type ChatOptions,
  type ChatPrompt,
  chat,
  chatPrompt,
  Processor,
  type ProcessorOptions,
} from "./chat.ts";
export type { NewToken } from "./draw.ts";
export { generate, generateText, generateTokens, paddedPrompt, type Step, steps, textPrompt } from "./generate.ts";
export type { CausalLM, ImageTextModel, ModelInputs } from "./model.ts";
export type { GenerateOptions, Prompt } from "./options.ts";
