/** Recipes: all settings of a training run as one JSON object. Keys are those of LLaVA's scripts, and some of this library. */
import { presets } from "./presets.ts";

/** Parts of a vision-language model: its tower, its adapter (projector or abstractor), its language model. */
export type Part = "vision" | "projector" | "language";

export interface Recipe {
  /** Name of a preset, for the keys that the recipe leaves out. */
  preset: string | null;
  architecture: "llava" | "mplug-owl" | "mplug-owl2";

  /** Folder of the model. With `vision_tower`: of the language model, and a new projector is made. */
  model_name_or_path: string;
  vision_tower: string | null;
  /** Type of a new projector: identity, linear, mlp2x_gelu, … */
  mm_projector_type: string;
  mm_vision_select_layer: number;
  mm_vision_select_feature: "patch" | "cls_patch";
  /** A projector from an earlier stage: its mm_projector.safetensors. */
  pretrain_mm_mlp_adapter: string | null;

  /** LLaVA JSON (a list) or lines of JSON (.jsonl), one or several files. */
  data_path: string | string[];
  /** Image names in the data are relative to it and stay inside; with "/" they may be absolute. */
  image_folder: string;
  /** Folder for the result, checkpoints and the loss curve. */
  output_dir: string;
  eval_data_path: string | null;
  /** Steps between evaluations; 0 = at the end only. */
  eval_steps: number;

  /** Conversation template. */
  version: string;
  /** "pad" pads images to squares of the mean colour, "square" lets the processor crop, "anyres" cuts them into tiles. */
  image_aspect_ratio: "square" | "pad" | "anyres";
  /** For anyres in a model that is put together: resolutions [width, height], and the order of the tokens of tiles. */
  image_grid_pinpoints: [number, number][];
  mm_patch_merge_type: "flat" | "spatial" | "spatial_unpad";
  /** Longest sequence, images included. Longer samples are cut, and counted. */
  model_max_length: number;

  /** Parts that train in full. */
  trainable: Part[];
  lora_enable: boolean;
  lora_r: number;
  lora_alpha: number;
  lora_dropout: number;
  /** Pattern for the dotted names of the layers that get a LoRA. */
  lora_target: string;
  /** Bits of the frozen weights. 16: all matrices except the adapter's; 8 and 4: those of decoder blocks (QLoRA). */
  bits: 4 | 8 | 16 | 32;
  quant_type: "nf4" | "int4";

  learning_rate: number;
  /** Learning rates of these parts; null = learning_rate. */
  mm_projector_lr: number | null;
  mm_vision_tower_lr: number | null;
  weight_decay: number;
  adam_beta1: number;
  adam_beta2: number;
  adam_epsilon: number;
  max_grad_norm: number | null;
  lr_scheduler_type: "cosine" | "linear" | "constant";
  /** Share of the steps with a rising rate; if not null, the second key gives their number. */
  warmup_ratio: number;
  warmup_steps: number | null;
  min_lr: number;
  num_train_epochs: number;
  /** Number of steps, in place of num_train_epochs. */
  max_steps: number | null;
  /** Samples per step, as in the papers, and samples per micro-batch. */
  train_batch_size: number;
  micro_batch_size: number;

  /** Batches of one modality, and of similar lengths. */
  group_by_modality_length: boolean;
  /** Put several short samples into a row. They do not see each other. */
  packing: boolean;
  gradient_checkpointing: boolean;
  /** Activations in f16, with dynamic loss scaling; trained weights stay f32. */
  fp16: boolean;
  /**
   * Most bytes of a step besides weights and optimizer. Activations are recomputed as far as necessary. If the step cannot fit, it is
   * an error before the first one. null = the budget of `init`.
   */
  memory_budget: number | null;
  /** Keep the features of the frozen tower, so that it runs once per image. */
  feature_cache: "off" | "memory" | "disk";
  /** Most bytes of that cache in memory. The oldest features are dropped first. */
  feature_cache_bytes: number;
  /** Random resized crops of this share of the image, e.g. [0.5, 1]; null = none. */
  augment_crop: [number, number] | null;
  /** Mirror half of the images, except in samples that mention sides or text. */
  augment_flip: boolean;
  /** Brightness, contrast and saturation vary by up to this factor. */
  augment_jitter: number;

  /** Steps between checkpoints to resume from; 0 = none. */
  save_steps: number;
  seed: number;
}

type Check = (value: unknown) => string | undefined;

