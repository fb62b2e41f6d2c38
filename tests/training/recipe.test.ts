import { expect, test } from "vitest";
import { presets } from "../../models/training/presets.ts";
import { parseRecipe } from "../../models/training/recipe.ts";
import { templates } from "../../src/text/conversation.ts";

const needed = { model_name_or_path: "model", data_path: "data.json", output_dir: "out" };
const own = { ...needed, learning_rate: 1e-3, train_batch_size: 8 };

test.each(Object.keys(presets))("preset %s is a complete recipe", (preset) => {
  const recipe = parseRecipe({ preset, ...needed });
  expect(Object.keys(templates)).toContain(recipe.version);
  expect(recipe).toMatchObject(presets[preset]);
});

test("the recipe's keys go before the preset's, the preset's before the defaults", () => {
  const recipe = parseRecipe({ preset: "llava-1.5-stage2-lora", ...needed, lora_r: 16, mm_projector_lr: null });
  expect(recipe).toMatchObject({ lora_r: 16, lora_alpha: 256, mm_projector_lr: null, max_grad_norm: 1, seed: 42 });
});

/** As the sources state them, written out here once more. */
test.each<[string, object]>([
  ["llava-v1-stage1", { learning_rate: 2e-3, train_batch_size: 128, num_train_epochs: 1, trainable: ["projector"] }],
  ["llava-v1-stage2", { learning_rate: 2e-5, train_batch_size: 32, num_train_epochs: 3, weight_decay: 0 }],
  ["llava-v1-scienceqa", { learning_rate: 2e-5, num_train_epochs: 12 }],
  ["llava-v1-stage2-lora", { learning_rate: 2e-5, train_batch_size: 128, lora_r: 64, lora_alpha: 16, bits: 32 }],
  ["llava-v1-stage2-qlora", { learning_rate: 2e-5, lora_r: 64, lora_alpha: 16, bits: 4, quant_type: "nf4" }],
  ["llava-1.5-stage1", { learning_rate: 1e-3, train_batch_size: 256, version: "plain", warmup_ratio: 0.03 }],
  ["llava-1.5-stage2", { learning_rate: 2e-5, train_batch_size: 128, image_aspect_ratio: "pad", warmup_ratio: 0.03 }],
  ["llava-1.5-stage2-lora", { learning_rate: 2e-4, mm_projector_lr: 2e-5, lora_r: 128, lora_alpha: 256 }],
  ["llava-1.5-stage2-qlora", { learning_rate: 2e-4, mm_projector_lr: 2e-5, lora_r: 128, bits: 4 }],
  [
    "mplug-owl-stage1",
    { learning_rate: 1e-4, adam_beta2: 0.98, weight_decay: 0.1, warmup_steps: 2000, max_steps: 50_000 },
  ],
  [
    "mplug-owl-stage2",
    { learning_rate: 1e-5, min_lr: 1e-6, warmup_steps: 50, weight_decay: 1e-4, train_batch_size: 256 },
  ],
  [
    "mplug-owl-stage2-lora",
    { learning_rate: 2e-5, lora_r: 8, lora_alpha: 32, lora_dropout: 0.05, augment_crop: [0.5, 1], max_grad_norm: 1 },
  ],
  ["llava-next-stage2", { learning_rate: 1e-5, mm_vision_tower_lr: 2e-6, image_aspect_ratio: "anyres" }],
  ["mplug-owl2-stage2", { learning_rate: 2e-5, train_batch_size: 128, trainable: ["projector", "language"] }],
  ["mplug-owl2-stage2-lora", { learning_rate: 1e-4, mm_projector_lr: 2e-5, lora_r: 128, lora_alpha: 256 }],
])("hyper-parameters of %s", (preset, keys) => expect(parseRecipe({ preset, ...needed })).toMatchObject(keys));

test.each([
  [{ learning_rates: 1 }, 'recipe.json: unknown key "learning_rates"'],
  [{ learningRate: 1 }, 'unknown key "learningRate" (learning_rate?)'],
  [{ learning_rate: "1e-3" }, '"learning_rate" is "1e-3", expected a positive number'],
  [{ version: null }, '"version" is null, expected text'],
  [{ trainable: ["llm"] }, '"trainable" is ["llm"], expected a list of vision, projector, language'],
  [{ lora_target: "(" }, '"lora_target" is "(", expected a regular expression'],
  [{ preset: "llava-2" }, 'there is no preset "llava-2"; there are llava-v1-stage1,'],
  [{ micro_batch_size: 3 }, "micro_batch_size 3 does not divide train_batch_size 8"],
  [{ trainable: [] }, "nothing trains"],
  [{ lora_enable: true, trainable: ["language"] }, "take language out of trainable"],
  [{ bits: 4, trainable: ["language"] }, "bits 4 freezes vision and language: take language out of trainable"],
  [{ feature_cache: "memory", augment_flip: true }, "it excludes augmentation"],
  [{ feature_cache: "memory", trainable: ["vision"] }, "feature_cache needs a frozen tower"],
  [{ image_aspect_ratio: "anyres", augment_crop: [0.5, 1] }, "augment_crop changes the shape of images"],
  [{ image_aspect_ratio: "anyres", architecture: "mplug-owl2" }, '"anyres" is for llava, not mplug-owl2'],
  [{ image_grid_pinpoints: [[336]] }, "expected a list of [width, height]"],
  [{ architecture: "mplug-owl2", vision_tower: "clip" }, "vision_tower is for llava: mplug-owl2 has its own"],
] as const)("%j is an error that says why", (keys, message) => {
  expect(() => parseRecipe({ ...own, ...keys }, "recipe.json")).toThrow(message);
});

test("all problems come at once", () => {
  expect(() => parseRecipe({ model_name_or_path: "m", extra: 1, seed: 1.5 })).toThrow(
    'unknown key "extra"; missing "data_path"; missing "output_dir"; missing "learning_rate"; missing "train_batch_size"; "seed" is 1.5, expected a whole number',
  );
  expect(() => parseRecipe([])).toThrow("a JSON object expected");
});
