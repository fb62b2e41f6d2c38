/** The plain ViT for training from scratch: convolutional stem or patches, no class token, final norm. */
import type { Tensor } from "../src/index.ts";
import { Conv2d, constant, LayerNorm, Linear, Module, truncatedNormal } from "../src/nn/index.ts";
import { checkConfig, checkPixels, Encoder, type VisionConfig, type VisionTower } from "./clip.ts";

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

  /** As `VisionTower`. The last state, which heads and adapters read, is normalised. */
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

/** Linear heads on the mean of all tokens, one per named task. */
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

  /** features [N, P, D] to the logits of each task, [N, classes]. */
  forward(features: Tensor): Record<string, Tensor> {
    const pooled = this.norm.forward(features.mean(1)); // [N, D]
    return Object.fromEntries(Object.keys(this.classes).map((task, i) => [task, this.heads[i].forward(pooled)]));
  }
}
