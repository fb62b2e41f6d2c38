/** Steps of training, and model size, of each kind of run. */
import type { Size } from "./model.ts";
import { namedSubgroups } from "./splits.ts";
import type { Recipe } from "./stages.ts";

export interface Preset {
  size: Size;
  recipe: Recipe;
  /** Subgroups whose emoji names are taught. Fewer ones are learnt sooner. */
  named: readonly number[];
  about: string;
}
export type PresetName = "quick" | "default" | "full";

/** 443,712 parameters. */
const small: Size = { visionDim: 64, visionLayers: 2, textDim: 96, textLayers: 2, textInner: 192, vocabulary: 1024 };
const batches = { singles: 16, composites: 8, compositeShare: 0.4 };

export const presets: Record<PresetName, Preset> = {
  quick: {
    size: small,
    recipe: {
      ...batches,
      vision: { steps: 700, lr: 1.5e-3, batch: 32 },
      text: { steps: 60, lr: 2e-3, batch: 16 },
      projector: { steps: 30, lr: 2e-3 },
      joint: { steps: 350, lr: 2e-3 },
    },
    named: namedSubgroups,
    about: "colours and backgrounds; it is too short for names and most kinds",
  },
  default: {
    size: small,
    recipe: {
      ...batches,
      vision: { steps: 3400, lr: 1.5e-3, batch: 32 },
      text: { steps: 100, lr: 2e-3, batch: 16 },
      projector: { steps: 40, lr: 2e-3 },
      joint: { steps: 1450, lr: 2e-3 },
    },
    named: namedSubgroups,
    about: "about 4 TFLOP",
  },
  /** The recipe of the checkpoint in the repository. */
  full: {
    size: { ...small, visionDim: 96 },
    recipe: {
      ...batches,
      vision: { steps: 7000, lr: 1.2e-3, batch: 32 },
      text: { steps: 250, lr: 2e-3, batch: 16 },
      projector: { steps: 60, lr: 2e-3 },
      joint: { steps: 6600, lr: 1.5e-3 },
    },
    named: [...namedSubgroups, 38, 46], // and sea life, and sweets
    about: "about 19 TFLOP",
  },
};