const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const check =
  (expected: string, test: (value: any) => boolean): Check =>
  (value) =>
    test(value) ? undefined : expected;
const text = check("text", (v) => typeof v === "string" && v !== "");
const flag = check("true or false", (v) => typeof v === "boolean");
const positive = check("a positive number", (v) => isNumber(v) && v > 0);
const atLeast0 = check("a number of at least 0", (v) => isNumber(v) && v >= 0);
const share = check("a number in [0, 1)", (v) => isNumber(v) && v >= 0 && v < 1);
const count = check("a whole number of at least 1", (v) => Number.isSafeInteger(v) && v >= 1);
const count0 = check("a whole number of at least 0", (v) => Number.isSafeInteger(v) && v >= 0);
const whole = check("a whole number", (v) => Number.isSafeInteger(v));
const oneOf = (...values: unknown[]): Check => check(`one of ${values.join(", ")}`, (v) => values.includes(v));
const orNull =
  (inner: Check): Check =>
  (value) =>
    value === null ? undefined : inner(value) && `${inner(value)}, or null`;
const isSize = (v: unknown): boolean => Array.isArray(v) && v.length === 2 && v.every((n) => count(n) === undefined);
const parts: readonly unknown[] = ["vision", "projector", "language"];
const pattern = check("a regular expression", (v) => {
  try {
    return typeof v === "string" && !!new RegExp(v);
  } catch {
    return false;
  }
});

/** Type and default of each key; undefined = required. */
const fields: { readonly [K in keyof Recipe]: readonly [Check, Recipe[K] | undefined] } = {
  preset: [orNull(text), null],
  architecture: [oneOf("llava", "mplug-owl", "mplug-owl2"), "llava"],
  model_name_or_path: [text, undefined],
  vision_tower: [orNull(text), null],
  mm_projector_type: [text, "mlp2x_gelu"],
  mm_vision_select_layer: [whole, -2],
  mm_vision_select_feature: [oneOf("patch", "cls_patch"), "patch"],
  pretrain_mm_mlp_adapter: [orNull(text), null],
  data_path: [
    check(
      "a path or a list of paths",
      (v) => [v].flat().length > 0 && [v].flat().every((p) => typeof p === "string" && p),
    ),
    undefined,
  ],
  image_folder: [text, "."],
  output_dir: [text, undefined],
  eval_data_path: [orNull(text), null],
  eval_steps: [count0, 0],
  version: [text, "v1"],
  image_aspect_ratio: [oneOf("square", "pad", "anyres"), "square"],
  image_grid_pinpoints: [
    check("a list of [width, height]", (v) => Array.isArray(v) && v.length > 0 && v.every(isSize)),
    [
      [336, 672], // LLaVA-NeXT's
      [672, 336],
      [672, 672],
      [1008, 336],
      [336, 1008],
    ],
  ],
  mm_patch_merge_type: [oneOf("flat", "spatial", "spatial_unpad"), "spatial_unpad"],
  model_max_length: [count, 2048],
  trainable: [
    check(`a list of ${parts.join(", ")}`, (v) => Array.isArray(v) && v.every((p) => parts.includes(p))),
    ["projector"],
  ],
  lora_enable: [flag, false],
  lora_r: [count, 64], // LLaVA's train.py
  lora_alpha: [positive, 16],
  lora_dropout: [share, 0.05],
  lora_target: [pattern, "^language_model\\..*\\.(q|k|v|o|gate|up|down)_proj(\\.multiway\\.\\d)?$"],
  bits: [oneOf(4, 8, 16, 32), 32],
  quant_type: [oneOf("nf4", "int4"), "nf4"],
  learning_rate: [positive, undefined],
  mm_projector_lr: [orNull(positive), null],
  mm_vision_tower_lr: [orNull(positive), null],
  weight_decay: [atLeast0, 0],
  adam_beta1: [share, 0.9],
  adam_beta2: [share, 0.999],
  adam_epsilon: [positive, 1e-8],
  max_grad_norm: [orNull(positive), 1], // the default of transformers' Trainer, which LLaVA keeps
  lr_scheduler_type: [oneOf("cosine", "linear", "constant"), "cosine"],
  warmup_ratio: [share, 0],
  warmup_steps: [orNull(count0), null],
  min_lr: [atLeast0, 0],
  num_train_epochs: [positive, 1],
  max_steps: [orNull(count), null],
  train_batch_size: [count, undefined],
  micro_batch_size: [count, 1],
  group_by_modality_length: [flag, false],
  packing: [flag, false],
  gradient_checkpointing: [flag, false],
  fp16: [flag, false],
  memory_budget: [orNull(count), null],
  feature_cache: [oneOf("off", "memory", "disk"), "off"],
  feature_cache_bytes: [count0, 2 ** 30],
  augment_crop: [
    orNull(
      check(
        "two shares, [least, most]",
        (v) => Array.isArray(v) && v.length === 2 && 0 < v[0] && v[0] <= v[1] && v[1] <= 1,
      ),
    ),
    null,
  ],
  augment_flip: [flag, false],
  augment_jitter: [share, 0],
  save_steps: [count0, 0],
  seed: [whole, 42],
};

