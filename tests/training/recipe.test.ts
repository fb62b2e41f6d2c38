import { expect, test } from "vitest";
import { templates } from "../../models/conversation.ts";
import { presets } from "../../models/training/presets.ts";
import { parseRecipe } from "../../models/training/recipe.ts";

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

test("hyper-parameters of the papers", () => {
  const of = (preset: string) => parseRecipe({ preset, ...needed });
  expect(of("llava-1.5-stage1")).toMatchObject({ learning_rate: 1e-3, train_batch_size: 256, version: "plain" });
  expect(of("llava-1.5-stage2")).toMatchObject({ learning_rate: 2e-5, train_batch_size: 128, warmup_ratio: 0.03 });
  expect(of("llava-v1-stage2")).toMatchObject({ learning_rate: 2e-5, train_batch_size: 32, num_train_epochs: 3 });
  expect(of("mplug-owl-stage2-lora")).toMatchObject({ lora_r: 8, lora_alpha: 32, min_lr: 1e-6, warmup_steps: 50 });
});

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
] as const)("%j is an error that says why", (keys, message) => {
  expect(() => parseRecipe({ ...own, ...keys }, "recipe.json")).toThrow(message);
});

test("all problems come at once", () => {
  expect(() => parseRecipe({ model_name_or_path: "m", extra: 1, seed: 1.5 })).toThrow(
    'unknown key "extra"; missing "data_path"; missing "output_dir"; missing "learning_rate"; missing "train_batch_size"; "seed" is 1.5, expected a whole number',
  );
  expect(() => parseRecipe([])).toThrow("a JSON object expected");
});
