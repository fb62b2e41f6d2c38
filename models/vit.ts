/**
 * Vision transformers with pre-norm blocks.
 * - `CLIPVisionModel`: the encoder of CLIP (arXiv 2103.00020) exactly, with the weight names of Hugging Face
 *   (`pre_layrnorm` included: the typo is in every checkpoint).
 * - `ViT`: the plain form for training from scratch: convolutional stem or patches, no class token, final norm.
 */

import { cat, scaledDotProductAttention, type Tensor } from "../src/index.ts";
import {
  type Activation,
  activation,
  Conv2d,
  constant,
  Embedding,
  LayerNorm,
  Linear,
  Module,
  truncatedNormal,
} from "../src/nn/index.ts";

/** The keys of config.json; those with `?` have the defaults of CLIP. */
export interface VisionConfig {
  model_type?: string;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  image_size: number;
  patch_size: number;
  num_channels?: number;
  hidden_act?: string;
  layer_norm_eps?: number;
  /** `ViT` only: output channels of 3x3 convolutions with stride 2, in place of one patch projection. */
  stem_channels?: number[];
}

/** An encoder of images, as the models that look at them see it. */
export interface VisionTower extends Module {
  readonly config: VisionConfig;
  /** Leading tokens that stand for the whole image, not for a patch (1 for a class token). */
  readonly prefixTokens: number;
  /** pixels [N, C, H, W] to the states before, between and after the layers, each [N, P, D]. */
  hiddenStates(pixels: Tensor): Tensor[];
}

/** Full attention among the P tokens of an image. */
export class VisionAttention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  out_proj: Linear;

  constructor(
    dim: number,
    readonly heads: number,
  ) {
    super();
    if (dim % heads) throw new RangeError(`VisionAttention: ${heads} heads do not divide hidden size ${dim}`);
    this.q_proj = new Linear(dim, dim);
    this.k_proj = new Linear(dim, dim);
    this.v_proj = new Linear(dim, dim);
    this.out_proj = new Linear(dim, dim);
  }

  forward(x: Tensor): Tensor {
    const [n, p, d] = x.shape;
    const split = (y: Tensor) => y.reshape([n, p, this.heads, d / this.heads]).transpose(1, 2); // [N, H, P, D/H]
    const y = scaledDotProductAttention(
      split(this.q_proj.forward(x)),
      split(this.k_proj.forward(x)),
      split(this.v_proj.forward(x)),
    );
    return this.out_proj.forward(y.transpose(1, 2).reshape([n, p, d]));
  }
}

export class VisionMLP extends Module {
  fc1: Linear;
  fc2: Linear;
  readonly #act: Activation;

  constructor(dim: number, inner: number, act: string) {
    super();
    this.fc1 = new Linear(dim, inner);
    this.fc2 = new Linear(inner, dim);
    this.#act = activation(act);
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.#act(this.fc1.forward(x)));
  }
}

export class VisionLayer extends Module {
  self_attn: VisionAttention;
  layer_norm1: LayerNorm;
  mlp: VisionMLP;
  layer_norm2: LayerNorm;

  constructor(config: VisionConfig, act = "quick_gelu") {
    super();
    const { hidden_size: d, layer_norm_eps: eps = 1e-5 } = config;
    this.self_attn = new VisionAttention(d, config.num_attention_heads);
    this.layer_norm1 = new LayerNorm(d, eps);
    this.mlp = new VisionMLP(d, config.intermediate_size, config.hidden_act ?? act);
    this.layer_norm2 = new LayerNorm(d, eps);
  }

  forward(x: Tensor): Tensor {
    const y = x.add(this.self_attn.forward(this.layer_norm1.forward(x))); // [N, P, D]
    return y.add(this.mlp.forward(this.layer_norm2.forward(y)));
  }
}

export class Encoder extends Module {
  layers: VisionLayer[];

  constructor(config: VisionConfig, act?: string) {
    super();
    this.layers = Array.from({ length: config.num_hidden_layers }, () => new VisionLayer(config, act));
  }

  /** All states: the input, and the output of each layer. */
  forward(x: Tensor): Tensor[] {
    const states = [x];
    for (const layer of this.layers) states.push(layer.forward(states[states.length - 1]));
    return states;
  }
}

class CLIPEmbeddings extends Module {
  class_embedding: Tensor; // [D]
  patch_embedding: Conv2d;
  position_embedding: Embedding;

  constructor(readonly config: VisionConfig) {
    super();
    const { hidden_size: d, patch_size: patch, image_size: size, num_channels: channels = 3 } = config;
    this.class_embedding = truncatedNormal([d], d ** -0.5);
    this.patch_embedding = new Conv2d(channels, d, patch, { stride: patch, bias: false });
    this.position_embedding = new Embedding((size / patch) ** 2 + 1, d);
  }

  forward(pixels: Tensor): Tensor {
    checkPixels(pixels, this.config);
    const [n] = pixels.shape;
    const { hidden_size: d } = this.config;
    const patches = this.patch_embedding.forward(pixels).flatten(2).transpose(1, 2); // [N, P-1, D]
    const tokens = cat([this.class_embedding.reshape([1, 1, d]).expand([n, 1, d]), patches], 1); // [N, P, D]
    return tokens.add(this.position_embedding.weight);
  }
}

