/**
 * The visual part of BLIP-2 (arXiv 2301.12597) and MiniGPT-4: a ViT, the Q-Former, and a linear layer to the width of the language
 * model. The Q-Former is a BERT of learnable queries with cross-attention to the image. Weight names are those of Hugging Face.
 */

import { cat, scaledDotProductAttention, type Tensor } from "../src/index.ts";
import { type FileSource, openCheckpoint, openFolder, type SaveOptions } from "../src/io/index.ts";
import { Conv2d, LayerNorm, Linear, Module, truncatedNormal } from "../src/nn/index.ts";
import { multiHead } from "./abstractor.ts";
import { type LoadOptions, loadModel, saveModel } from "./checkpoints/load.ts";
import { checkConfig, checkPixels, type VisionConfig, VisionMLP } from "./clip.ts";

/** The keys of qformer_config in config.json. */
export interface QFormerConfig {
  hidden_size: number;
  encoder_hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  /** The queries attend to the image in every n-th layer, from the first on. Default 2. */
  cross_attention_frequency?: number;
  layer_norm_eps?: number;
}

export interface Blip2Config {
  model_type?: string;
  vision_config: VisionConfig;
  qformer_config: QFormerConfig;
  num_query_tokens: number;
  /** Width of the language model. Default: that of text_config (OPT: hidden_size, T5: d_model). */
  language_projection_size?: number;
  text_config?: { hidden_size?: number; d_model?: number };
}

/** A published config, completed with the defaults of the reference classes. */
function completeConfig(config: Partial<Blip2Config>): Blip2Config {
  const vision_config: VisionConfig = {
    hidden_size: 1408,
    intermediate_size: 6144,
    num_hidden_layers: 39,
    num_attention_heads: 16,
    image_size: 224,
    patch_size: 14,
    ...config.vision_config,
  };
  const qformer_config: QFormerConfig = {
    hidden_size: 768,
    encoder_hidden_size: 1408,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    ...config.qformer_config,
  };
  return { num_query_tokens: 32, ...config, vision_config, qformer_config };
}

class Blip2Attention extends Module {
  qkv: Linear;
  projection: Linear;

  constructor(
    dim: number,
    readonly heads: number,
  ) {
    super();
    this.qkv = new Linear(dim, 3 * dim);
    this.projection = new Linear(dim, dim);
  }

  forward(x: Tensor): Tensor {
    const [n, p, d] = x.shape;
    const fused = this.qkv.forward(x).reshape([n, p, 3, this.heads, d / this.heads]);
    const part = (i: number) => fused.select(2, i).transpose(1, 2); // [N, H, P, D/H]
    const y = scaledDotProductAttention(part(0), part(1), part(2));
    return this.projection.forward(y.transpose(1, 2).reshape([n, p, d]));
  }
}

class Blip2VisionLayer extends Module {
  self_attn: Blip2Attention;
  layer_norm1: LayerNorm;
  mlp: VisionMLP;
  layer_norm2: LayerNorm;

  constructor({ hidden_size: d, layer_norm_eps: eps = 1e-6, hidden_act = "gelu", ...config }: VisionConfig) {
    super();
    this.self_attn = new Blip2Attention(d, config.num_attention_heads);
    this.layer_norm1 = new LayerNorm(d, eps);
    this.mlp = new VisionMLP(d, config.intermediate_size, hidden_act);
    this.layer_norm2 = new LayerNorm(d, eps);
  }

  forward(x: Tensor): Tensor {
    const y = x.add(this.self_attn.forward(this.layer_norm1.forward(x))); // [N, P, D]
    return y.add(this.mlp.forward(this.layer_norm2.forward(y)));
  }
}

class Blip2VisionEmbeddings extends Module {
  class_embedding: Tensor; // [1, 1, D]
  patch_embedding: Conv2d;
  position_embedding: Tensor; // [1, P, D]

