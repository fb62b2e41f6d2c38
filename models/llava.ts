/**
 * LLaVA (arXiv 2304.08485, 2310.03744): a vision tower, a projector, and a LLaMA that reads image features among its word
 * embeddings. With `image_grid_pinpoints` it is LLaVA-NeXT: images of any resolution, in tiles.
 */
import type { TileLayout } from "../src/image/index.ts";
import { cat, type Tensor } from "../src/index.ts";
import type { FileSource, SaveOptions } from "../src/io/index.ts";
import { type Activation, activation, type Layer, Linear, Module, normal, withoutInit } from "../src/nn/index.ts";
import { IMAGE_TOKEN_INDEX } from "../src/text/index.ts";
import {
  assembledConfigs,
  type LlavaConfig,
  type LlavaLoadOptions,
  loadLlava,
  saveLlava,
} from "./checkpoints/llava.ts";
import type { VisionTower } from "./clip.ts";
import { languageModel } from "./language.ts";
import type { LlamaForCausalLM } from "./llama.ts";
import { SlotEmbedding, tiledRows, tileLayout } from "./tiles.ts";
import { visionTower } from "./tower.ts";
import { type ImageRows, type VisionLanguageInput, VisionLanguageModel } from "./vlm.ts";

export class Llava extends VisionLanguageModel {
  vision_tower: VisionTower;
  multi_modal_projector: Adapter;
  image_slots?: SlotEmbedding;
  /** LLaVA-NeXT: added after each row of an image. */
  image_newline?: Tensor; // [D']
  language_model: LlamaForCausalLM;

  constructor(readonly config: LlavaConfig) {
    super();
    const { text_config: text, vision_config: vision } = config;
    this.vision_tower = visionTower(vision);
    this.multi_modal_projector = newProjector(config);
    if (config.projector_slots) this.image_slots = new SlotEmbedding(config.projector_slots, text.hidden_size);
    if (config.image_grid_pinpoints && (config.mm_patch_merge_type ?? "spatial_unpad") === "spatial_unpad")
      this.image_newline = newNewline(config);
    this.language_model = languageModel(text);
  }

  override get imageToken(): number {
    return this.config.image_token_index;
  }

  protected isImageToken(id: number): boolean {
    return id === this.config.image_token_index || id === IMAGE_TOKEN_INDEX;
  }

  protected override get textTakesImage(): boolean {
    return this.config.image_token_index < 0; // the original code's batches
  }

  /** Input of the projector: pixels [N, C, H, W] to features [N, P, D]. */
  visionFeatures(pixels: Tensor): Tensor {
    const { vision_feature_layer: layer = -2, vision_feature_select_strategy: strategy = "default" } = this.config;
    const states = this.vision_tower.hiddenStates(pixels);
    const state = states.at(layer);
    if (!state)
      throw new RangeError(`Llava: vision_feature_layer ${layer} of a tower with ${states.length} hidden states`);
    const drop = strategy === "full" ? 0 : this.vision_tower.prefixTokens;
    return drop ? state.narrow(1, drop, state.shape[1] - drop) : state;
  }

  /** The projector: features [N, P, D] of tiles to embeddings of images [N / tiles, tiles * P', D']. */
  project(features: Tensor, tilesPerImage = 1): Tensor {
    if (features.shape[0] % tilesPerImage) {
      throw new Error(`Llava: ${features.shape[0]} tiles do not make images of ${tilesPerImage}`);
    }
    const tiles = this.multi_modal_projector.forward(features); // [N, P', D']
    const [n, p, d] = tiles.shape;
    const images = tiles.reshape([n / tilesPerImage, tilesPerImage * p, d]);
    return this.image_slots ? this.image_slots.forward(images) : images;
  }

  /** LLaVA-NeXT: layout of tiles with `per` tokens each; undefined if images are not cut into tiles. */
  tileLayout(per: number): TileLayout | undefined {
    return tileLayout(this.config, per);
  }

  /** LLaVA-NeXT: tokens of all tiles of an image, in the order of the image, with the newline after each row. */
  protected override imageRows(features: Tensor, input: VisionLanguageInput): ImageRows {
    if (!this.config.image_grid_pinpoints) return super.imageRows(features, input);
    return tiledRows(this.config, this.project(features), input.imageSizes, this.image_newline);
  }

  /**
   * A language model and a vision tower, each trained apart, with a new projector between them: the start of LLaVA's first
   * stage. The model is saved in the original layout.
   * @param keys of the original config.json: mm_projector_type, mm_vision_select_layer, …
   */
  static assemble(language: LlamaForCausalLM, tower: ReturnType<typeof visionTower>, keys: object): Llava {
    const { config, note } = assembledConfigs(language.config, tower.config, keys);
    const model = withoutInit(() => new Llava(config)); // its large parts are replaced next
    model.language_model = language;
    model.vision_tower = tower;
    model.multi_modal_projector = newProjector(config);
    if (model.image_newline) model.image_newline = newNewline(config);
    return note(model);
  }