class CLIPVisionTransformer extends Module {
  embeddings: CLIPEmbeddings;
  pre_layrnorm: LayerNorm;
  encoder: Encoder;
  post_layernorm: LayerNorm;

  constructor(config: VisionConfig) {
    super();
    this.embeddings = new CLIPEmbeddings(config);
    this.pre_layrnorm = new LayerNorm(config.hidden_size, config.layer_norm_eps);
    this.encoder = new Encoder(config);
    this.post_layernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps);
  }
}

export class CLIPVisionModel extends Module implements VisionTower {
  vision_model: CLIPVisionTransformer;
  readonly prefixTokens = 1;

  constructor(readonly config: VisionConfig) {
    super();
    checkConfig(config);
    this.vision_model = new CLIPVisionTransformer(config);
  }

  hiddenStates(pixels: Tensor): Tensor[] {
    const { embeddings, pre_layrnorm, encoder } = this.vision_model;
    return encoder.forward(pre_layrnorm.forward(embeddings.forward(pixels)));
  }

  /** pixels [N, C, H, W]. `pooled` [N, D] is the class token after post_layernorm. */
  forward(pixels: Tensor): { hiddenStates: Tensor[]; lastHiddenState: Tensor; pooled: Tensor } {
    const hiddenStates = this.hiddenStates(pixels);
    const lastHiddenState = hiddenStates[hiddenStates.length - 1];
    return {
      hiddenStates,
      lastHiddenState,
      pooled: this.vision_model.post_layernorm.forward(lastHiddenState.select(1, 0)),
    };
  }
}

/** 3x3 convolutions of stride 2 with GELU between them, or one patch projection: [N, C, H, W] to [N, P, D]. */
class Stem extends Module {
  convs: Conv2d[];

  constructor(config: VisionConfig) {
    super();
    const { patch_size: patch, hidden_size: d, num_channels: channels = 3, stem_channels: stem } = config;
    if (!stem) {
      this.convs = [new Conv2d(channels, d, patch, { stride: patch })];
      return;
    }
    if (stem[stem.length - 1] !== d || 2 ** stem.length !== patch) {
      throw new RangeError(
        `ViT: stem_channels [${stem}] must end in hidden_size ${d} and halve the image to patches of ${patch} pixels`,
      );
    }
    this.convs = stem.map((out, i) => new Conv2d(i ? stem[i - 1] : channels, out, 3, { stride: 2, padding: 1 }));
  }

  forward(pixels: Tensor): Tensor {
    const y = this.convs.reduce((x, conv, i) => conv.forward(i ? x.gelu() : x), pixels);
    return y.flatten(2).transpose(1, 2); // [N, P, D]
  }
}

/** Vision transformer without class token: stem, learned positions, blocks, final norm (arXiv 2010.11929, 2106.14881). */
export class ViT extends Module implements VisionTower {
  stem: Stem;
  position_embedding: Tensor; // [P, D]
  encoder: Encoder;
  post_layernorm: LayerNorm;
  readonly prefixTokens = 0;

  constructor(readonly config: VisionConfig) {
    super();
    checkConfig(config);
    const { hidden_size: d, image_size: size, patch_size: patch } = config;
    this.stem = new Stem(config);
    this.position_embedding = truncatedNormal([(size / patch) ** 2, d], 0.02);
    this.encoder = new Encoder(config, "gelu");
    this.post_layernorm = new LayerNorm(d, config.layer_norm_eps);
  }

  /** The last state is normalised: it is what the heads and adapters read. */
  hiddenStates(pixels: Tensor): Tensor[] {
    checkPixels(pixels, this.config);
    const states = this.encoder.forward(this.stem.forward(pixels).add(this.position_embedding));
    states.push(this.post_layernorm.forward(states.pop()!));
    return states;
  }

  /** pixels [N, C, H, W] to [N, P, D]. */
  forward(pixels: Tensor): Tensor {
    return this.hiddenStates(pixels).pop()!;
  }
}

/** Linear heads on the mean of all tokens, one for each named task. */
export class ViTHeads extends Module {
  norm: LayerNorm;
  heads: Linear[];

  constructor(
    dim: number,
    readonly classes: Readonly<Record<string, number>>,
  ) {
    super();
    this.norm = new LayerNorm(dim);
    this.heads = Object.values(classes).map((count) => new Linear(dim, count));
    for (const head of this.heads) head.bias = constant([head.outFeatures], 0);
  }

  /** features [N, P, D] to logits [N, classes] of each task. */
  forward(features: Tensor): Record<string, Tensor> {
    const pooled = this.norm.forward(features.mean(1)); // [N, D]
    return Object.fromEntries(Object.keys(this.classes).map((task, i) => [task, this.heads[i].forward(pooled)]));
  }
}

export function checkConfig({ image_size: size, patch_size: patch }: VisionConfig): void {
  if (size % patch) throw new RangeError(`vision config: patch_size ${patch} does not divide image_size ${size}`);
}

export function checkPixels(pixels: Tensor, { image_size: size, num_channels: channels = 3 }: VisionConfig): void {
  const [, c, h, w] = pixels.shape;
  if (pixels.ndim !== 4 || c !== channels || h !== size || w !== size) {
    throw new Error(`vision tower: pixels have shape [${pixels.shape}], expected [N,${channels},${size},${size}]`);
  }
}
