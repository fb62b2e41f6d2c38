/**
 * mPLUG-Owl (arXiv 2304.14178): CLIP's vision encoder with weight names of its own, the visual abstractor, LLaMA. An image is a
 * run of negative ids, one for each query and one for the end token.
 */

import { Processor } from "../src/generate/index.ts";
import { cat, scaledDotProductAttention, type Tensor } from "../src/index.ts";
import { type FileSource, openCheckpoint, openFolder, type SaveOptions } from "../src/io/index.ts";
import { Conv2d, LayerNorm, Linear, Module, truncatedNormal } from "../src/nn/index.ts";
import { Abstractor, type AbstractorConfig } from "./abstractor.ts";
import { llamaDefaults } from "./checkpoints/defaults.ts";
import { type LoadOptions, loadModel, saveModel } from "./checkpoints/load.ts";
import { checkPixels, type VisionConfig, VisionMLP } from "./clip.ts";
import { languageModel } from "./language.ts";
import type { LlamaConfig, LlamaForCausalLM } from "./llama.ts";
import { VisionLanguageModel } from "./vlm.ts";

export interface MplugOwlConfig {
  model_type?: string;
  num_query_tokens: number;
  vision_config: VisionConfig;
  visual_abstractor_config: AbstractorConfig;
  text_config: LlamaConfig;
}

/** The defaults of the reference's config classes. */
export const owlDefaults = {
  vision: {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    image_size: 224,
    patch_size: 14,
  },
  abstractor: { hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 6, num_attention_heads: 16 },
  queries: 64,
} as const;

/** Full attention. One projection gives q, k and v, interleaved by head. */
class OwlAttention extends Module {
  query_key_value: Linear;
  dense: Linear;

  constructor(
    dim: number,
    readonly heads: number,
  ) {
    super();
    this.query_key_value = new Linear(dim, 3 * dim);
    this.dense = new Linear(dim, dim);
  }

  forward(x: Tensor): Tensor {
    const [n, p, d] = x.shape;
    const fused = this.query_key_value.forward(x).reshape([n, p, this.heads, 3, d / this.heads]);
    const part = (i: number) => fused.select(3, i).transpose(1, 2); // [N, H, P, D/H]
    const y = scaledDotProductAttention(part(0), part(1), part(2));
    return this.dense.forward(y.transpose(1, 2).reshape([n, p, d]));
  }
}

class OwlVisionLayer extends Module {
  self_attn: OwlAttention;
  input_layernorm: LayerNorm;
  mlp: VisionMLP;
  post_attention_layernorm: LayerNorm;

  constructor({ hidden_size: d, ...config }: VisionConfig) {
    super();
    const { layer_norm_eps: eps = 1e-6, hidden_act = "quick_gelu" } = config;
    this.self_attn = new OwlAttention(d, config.num_attention_heads);
    this.input_layernorm = new LayerNorm(d, eps);
    this.mlp = new VisionMLP(d, config.intermediate_size, hidden_act);
    this.post_attention_layernorm = new LayerNorm(d, eps);
  }

  forward(x: Tensor): Tensor {
    const y = x.add(this.self_attn.forward(this.input_layernorm.forward(x))); // [N, P, D]
    return y.add(this.mlp.forward(this.post_attention_layernorm.forward(y)));
  }
}

class OwlVisionEmbeddings extends Module {
  cls_token: Tensor; // [1, 1, D]
  patch_embed: Conv2d;
  position_embedding: Tensor; // [1, P, D]
  pre_layernorm: LayerNorm;

  constructor(readonly config: VisionConfig) {
    super();
    const { hidden_size: d, patch_size: patch, image_size: size, num_channels: channels = 3 } = config;
    this.cls_token = truncatedNormal([1, 1, d], d ** -0.5);
    this.patch_embed = new Conv2d(channels, d, patch, { stride: patch, bias: false });
    this.position_embedding = truncatedNormal([1, (size / patch) ** 2 + 1, d], 0.02);
    this.pre_layernorm = new LayerNorm(d, config.layer_norm_eps ?? 1e-6);
  }

