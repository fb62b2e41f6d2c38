/**
 * The vision encoder of CLIP (arXiv 2103.00020): a vision transformer with pre-norm blocks and a class token. Weight
 * names are those of Hugging Face (`pre_layrnorm` included: the typo is in every checkpoint). Other vision transformers use
 * its blocks too.
 */
import { cat, scaledDotProductAttention, type Tensor } from "../src/index.ts";
import {
  type Activation,
  activation,
  Conv2d,
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

/** The interface of image encoders for vision-language models. */
export interface VisionTower extends Module {
  readonly config: VisionConfig;
  /** Number of leading tokens that are no patches (1 with a class token). */
  readonly prefixTokens: number;
  /** pixels [N, C, H, W] to hidden states, each [N, P, D]: the embedding, then the output of each layer. */
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

  /** Hidden states: the input, and the output of each layer. */
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

export function checkConfig({ image_size: size, patch_size: patch }: VisionConfig): void {
  if (size % patch) throw new RangeError(`vision config: patch_size ${patch} does not divide image_size ${size}`);
}

export function checkPixels(pixels: Tensor, { image_size: size, num_channels: channels = 3 }: VisionConfig): void {
  const [, c, h, w] = pixels.shape;
  if (pixels.ndim !== 4 || c !== channels || h !== size || w !== size) {
    throw new Error(`vision tower: pixels have shape [${pixels.shape}], expected [N,${channels},${size},${size}]`);
  }
}
