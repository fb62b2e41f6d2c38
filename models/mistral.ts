import { type LlamaConfig, LlamaForCausalLM } from "./llama.ts";

/** Mistral (arXiv 2310.06825): LLaMA whose tokens see a sliding window, `config.sliding_window`. */
export class MistralForCausalLM extends LlamaForCausalLM {
  constructor(config: LlamaConfig) {
    super(config, { type: "mistral", window: config.sliding_window ?? undefined });
  }
}