  constructor(readonly config: VisionConfig) {
    super();
    const { hidden_size: d, patch_size: patch, image_size: size, num_channels: channels = 3 } = config;
    this.class_embedding = truncatedNormal([1, 1, d], 0.02);
    this.patch_embedding = new Conv2d(channels, d, patch, { stride: patch });
    this.position_embedding = truncatedNormal([1, (size / patch) ** 2 + 1, d], 0.02);
  }

  forward(pixels: Tensor): Tensor {
    checkPixels(pixels, this.config);
    const patches = this.patch_embedding.forward(pixels).flatten(2).transpose(1, 2); // [N, P-1, D]
    const tokens = [this.class_embedding.expand([pixels.shape[0], 1, this.config.hidden_size]), patches];
    return cat(tokens, 1).add(this.position_embedding);
  }
}

class Blip2Encoder extends Module {
  layers: Blip2VisionLayer[];

  constructor(config: VisionConfig) {
    super();
    this.layers = Array.from({ length: config.num_hidden_layers }, () => new Blip2VisionLayer(config));
  }
}

export class Blip2VisionModel extends Module {
  embeddings: Blip2VisionEmbeddings;
  encoder: Blip2Encoder;
  post_layernorm: LayerNorm;

  constructor(config: VisionConfig) {
    super();
    checkConfig(config);
    this.embeddings = new Blip2VisionEmbeddings(config);
    this.encoder = new Blip2Encoder(config);
    this.post_layernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps ?? 1e-6);
  }

  /** pixels [N, C, H, W] to [N, P, D], all tokens normalised, the class token first. */
  forward(pixels: Tensor): Tensor {
    const { embeddings, encoder, post_layernorm } = this;
    return post_layernorm.forward(encoder.layers.reduce((x, layer) => layer.forward(x), embeddings.forward(pixels)));
  }
}

/** The end of a BERT sublayer: linear layer, residual, norm. */
class QFormerOutput extends Module {
  dense: Linear;
  LayerNorm: LayerNorm;

  constructor(inner: number, dim: number, eps: number) {
    super();
    this.dense = new Linear(inner, dim);
    this.LayerNorm = new LayerNorm(dim, eps);
  }

  forward(x: Tensor, residual: Tensor): Tensor {
    return this.LayerNorm.forward(this.dense.forward(x).add(residual));
  }
}

class QFormerHeads extends Module {
  query: Linear;
  key: Linear;
  value: Linear;

  constructor(
    dim: number,
    source: number,
    readonly heads: number,
  ) {
    super();
    if (dim % heads) throw new RangeError(`QFormer: ${heads} heads do not divide hidden size ${dim}`);
    this.query = new Linear(dim, dim);
    this.key = new Linear(source, dim);
    this.value = new Linear(source, dim);
  }

  /** Attention of x [N, Q, D] over source [N, P, D']. */
  forward(x: Tensor, source: Tensor): Tensor {
    return multiHead(this.query.forward(x), this.key.forward(source), this.value.forward(source), this.heads);
  }
}

class QFormerAttention extends Module {
  attention: QFormerHeads;
  output: QFormerOutput;

  constructor(
    { hidden_size: d, num_attention_heads: heads, layer_norm_eps: eps = 1e-12 }: QFormerConfig,
    source: number,
  ) {
    super();
    this.attention = new QFormerHeads(d, source, heads);
    this.output = new QFormerOutput(d, d, eps);
  }

  forward(x: Tensor, source: Tensor): Tensor {
    return this.output.forward(this.attention.forward(x, source), x);
  }
}

class QFormerIntermediate extends Module {
  dense: Linear;

  constructor(dim: number, inner: number) {
    super();
    this.dense = new Linear(dim, inner);
  }

  forward(x: Tensor): Tensor {
    return this.dense.forward(x).gelu();
  }
}

class QFormerLayer extends Module {
  attention: QFormerAttention;
  crossattention?: QFormerAttention;
  intermediate_query: QFormerIntermediate;
  output_query: QFormerOutput;

