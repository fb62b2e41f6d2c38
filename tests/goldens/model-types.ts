import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Case } from "./cases.ts";

/** Kinds of models that models.test.ts runs: `model_type` of config.json, or what the case itself says. */
export const modelTypes = [
  "llama",
  "qwen2",
  "mistral",
  "clip_vision_model",
  "siglip_vision_model",
  "vit",
  "llava",
  "llava_llama",
  "mplug-owl",
  "mplug-owl with an adapter",
  "blip-2",
  "resampler",
] as const;

export type ModelType = (typeof modelTypes)[number];

/** The kind of a case of models/; undefined when no runner knows it. */
export function modelType({ path, json }: Case): ModelType | undefined {
  const config = join(path, "model/config.json");
  const type =
    json.base === "models/mplug-owl" && existsSync(join(path, "adapter"))
      ? "mplug-owl with an adapter"
      : json.config?.kv_dim
        ? "resampler"
        : existsSync(config) && JSON.parse(readFileSync(config, "utf8")).model_type;
  return modelTypes.find((known) => known === type);
}
