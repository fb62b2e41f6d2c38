export { type AugmentOptions, augment } from "./augment.ts";
export { lossCurve } from "./curve.ts";
export { encodeSample, readSamples, type Sample } from "./data.ts";
export { forecastMemory, type MemoryForecast } from "./forecast.ts";
export { FeatureCache } from "./images.ts";
export { presets } from "./presets.ts";
export { type Part, parseRecipe, type Recipe } from "./recipe.ts";
export { type RunFacts, type RunOptions, type RunResult, trainRecipe } from "./run.ts";
export { epochSteps, pack, type SamplerOptions } from "./sampler.ts";
export {
  type Evaluation,
  type Pause,
  type Progress,
  parameterTable,
  type TrainOptions,
  type TrainResult,
  train,
} from "./train.ts";
