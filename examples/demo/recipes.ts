/** How long each kind of run trains, and how large its model is. */
import type { Size } from "./model.ts";
import type { Recipe } from "./stages.ts";

export interface Preset {
  size: Size;
  recipe: Recipe;
  about: string;
}
export type PresetName = "quick" | "default" | "full";

/** 443,712 parameters. */
const small: Size = { visionDim: 64, visionLayers: 2, textDim: 96, textLayers: 2, textInner: 192, vocabulary: 1024 };
const batches = { singles: 16, composites: 8, compositeShare: 0.4 };

export const presets: Record<PresetName, Preset> = {
  quick: {
    size: small,
    recipe: { ...batches, vision: { steps: 700, lr: 1.5e-3, batch: 32 }, text: { steps: 60, lr: 2e-3, batch: 16 }, projector: { steps: 30, lr: 2e-3 }, joint: { steps: 350, lr: 2e-3 } },
    about: "colours, backgrounds and kinds; it is too short for names",
  },
  default: {
    size: small,
    recipe: { ...batches, vision: { steps: 3400, lr: 1.5e-3, batch: 32 }, text: { steps: 100, lr: 2e-3, batch: 16 }, projector: { steps: 40, lr: 2e-3 }, joint: { steps: 1450, lr: 2e-3 } },
    about: "about 4 TFLOP",
  },
  full: {
    size: { ...small, visionDim: 96, visionLayers: 3, textDim: 128, textLayers: 3, textInner: 256 },
    recipe: { ...batches, vision: { steps: 30000, lr: 1e-3, batch: 32 }, text: { steps: 1000, lr: 1.5e-3, batch: 16 }, projector: { steps: 200, lr: 1.5e-3 }, joint: { steps: 14000, lr: 1.5e-3 } },
    about: "about 60 TFLOP",
  },
};
