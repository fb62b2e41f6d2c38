import { type LlamaConfig, LlamaForCausalLM } from "./llama.ts";

export interface Qwen2Config extends LlamaConfig {
  /** Only false is supported: every token sees all earlier ones. */
  use_sliding_window?: boolean;
}

/** Qwen2 (arXiv 2407.10671): LLaMA with biases on q, k and v. */
export class Qwen2ForCausalLM extends LlamaForCausalLM {
  constructor(config: Qwen2Config) {
    if (config.use_sliding_window) throw new Error("Llama: use_sliding_window of Qwen2 is not supported");
    super(config, { type: "qwen2", qkvBias: true });
  }
}