/**
 * A complete recipe from the keys of a file, its preset and the defaults, in this order.
 * @param where name of the file in error messages
 * @throws one error that lists every unknown key, wrong value and missing key
 */
export function parseRecipe(json: unknown, where = "recipe"): Recipe {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new Error(`${where}: a JSON object expected`);
  const given = json as Record<string, unknown>;
  const { preset: name = null } = given;
  if (name !== null && !Object.hasOwn(presets, name as string))
    throw new Error(`${where}: there is no preset "${name}"; there are ${Object.keys(presets).join(", ")}`);
  const preset: Record<string, unknown> = name === null ? {} : { ...presets[name as string] };
  const problems = Object.keys(given)
    .filter((key) => !Object.hasOwn(fields, key))
    .map((key) => `unknown key "${key}"${suggestion(key)}`);
  const recipe: Record<string, unknown> = {};
  for (const [key, [test, fallback]] of Object.entries(fields)) {
    const chosen = key in given ? given[key] : (preset[key] ?? fallback);
    if (chosen === undefined) problems.push(`missing "${key}"`);
    else {
      const expected = test(chosen);
      if (expected) problems.push(`"${key}" is ${JSON.stringify(chosen)}, expected ${expected}`);
    }
    recipe[key] = chosen;
  }
  if (problems.length) throw new Error(`${where}: ${problems.join("; ")}`);
  const done = recipe as unknown as Recipe;
  checkTogether(done, where);
  return done;
}

/** Problems between keys that are valid alone. */
function checkTogether(r: Recipe, where: string): void {
  const problems: string[] = [];
  const vision = r.trainable.includes("vision");
  if (r.train_batch_size % r.micro_batch_size)
    problems.push(`micro_batch_size ${r.micro_batch_size} does not divide train_batch_size ${r.train_batch_size}`);
  if (r.trainable.length === 0 && !r.lora_enable)
    problems.push("nothing trains: trainable is empty and lora_enable false");
  if (r.lora_enable && r.trainable.includes("language"))
    problems.push("lora_enable trains the language model by a LoRA: take language out of trainable");
  const frozen = r.bits < 32 ? r.trainable.filter((part) => part !== "projector") : [];
  if (frozen.length)
    problems.push(
      `bits ${r.bits} freezes vision and language: take ${frozen.join(" and ")} out of trainable (lora_enable trains it too)`,
    );
  if (r.feature_cache !== "off" && vision)
    problems.push("feature_cache needs a frozen tower, but trainable has vision");
  if (r.feature_cache !== "off" && (r.augment_crop || r.augment_flip || r.augment_jitter > 0))
    problems.push("feature_cache keeps one result an image, so it excludes augmentation");
  if (r.min_lr > r.learning_rate) problems.push(`min_lr ${r.min_lr} is above learning_rate ${r.learning_rate}`);
  if (r.architecture !== "llava" && r.vision_tower)
    problems.push(`vision_tower is for llava: ${r.architecture} has its own`);
  if (r.architecture !== "llava" && r.image_aspect_ratio === "anyres")
    problems.push(`image_aspect_ratio "anyres" is for llava, not ${r.architecture}`);
  if (r.image_aspect_ratio === "anyres" && r.augment_crop)
    problems.push("augment_crop changes the shape of images, which decides their tiles: not with anyres");
  if (problems.length) throw new Error(`${where}: ${problems.join("; ")}`);
}

/** The known key nearest to a misspelt one, if any is near. */
function suggestion(key: string): string {
  const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, "");
  const near = Object.keys(fields).find((name) => plain(name) === plain(key) || plain(name).includes(plain(key)));
  return near && plain(key).length > 2 ? ` (${near}?)` : "";
}
