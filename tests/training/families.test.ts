import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { saveModel } from "../../models/checkpoints/load.ts";
import { loadAdapter } from "../../models/checkpoints/peft.ts";
import { CLIPVisionModel } from "../../models/clip.ts";
import { LlamaForCausalLM } from "../../models/llama.ts";
import { Llava } from "../../models/llava.ts";
import { MplugOwl2 } from "../../models/owl2.ts";
import { parseRecipe } from "../../models/training/recipe.ts";
import { trainRecipe } from "../../models/training/run.ts";
import { manualSeed, rand, tensor } from "../../src/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { openBackend } from "../support/backend.ts";
import { config, png, tinyWorld, tokenizer } from "../support/tiny-world.ts";

let world: string;
beforeAll(async () => {
  await openBackend();
  world = await tinyWorld();
  manualSeed(2);
  for (const name of ["next", "owl2", "words"]) {
    mkdirSync(join(world, name));
    cpSync(tokenizer, join(world, name), { recursive: true });
  }
  // Images of three shapes: three numbers of tiles and of positions.
  writeFileSync(join(world, "images/wide.png"), png("red", 40, 12));
  writeFileSync(join(world, "images/tall.png"), png("blue", 10, 44));
  const talk = (image: string | undefined, answer: string, i: number) => ({
    id: i,
    ...(image && { image }),
    conversations: [
      { from: "human", value: `${image ? "<image>\n" : ""}Which colour?` },
      { from: "gpt", value: answer },
    ],
  });
  const talks = [
    talk("wide.png", "red", 0),
    talk("tall.png", "blue", 1),
    talk("nested/green.png", "green", 2),
    talk(undefined, "none", 3),
  ];
  writeFileSync(join(world, "shapes.json"), JSON.stringify(talks));
  writeFileSync(join(world, "owl2.json"), JSON.stringify(talks).replaceAll("<image>", "<|image|>")); // as its own files have it
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

const common = (output: string) => ({
  image_folder: join(world, "images"),
  data_path: join(world, "shapes.json"),
  output_dir: join(world, output),
  train_batch_size: 4,
  micro_batch_size: 2,
  max_steps: 10,
  warmup_ratio: 0,
  gradient_checkpointing: false,
  model_max_length: 256,
});

describe("LLaVA-NeXT", () => {
  const next = { ...config, image_grid_pinpoints: [16, 32, 48].flatMap((n) => [[16, n] as const, [n, 16] as const]) };
  beforeAll(async () => {
    await new Llava({ ...next, mm_patch_merge_type: "spatial_unpad" }).savePretrained(folder(join(world, "next")));
  });
  const recipe = (output: string, keys: object) =>
    parseRecipe({ preset: "llava-next-stage2", ...common(output), model_name_or_path: join(world, "next"), ...keys });

  test("trains all parts on images of any shape, the newline too", async () => {
    const done = await trainRecipe(recipe("all", { learning_rate: 0.01, mm_vision_tower_lr: 0.002 }));
    expect(done.unused.every((name) => /layers\.1\.|post_layernorm/.test(name))).toBe(true); // after the layer that is read
    expect(done.losses[9]).toBeLessThan(0.6 * done.losses[0]);
    const before = await Llava.fromPretrained(join(world, "next"));
    const after = await Llava.fromPretrained(join(world, "all"));
    expect(await after.image_newline!.data()).not.toEqual(await before.image_newline!.data());
    const input = {
      inputIds: tensor([[1, -200, 30, 40]], { dtype: "i32" }),
      pixelValues: rand(4, 3, 16, 16), // the whole and three tiles
      imageSizes: [[12, 40] as const],
    };
    const want = await done.model.forward(input).logits.data();
    expect(await after.eval().forward(input).logits.data()).toEqual(want);
  });

  test("features of tiles are cached one by one, with the same losses", async () => {
    const keys = { trainable: ["projector"], learning_rate: 0.01, max_steps: 4 };
    const plain = await trainRecipe(recipe("plain", keys));
    const cached = await trainRecipe(recipe("cached", { ...keys, feature_cache: "disk" }));
    cached.losses.forEach((loss, i) => expect(Math.abs(loss / plain.losses[i] - 1)).toBeLessThan(1e-5));
    const again = await trainRecipe(recipe("cached", { ...keys, feature_cache: "disk" }));
    expect(again.losses).toEqual(cached.losses);
    expect(again.written).toBe("mm_projector.safetensors");
    const next = recipe("from", { ...keys, pretrain_mm_mlp_adapter: join(world, "cached/mm_projector.safetensors") });
    expect((await trainRecipe(next)).losses[0]).toBeLessThan(plain.losses[0]);
  });

  test("whether images are cut is checked against the model", async () => {
    await expect(trainRecipe(recipe("no", { image_aspect_ratio: "pad" }))).rejects.toThrow(
      'cuts images into tiles: image_aspect_ratio must be "anyres", got "pad"',
    );
    const whole = recipe("no", { model_name_or_path: join(world, "model") });
    await expect(trainRecipe(whole)).rejects.toThrow("does not cut images into tiles (no image_grid_pinpoints)");
  });
});

test("LLaVA put together from a language model and a tower: saved in the original layout, whole with its tokenizer", async () => {
  await saveModel(
    new LlamaForCausalLM(config.text_config),
    { ...config.text_config, model_type: "llama" },
    folder(join(world, "words")),
  );
  const vision = { ...config.vision_config, model_type: "clip_vision_model" };
  await saveModel(new CLIPVisionModel(vision), vision, folder(join(world, "tower")));
  const settings = { size: 16, crop_size: 16, image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] };
  writeFileSync(join(world, "tower/preprocessor_config.json"), JSON.stringify(settings));
  const recipe = parseRecipe({
    preset: "llava-1.5-stage2",
    ...common("joined"),
    model_name_or_path: join(world, "words"),
    vision_tower: join(world, "tower"),
    learning_rate: 0.01,
    max_steps: 3,
  });
  const { model, losses } = await trainRecipe(recipe);
  expect(losses[2]).toBeLessThan(losses[0]);
  const again = await Llava.fromPretrained(join(world, "joined"));
  expect(again.processor!.images.image_mean).toEqual([0.5, 0.5, 0.5]);
  expect(again.processor!.options.aspect).toBe("pad");
  const input = { inputIds: tensor([[1, -200, 30, 40]], { dtype: "i32" }), pixelValues: rand(1, 3, 16, 16) };
  expect(await again.eval().forward(input).logits.data()).toEqual(await model.forward(input).logits.data());
});

describe("mPLUG-Owl2", () => {
  beforeAll(async () => {
    const abstractor = { hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2 };
    const model = new MplugOwl2({
      ...config.text_config,
      visual_config: {
        visual_model: config.vision_config,
        visual_abstractor: { ...abstractor, num_learnable_queries: 3 },
      },
    });
    await model.savePretrained(folder(join(world, "owl2")));
  });
  const recipe = (preset: string, output: string, keys: object) =>
    parseRecipe({
      preset,
      ...common(output),
      model_name_or_path: join(world, "owl2"),
      data_path: join(world, "owl2.json"),
      ...keys,
    });

  test("abstractor and language model train, the tower does not", async () => {
    const done = await trainRecipe(recipe("mplug-owl2-stage2", "owl2-all", { learning_rate: 0.01 }));
    expect(done.parameters.filter(({ trained }) => trained === 0).map(({ part }) => part)).toEqual(["vision_model"]);
    expect(done.unused).toEqual([]);
    expect(done.losses[9]).toBeLessThan(0.6 * done.losses[0]);
    const again = await MplugOwl2.fromPretrained(join(world, "owl2-all"));
    const input = { inputIds: tensor([[1, -200, 30, 40]], { dtype: "i32" }), pixelValues: rand(1, 3, 16, 16) };
    expect(await again.forward(input).logits.data()).toEqual(await done.model.forward(input).logits.data());
  });

  test.each([32, 4] as const)("a LoRA in both ways of keys and values, with %i bits", async (bits) => {
    const keys = { bits, learning_rate: 0.05, mm_projector_lr: 0.005, lora_r: 4, lora_alpha: 8 };
    const done = await trainRecipe(recipe("mplug-owl2-stage2-lora", `owl2-lora-${bits}`, keys));
    expect(done.adapted.length).toBe(2 * 9);
    expect(done.adapted.filter((name) => /multiway\.[01]$/.test(name)).length).toBe(2 * 4);
    expect(done.losses[9]).toBeLessThan(0.9 * done.losses[0]);
    const again = await MplugOwl2.fromPretrained(join(world, "owl2"), { dtype: bits === 4 ? "nf4" : "f32" });
    await loadAdapter(again, folder(join(world, `owl2-lora-${bits}`)));
    const input = { inputIds: tensor([[1, -200, 30, 40]], { dtype: "i32" }), pixelValues: rand(1, 3, 16, 16) };
    expect(await again.eval().forward(input).logits.data()).toEqual(await done.model.forward(input).logits.data());
  });
});