  constructor(config: QFormerConfig, readsImage: boolean) {
    super();
    const { hidden_size: d, intermediate_size: inner, layer_norm_eps: eps = 1e-12 } = config;
    this.attention = new QFormerAttention(config, d);
    if (readsImage) this.crossattention = new QFormerAttention(config, config.encoder_hidden_size);
    this.intermediate_query = new QFormerIntermediate(d, inner);
    this.output_query = new QFormerOutput(inner, d, eps);
  }

  forward(x: Tensor, image: Tensor): Tensor {
    const own = this.attention.forward(x, x); // [N, Q, D]
    const y = this.crossattention ? this.crossattention.forward(own, image) : own;
    return this.output_query.forward(this.intermediate_query.forward(y), y);
  }
}

class QFormerEncoder extends Module {
  layer: QFormerLayer[];

  constructor(config: QFormerConfig) {
    super();
    const { num_hidden_layers: count, cross_attention_frequency: every = 2 } = config;
    this.layer = Array.from({ length: count }, (_, i) => new QFormerLayer(config, i % every === 0));
  }
}

/** Layers of self-attention among queries and cross-attention to features. */
export class QFormer extends Module {
  layernorm: LayerNorm;
  encoder: QFormerEncoder;

  constructor(config: QFormerConfig) {
    super();
    this.layernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps ?? 1e-12);
    this.encoder = new QFormerEncoder(config);
  }

  /** queries [1, Q, D], features [N, P, D'] to hidden states, each [N, Q, D]: the input, then the output of each layer. */
  forward(queries: Tensor, features: Tensor): Tensor[] {
    const [, q, d] = queries.shape;
    const states = [this.layernorm.forward(queries).expand([features.shape[0], q, d])];
    for (const layer of this.encoder.layer) states.push(layer.forward(states[states.length - 1], features));
    return states;
  }
}

/** BLIP-2 without its language model: images to embeddings of that model. */
export class Blip2ImageEncoder extends Module {
  vision_model: Blip2VisionModel;
  query_tokens: Tensor; // [1, Q, D]
  qformer: QFormer;
  language_projection: Linear;

  constructor(readonly config: Blip2Config) {
    super();
    const { vision_config: vision, qformer_config: qformer } = config;
    if (vision.hidden_size !== qformer.encoder_hidden_size)
      throw new RangeError(
        `Blip2ImageEncoder: encoder_hidden_size ${qformer.encoder_hidden_size} must equal the tower's hidden_size ${vision.hidden_size}`,
      );
    const width = config.language_projection_size ?? config.text_config?.hidden_size ?? config.text_config?.d_model;
    if (!width)
      throw new Error("Blip2ImageEncoder: the config has no language_projection_size and no width in text_config");
    this.vision_model = new Blip2VisionModel(vision);
    this.query_tokens = truncatedNormal([1, config.num_query_tokens, qformer.hidden_size], 0.02);
    this.qformer = new QFormer(qformer);
    this.language_projection = new Linear(qformer.hidden_size, width);
  }

  /** pixels [N, C, H, W] to embeddings [N, Q, D'], with the features [N, P, D] and all states of the Q-Former. */
  forward(pixels: Tensor): { embeddings: Tensor; features: Tensor; hiddenStates: Tensor[] } {
    const features = this.vision_model.forward(pixels);
    const hiddenStates = this.qformer.forward(this.query_tokens, features);
    const embeddings = this.language_projection.forward(hiddenStates[hiddenStates.length - 1]);
    return { embeddings, features, hiddenStates };
  }

  /** Loads the visual part of a BLIP-2 folder, without its language model. */
  static async fromPretrained(where: string | FileSource, options?: LoadOptions): Promise<Blip2ImageEncoder> {
    const source = await openFolder(where);
    const { config, tensors } = await openCheckpoint(source);
    const make = () => new Blip2ImageEncoder(completeConfig(config));
    return loadModel(source, make, [tensors], [[/^language_model\./, null]], options);
  }

  async savePretrained(where: string | FileSource, options?: SaveOptions): Promise<void> {
    await saveModel(this, { ...this.config, model_type: "blip-2" }, where, options);
  }
}
