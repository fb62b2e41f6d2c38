/**
 * SigLIP's vision encoder (arXiv 2303.15343) with the weight names of Hugging Face: CLIP's blocks with the tanh form of GELU, no
 * class token, and a pooling head: attention of one learned probe over the image.
 */

import { linear, scaledDotProductAttention, type Tensor } from "../src/index.ts";
import { Conv2d, Embedding, LayerNorm, Linear, Module, truncatedNormal, uniform } from "../src/nn/index.ts";
import { checkConfig, checkPixels, Encoder, type VisionConfig, VisionMLP, type VisionTower } from "./clip.ts";

export interface SiglipConfig extends VisionConfig {
  /** Whether there is a pooling head. Default true. */
  vision_use_head?: boolean;
}

class SiglipEmbeddings extends Module {
  patch_embedding: Conv2d;
  position_embedding: Embedding;

  constructor(readonly config: SiglipConfig) {
    super();
    const { hidden_size: d, patch_size: patch, image_size: size, num_channels: channels = 3 } = config;
    this.patch_embedding = new Conv2d(channels, d, patch, { stride: patch });
    this.position_embedding = new Embedding((size / patch) ** 2, d);
  }

  forward(pixels: Tensor): Tensor {
    checkPixels(pixels, this.config);
    const patches = this.patch_embedding.forward(pixels).flatten(2).transpose(1, 2); // [N, P, D]
    return patches.add(this.position_embedding.weight);
  }
}

/** Attention with q, k and v in one matrix, the layout of torch.nn.MultiheadAttention. */
class ProbeAttention extends Module {
  in_proj_weight: Tensor; // [3 D, D]
  in_proj_bias: Tensor; // [3 D]
  out_proj: Linear;

  constructor(
    dim: number,
    readonly heads: number,
  ) {
    super();
    this.in_proj_weight = uniform([3 * dim, dim], 1 / Math.sqrt(dim));
    this.in_proj_bias = uniform([3 * dim], 1 / Math.sqrt(dim));
    this.out_proj = new Linear(dim, dim);
  }

  /** Attention of the probe [N, 1, D] over x [N, P, D]. */
  forward(probe: Tensor, x: Tensor): Tensor {
    const [n, , d] = x.shape;
    const project = (y: Tensor, i: number) =>
      linear(y, this.in_proj_weight.narrow(0, i * d, d), this.in_proj_bias.narrow(0, i * d, d))
        .reshape([n, y.shape[1], this.heads, d / this.heads])
        .transpose(1, 2); // [N, H, P, D/H]
    const y = scaledDotProductAttention(project(probe, 0), project(x, 1), project(x, 2));
    return this.out_proj.forward(y.transpose(1, 2).reshape([n, 1, d]));
  }
}

class SiglipHead extends Module {
  probe: Tensor; // [1, 1, D]
  attention: ProbeAttention;
  layernorm: LayerNorm;
  mlp: VisionMLP;

  constructor({ hidden_size: d, ...config }: SiglipConfig, eps: number, act: string) {
    super();
    this.probe = truncatedNormal([1, 1, d], 0.02);
    this.attention = new ProbeAttention(d, config.num_attention_heads);
    this.layernorm = new LayerNorm(d, eps);
    this.mlp = new VisionMLP(d, config.intermediate_size, act);
  }

  /** x [N, P, D] to [N, D]. */
  forward(x: Tensor): Tensor {
    const [n, , d] = x.shape;
    const y = this.attention.forward(this.probe.expand([n, 1, d]), x);
    return y.add(this.mlp.forward(this.layernorm.forward(y))).reshape([n, d]);
  }
}

class SiglipVisionTransformer extends Module {
  embeddings: SiglipEmbeddings;
  encoder: Encoder;
  post_layernorm: LayerNorm;
  head?: SiglipHead;

  constructor(config: SiglipConfig) {
    super();
    const { layer_norm_eps: eps = 1e-6, hidden_act: act = "gelu_pytorch_tanh" } = config;
    this.embeddings = new SiglipEmbeddings(config);
    this.encoder = new Encoder({ ...config, layer_norm_eps: eps }, act);
    this.post_layernorm = new LayerNorm(config.hidden_size, eps);
    if (config.vision_use_head !== false) this.head = new SiglipHead(config, eps, act);
  }
}

export class SiglipVisionModel extends Module implements VisionTower {
  vision_model: SiglipVisionTransformer;
  readonly prefixTokens = 0;

  constructor(readonly config: SiglipConfig) {
    super();
    checkConfig(config);
    this.vision_model = new SiglipVisionTransformer(config);
  }

  hiddenStates(pixels: Tensor): Tensor[] {
    const { embeddings, encoder } = this.vision_model;
    return encoder.forward(embeddings.forward(pixels));
  }

  /** pixels [N, C, H, W]. lastHiddenState [N, P, D] is normalised; `pooled` [N, D] is the output of the head. */
  forward(pixels: Tensor): { hiddenStates: Tensor[]; lastHiddenState: Tensor; pooled?: Tensor } {
    const { post_layernorm, head } = this.vision_model;
    const hiddenStates = this.hiddenStates(pixels);
    const lastHiddenState = post_layernorm.forward(hiddenStates[hiddenStates.length - 1]);
    return { hiddenStates, lastHiddenState, pooled: head?.forward(lastHiddenState) };
  }
}