  forward(pixels: Tensor): Tensor {
    checkPixels(pixels, this.config);
    const patches = this.patch_embed.forward(pixels).flatten(2).transpose(1, 2); // [N, P-1, D]
    const tokens = cat([this.cls_token.expand([pixels.shape[0], 1, this.config.hidden_size]), patches], 1);
    return this.pre_layernorm.forward(tokens.add(this.position_embedding));
  }
}

class OwlVisionEncoder extends Module {
  layers: OwlVisionLayer[];

  constructor(config: VisionConfig) {
    super();
    this.layers = Array.from({ length: config.num_hidden_layers }, () => new OwlVisionLayer(config));
  }
}

export class OwlVisionModel extends Module {
  embeddings: OwlVisionEmbeddings;
  encoder: OwlVisionEncoder;
  post_layernorm: LayerNorm;

  constructor(config: VisionConfig) {
    super();
    this.embeddings = new OwlVisionEmbeddings(config);
    this.encoder = new OwlVisionEncoder(config);
    this.post_layernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps ?? 1e-6);
  }

  /** pixels [N, C, H, W] to hidden states. The last one is normalised, class token included. */
  forward(pixels: Tensor): { hiddenStates: Tensor[]; lastHiddenState: Tensor } {
    const hiddenStates = [this.embeddings.forward(pixels)]; // each [N, P, D]
    for (const layer of this.encoder.layers) hiddenStates.push(layer.forward(hiddenStates[hiddenStates.length - 1]));
    return { hiddenStates, lastHiddenState: this.post_layernorm.forward(hiddenStates[hiddenStates.length - 1]) };
  }
}

export class MplugOwl extends VisionLanguageModel {
  vision_model: OwlVisionModel;
  query_tokens: Tensor; // [1, Q, D]
  abstractor: Abstractor;
  language_model: LlamaForCausalLM;

  constructor(readonly config: MplugOwlConfig) {
    super();
    const { visual_abstractor_config: abstractor, text_config: text } = config;
    this.vision_model = new OwlVisionModel(config.vision_config);
    this.query_tokens = truncatedNormal([1, config.num_query_tokens, abstractor.hidden_size], 0.02);
    this.abstractor = new Abstractor(abstractor, text.hidden_size);
    this.language_model = languageModel(text);
  }

  protected isImageToken(id: number): boolean {
    return id < 0;
  }

  /** pixels [N, C, H, W] to [N, P, D]. */
  visionFeatures(pixels: Tensor): Tensor {
    return this.vision_model.forward(pixels).lastHiddenState;
  }

  /** The abstractor: features [N, P, D] to [N, Q + 1, D']. */
  project(features: Tensor): Tensor {
    return this.abstractor.forward(this.query_tokens, features);
  }

  static async fromPretrained(where: string | FileSource, options?: LoadOptions): Promise<MplugOwl> {
    const source = await openFolder(where);
    const { config: given, tensors } = await openCheckpoint(source);
    const config: MplugOwlConfig = {
      ...given,
      num_query_tokens: given.num_query_tokens ?? owlDefaults.queries,
      vision_config: { ...owlDefaults.vision, ...given.vision_config },
      visual_abstractor_config: { ...owlDefaults.abstractor, ...given.visual_abstractor_config },
      text_config: { ...llamaDefaults, ...given.text_config },
    };
    const model = await loadModel(source, () => new MplugOwl(config), [tensors], [], options);
    const { image_size: size } = config.vision_config;
    // The original code resizes images to the square and ignores their aspect ratio.
    const images = { size: { width: size, height: size }, do_center_crop: false };
    model.processor = await Processor.open(source, config.text_config, images, { template: "mplug_owl" });
    return model;
  }

  async savePretrained(where: string | FileSource, options?: SaveOptions): Promise<void> {
    await saveModel(this, { ...this.config, model_type: "mplug-owl" }, where, options);
  }
}
