/** ViT with a class token for classification (arXiv 2010.11929). Weight names and config keys are those of Hugging Face. */

import { cat, crossEntropy, interpolate, type Tensor } from "../src/index.ts";
import { type FileSource, openCheckpoint, openFolder, type SaveOptions } from "../src/io/index.ts";
import { Conv2d, LayerNorm, Linear, Module, truncatedNormal } from "../src/nn/index.ts";
import { completeVisionConfig } from "./checkpoints/defaults.ts";
import { type LoadOptions, loadModel, saveModel } from "./checkpoints/load.ts";
import { checkConfig, checkPixels, type VisionConfig, VisionLayer } from "./clip.ts";

export interface ViTConfig extends VisionConfig {
  /** Names of the classes by index. Their number is the width of the head. */
  id2label?: Readonly<Record<string, string>>;
  num_labels?: number;
}

/** Names in ViT's checkpoints to those of CLIP's block. */
const places: Readonly<Record<string, string>> = {
  "attention.attention.query": "self_attn.q_proj",
  "attention.attention.key": "self_attn.k_proj",
  "attention.attention.value": "self_attn.v_proj",
  "attention.output.dense": "self_attn.out_proj",
  "intermediate.dense": "mlp.fc1",
  "output.dense": "mlp.fc2",
  layernorm_before: "layer_norm1",
  layernorm_after: "layer_norm2",
};

/** CLIP's block with the weight names of ViT's checkpoints. */
class ViTLayer extends VisionLayer {
  protected override fields(): Iterable<[string, unknown]> {
    const at = (place: string) => place.split(".").reduce((x: any, key) => x[key], this);
    return Object.entries(places).map(([name, place]) => [name, at(place)]);
  }

  override replaceChild(name: string, child: Module): void {
    super.replaceChild(places[name] ?? name, child);
  }
}

class ViTEmbeddings extends Module {
  cls_token: Tensor; // [1, 1, D]
  position_embeddings: Tensor; // [1, 1 + P, D]
  readonly #projection: Conv2d;

  constructor(readonly config: VisionConfig) {
    super();
    const { hidden_size: d, patch_size: patch, image_size: size, num_channels: channels = 3 } = config;
    this.cls_token = truncatedNormal([1, 1, d], 0.02);
    this.position_embeddings = truncatedNormal([1, (size / patch) ** 2 + 1, d], 0.02);
    this.#projection = new Conv2d(channels, d, patch, { stride: patch });
  }

  protected override fields(): Iterable<[string, unknown]> {
    return [...super.fields(), ["patch_embeddings.projection", this.#projection]];
  }

  forward(pixels: Tensor, interpolated: boolean): Tensor {
    if (!interpolated) checkPixels(pixels, this.config);
    const { hidden_size: d } = this.config;
    const patches = this.#projection.forward(pixels); // [N, D, h, w]
    const [n, , h, w] = patches.shape;
    const tokens = [this.cls_token.expand([n, 1, d]), patches.flatten(2).transpose(1, 2)];
    return cat(tokens, 1).add(interpolated ? this.#positions(h, w) : this.position_embeddings); // [N, 1 + P, D]
  }

  /** Positions for h x w patches: the square grid, resized. */
  #positions(h: number, w: number): Tensor {
    const { hidden_size: d, image_size: size, patch_size: patch } = this.config;
    const side = size / patch;
    const grid = this.position_embeddings
      .narrow(1, 1, side * side)
      .reshape([1, side, side, d])
      .permute([0, 3, 1, 2]);
    const stretched = interpolate(grid, { size: [h, w], mode: "bicubic" }); // [1, D, h, w]
    return cat([this.position_embeddings.narrow(1, 0, 1), stretched.flatten(2).transpose(1, 2)], 1);
  }
}

class ViTEncoder extends Module {
  layer: ViTLayer[];

  constructor(config: VisionConfig) {
    super();
    this.layer = Array.from({ length: config.num_hidden_layers }, () => new ViTLayer(config, "gelu"));
  }
}

class ViTModel extends Module {
  embeddings: ViTEmbeddings;
  encoder: ViTEncoder;
  layernorm: LayerNorm;

  constructor(config: VisionConfig) {
    super();
    this.embeddings = new ViTEmbeddings(config);
    this.encoder = new ViTEncoder(config);
    this.layernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps);
  }
}

export class ViTForImageClassification extends Module {
  vit: ViTModel;
  classifier: Linear;
  readonly config: ViTConfig;

  constructor(config: ViTConfig) {
    super();
    checkConfig(config);
    this.config = { layer_norm_eps: 1e-12, ...config };
    const classes = config.num_labels ?? Object.keys(config.id2label ?? { 0: "", 1: "" }).length;
    this.vit = new ViTModel(this.config);
    this.classifier = new Linear(config.hidden_size, classes);
  }

  /**
   * pixels [N, C, H, W] to logits [N, classes] and all hidden states [N, 1 + P, D], the last one normalised.
   * @param interpolatePositions resize the positions (bicubic) for images of another size or shape
   */
  forward(pixels: Tensor, { interpolatePositions = false } = {}): { logits: Tensor; hiddenStates: Tensor[] } {
    const { embeddings, encoder, layernorm } = this.vit;
    const states = [embeddings.forward(pixels, interpolatePositions)];
    for (const layer of encoder.layer) states.push(layer.forward(states[states.length - 1]));
    states.push(layernorm.forward(states.pop()!));
    return { logits: this.classifier.forward(states[states.length - 1].select(1, 0)), hiddenStates: states };
  }

  /** Mean cross-entropy. Labels are class indices, i32 [N]. */
  loss(pixels: Tensor, labels: Tensor): Tensor {
    return crossEntropy(this.forward(pixels).logits, labels);
  }

  static async fromPretrained(where: string | FileSource, options?: LoadOptions): Promise<ViTForImageClassification> {
    const source = await openFolder(where);
    const { config, tensors } = await openCheckpoint(source);
    const make = () => new ViTForImageClassification(completeVisionConfig(config) as ViTConfig);
    return loadModel(source, make, [tensors], [], options);
  }

  async savePretrained(where: string | FileSource, options?: SaveOptions): Promise<void> {
    await saveModel(this, { ...this.config, model_type: "vit" }, where, options);
  }
}