  /** Loads a folder (path, URL or FileSource) with config.json and weights, in any of the layouts of checkpoints/llava.ts. */
  static fromPretrained(where: string | FileSource, options: LlavaLoadOptions = {}): Promise<Llava> {
    return loadLlava(where, options, (config) => new Llava(config));
  }

  /** Writes config.json and safetensors in the layout that the model was loaded from, else that of Hugging Face. */
  savePretrained(where: string | FileSource, options?: SaveOptions): Promise<void> {
    return saveLlava(this, where, options);
  }
}

const newProjector = ({ vision_config: vision, text_config: text, ...config }: LlavaConfig): Projector =>
  new Projector(vision.hidden_size, text.hidden_size, {
    type: config.mm_projector_type ?? "mlp2x_gelu",
    act: config.projector_hidden_act,
    bias: config.multimodal_projector_bias,
    pixelShuffle: config.projector_pixel_shuffle,
    meanToken: config.projector_mean_token,
  });

const newNewline = ({ text_config: { hidden_size } }: LlavaConfig): Tensor =>
  normal([hidden_size], hidden_size ** -0.5);

/** Module from features [N, P, D] of N images to embeddings [N, tokens(P), D']. */
export interface Adapter extends Module {
  tokens(patches: number): number;
  forward(features: Tensor): Tensor;
}

export interface ProjectorOptions {
  /** "identity", "linear", or "mlp{n}x_gelu": n linear layers with activations between them. */
  type: string;
  bias?: boolean;
  act?: string;
  /** Merge squares of this many tokens per side into one wider token (space to depth). Default 1. */
  pixelShuffle?: number;
  /** Append the mean of the tokens as one more. */
  meanToken?: boolean;
}

/** One linear layer or an MLP on every token. Weights are named linear_1, linear_2, … */
export class Projector extends Module implements Adapter {
  readonly #layers: Layer[] = []; // Linear, or a replacement such as QuantizedLinear
  readonly #act: Activation;
  readonly #shuffle: number;
  readonly #meanToken: boolean;

  constructor(inDim: number, outDim: number, options: ProjectorOptions) {
    super();
    const { type, bias = true, act = "gelu", pixelShuffle = 1, meanToken = false } = options;
    const depth = type === "identity" ? 0 : type === "linear" ? 1 : Number(/^mlp(\d+)x_gelu$/.exec(type)?.[1] ?? NaN);
    if (Number.isNaN(depth))
      throw new Error(`projector type "${type}" is not supported; known are identity, linear, mlp<n>x_gelu`);
    const wide = inDim * pixelShuffle ** 2;
    if (depth === 0 && wide !== outDim)
      throw new Error(`projector identity: features are ${wide} wide, the language model ${outDim}`);
    for (let i = 0; i < depth; i++) this.#layers.push(new Linear(i ? outDim : wide, outDim, { bias }));
    this.#act = activation(act);
    this.#shuffle = pixelShuffle;
    this.#meanToken = meanToken;
  }

  protected override fields(): Iterable<[string, unknown]> {
    return this.#layers.map((layer, i) => [`linear_${i + 1}`, layer]);
  }

  override replaceChild(name: string, child: Layer): void {
    this.#layers[Number(name.slice("linear_".length)) - 1] = child;
  }

  tokens(patches: number): number {
    return patches / this.#shuffle ** 2 + (this.#meanToken ? 1 : 0);
  }

  forward(features: Tensor): Tensor {
    const merged = pixelShuffle(features, this.#shuffle);
    const tokens = this.#meanToken ? cat([merged, merged.mean(1, true)], 1) : merged; // [N, P', D f²]
    return this.#layers.reduce((x, layer, i) => layer.forward(i ? this.#act(x) : x), tokens);
  }
}

/** Space to depth on a square grid of tokens: [N, P, D] to [N, P/f², D f²]. */
export function pixelShuffle(x: Tensor, factor: number): Tensor {
  if (factor === 1) return x;
  const [n, p, d] = x.shape;
  const side = Math.sqrt(p);
  if (!Number.isInteger(side) || side % factor) {
    throw new Error(`pixelShuffle: [${x.shape}] is not a square grid of tokens that ${factor} divides`);
  }
  const out = side / factor;
  const grid = x.reshape([n, out, factor, out, factor, d]).permute([0, 1, 3, 2, 4, 5]); // [N, h, w, f, f, D]
  return grid.reshape([n, out * out, factor * factor * d]);
}
