/**
 * mPLUG-Owl2 (arXiv 2311.04257): mPLUG-Owl's vision tower at 448 pixels, an abstractor with fixed positions, and a LLaMA
 * with separate norms, keys and values for text and for image features. Weight names are those of X-PLUG's checkpoints.
 */

import { Processor } from "../src/generate/index.ts";
import { type Tensor, where } from "../src/index.ts";
import { type FileSource, openCheckpoint, openFolder, type SaveOptions } from "../src/io/index.ts";
import { type Layer, Module, truncatedNormal } from "../src/nn/index.ts";
import { Abstractor, type AbstractorConfig } from "./abstractor.ts";
import { llamaDefaults } from "./checkpoints/defaults.ts";
import { denseState, type LoadOptions, loadModel, type Rename, saveModel } from "./checkpoints/load.ts";
import type { VisionConfig } from "./clip.ts";
import { type DecoderPart, type LlamaConfig, LlamaForCausalLM } from "./llama.ts";
import { OwlVisionModel, owlDefaults } from "./owl.ts";
import { VisionLanguageModel } from "./vlm.ts";

/** The keys of config.json: those of LLaMA, and visual_config. */
export interface MplugOwl2Config extends LlamaConfig {
  visual_config: { visual_model: VisionConfig; visual_abstractor: AbstractorConfig };
}

/** The defaults of the reference's config classes. */
const visualDefaults = {
  visual_model: { ...owlDefaults.vision, image_size: 448 },
  visual_abstractor: {
    ...owlDefaults.abstractor,
    intermediate_size: 2816,
    num_learnable_queries: owlDefaults.queries,
  },
} as const;

/** mPLUG-Owl's abstractor, with the queries as its parameter. */
class VisualAbstractor extends Abstractor {
  query_embeds: Tensor; // [1, Q, D]

  constructor(config: AbstractorConfig, outDim: number) {
    super(config, outDim);
    this.query_embeds = truncatedNormal([1, config.num_learnable_queries!, config.hidden_size], 0.02);
  }
}

/** Two layers of one kind: one for text, one for image features. */
class Multiway extends Module implements DecoderPart {
  multiway: Layer[]; // text, image

  constructor(make: () => Layer) {
    super();
    this.multiway = [make(), make()];
  }

  forward(x: Tensor, modality?: Tensor): Tensor {
    const [text, image] = this.multiway;
    return modality ? where(modality, image.forward(x), text.forward(x)) : text.forward(x);
  }
}

/** LLaMA with separate norms, keys and values for text and for image features. */
export class MplugOwl2Decoder extends LlamaForCausalLM {
  constructor(config: LlamaConfig) {
    const twoWays = (make: () => Layer) => new Multiway(make);
    super(config, { type: "mplug_owl2", norm: twoWays, keyValue: twoWays });
  }
}

export class MplugOwl2 extends VisionLanguageModel {
  vision_model: OwlVisionModel;
  visual_abstractor: VisualAbstractor;
  language_model: MplugOwl2Decoder;
  readonly config: MplugOwl2Config;

  constructor(config: MplugOwl2Config) {
    super();
    const { visual_model: vision, visual_abstractor: abstractor } = config.visual_config;
    const grid = abstractor.grid_size ?? vision.image_size / vision.patch_size;
    this.config = { ...config, model_type: "mplug_owl2" };
    this.vision_model = new OwlVisionModel(vision);
    this.visual_abstractor = new VisualAbstractor({ ...abstractor, grid_size: grid }, config.hidden_size);
    this.language_model = new MplugOwl2Decoder(this.config);
  }

  protected isImageToken(id: number): boolean {
    return id < 0;
  }

  protected override get textTakesImage(): boolean {
    return true;
  }

  protected override get modalityAdaptive(): boolean {
    return true;
  }

  /** pixels [N, C, H, W] to [N, 1 + P, D]. */
  visionFeatures(pixels: Tensor): Tensor {
    return this.vision_model.forward(pixels).lastHiddenState;
  }

  /** The abstractor: features [N, 1 + P, D] to [N, Q + 1, D']. */
  project(features: Tensor): Tensor {
    return this.visual_abstractor.forward(this.visual_abstractor.query_embeds, features);
  }

  static async fromPretrained(where: string | FileSource, options?: LoadOptions): Promise<MplugOwl2> {
    const source = await openFolder(where);
    const { config, tensors } = await openCheckpoint(source);
    const { visual_model: vision, visual_abstractor: abstractor } = config.visual_config ?? {};
    const complete: MplugOwl2Config = {
      ...llamaDefaults,
      ...config,
      visual_config: {
        visual_model: { ...visualDefaults.visual_model, ...vision },
        visual_abstractor: { ...visualDefaults.visual_abstractor, ...abstractor },
      },
    };
    const model = await loadModel(source, () => new MplugOwl2(complete), [tensors], renames, options);
    const { image_size: size } = complete.visual_config.visual_model;
    const squares = { size, crop_size: size };
    model.processor = await Processor.open(source, complete, squares, { aspect: "resize", template: "mplug_owl2" });
    return model;
  }

  async savePretrained(where: string | FileSource, options?: SaveOptions): Promise<void> {
    const named = Object.entries(denseState(this)).map(([name, t]) => [publishedName(name), t] as const);
    await saveModel(this, this.config, where, options, Object.fromEntries(named));
  }
}

const publishedName = (name: string): string =>
  name.startsWith("language_model.") ? name.slice("language_model.".length) : `model.${name}`;

const renames: Rename[] = [
  [/^model\.(vision_model|visual_abstractor)\./, "$1."],
  [/^(model|lm_head)\./, "language_model.$1."],
];
