import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadAdapter } from "../../models/checkpoints/peft.ts";
import { MplugOwl, type MplugOwlConfig } from "../../models/owl.ts";
import { parseRecipe } from "../../models/training/recipe.ts";
import { trainRecipe } from "../../models/training/run.ts";
import { manualSeed, rand, tensor } from "../../src/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { openBackend } from "../support/backend.ts";
import { colourNames, imageOf, config as llava, tinyWorld, tokenizer } from "../support/tiny-world.ts";

const config: MplugOwlConfig = {
  num_query_tokens: 3,
  vision_config: llava.vision_config,
  visual_abstractor_config: {
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 2,
  },
  text_config: llava.text_config,
};

let world: string;
beforeAll(async () => {
  await openBackend();
  world = await tinyWorld();
  manualSeed(3);
  mkdirSync(join(world, "owl"));
  await new MplugOwl(config).savePretrained(folder(join(world, "owl")));
  cpSync(tokenizer, join(world, "owl"), { recursive: true });
  const lines = colourNames.map((colour) => ({
    image: [imageOf(colour).slice("images/".length)],
    text: `The following is a conversation.\nHuman: <image>\nHuman: Which colour?\nAI: ${colour}`,
    task_type: "llava_sft",
  }));
  const words = {
    text: "The following is a conversation.\nHuman: Hi\nAI: Hello!\nHuman: Bye\nAI: Bye!",
    task_type: "chat_sft",
  };
  writeFileSync(join(world, "owl.jsonl"), [...lines, words].map((line) => JSON.stringify(line)).join("\n"));
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

test("mPLUG-Owl: stage 1 trains tower and abstractor, stage 2 a LoRA on text and images", async () => {
  const common = {
    data_path: join(world, "owl.jsonl"),
    image_folder: join(world, "images"),
    train_batch_size: 5,
    micro_batch_size: 5,
    num_train_epochs: 12,
    max_steps: null,
    warmup_steps: 1,
    model_max_length: 128,
  };
  const first = await trainRecipe(
    parseRecipe({
      preset: "mplug-owl-stage1",
      ...common,
      model_name_or_path: join(world, "owl"),
      output_dir: join(world, "stage1"),
      learning_rate: 0.01,
    }),
  );
  const trained = first.parameters.filter(({ trained }) => trained > 0).map(({ part }) => part);
  expect(trained).toEqual(["query_tokens", "vision_model", "abstractor"]);
  expect(first.unused).toEqual([]);
  expect(first.written).toBe("model.safetensors");
  expect(first.losses.at(-1)).toBeLessThan(first.losses[0]);

  const second = await trainRecipe(
    parseRecipe({
      preset: "mplug-owl-stage2-lora",
      ...common,
      model_name_or_path: join(world, "stage1"), // whole, with its tokenizer
      output_dir: join(world, "stage2"),
      gradient_checkpointing: false,
      learning_rate: 0.05,
    }),
  );
  expect(second.adapted.every((name) => /language_model.*\.(q|v)_proj$/.test(name))).toBe(true);
  expect(second.adapted.length).toBe(4);
  expect(second.losses.at(-1)).toBeLessThan(second.losses[0]);

  const again = await MplugOwl.fromPretrained(folder(join(world, "stage1")));
  await loadAdapter(again, folder(join(world, "stage2")));
  const input = { inputIds: tensor([[1, -1, 30, 40]], { dtype: "i32" }), pixelValues: rand(1, 3, 16, 16) };
  const want = await second.model.forward(input).logits.data();
  expect(await again.eval().forward(input).logits.data()).toEqual(want);
});
