import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadAdapter } from "../../models/checkpoints/peft.ts";
import { Llava } from "../../models/llava.ts";
import { parseRecipe } from "../../models/training/recipe.ts";
import { type RunFacts, trainRecipe } from "../../models/training/run.ts";
import { memoryStats, rand, Tensor, tensor } from "../../src/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { openBackend } from "../support/backend.ts";
import { tinyWorld } from "../support/tiny-world.ts";

let world: string;
beforeAll(async () => {
  await openBackend();
  world = await tinyWorld();
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

const places = (output: string) => ({
  model_name_or_path: join(world, "model"),
  image_folder: join(world, "images"),
  output_dir: join(world, output),
});

describe("from recipe.json to an adapter", () => {
  test("stage 1, stage 2 with a LoRA, saved, loaded: the same logits", async () => {
    const facts: RunFacts[] = [];
    const stage1 = parseRecipe({
      preset: "llava-v1-stage1",
      ...places("stage1"),
      data_path: join(world, "pairs.json"),
      learning_rate: 0.05,
      train_batch_size: 4,
      micro_batch_size: 2,
      num_train_epochs: 12,
    });
    const first = await trainRecipe(stage1, { onStart: (f) => facts.push(f) });
    expect(facts[0].parameters.filter(({ trained }) => trained > 0).map(({ part }) => part)).toEqual([
      "multi_modal_projector",
    ]);
    expect(first.written).toBe("mm_projector.safetensors");
    expect(first.losses.length).toBe(12);
    expect(first.losses[11]).toBeLessThan(first.losses[0]);

    const stage2 = parseRecipe({
      preset: "llava-1.5-stage2-lora",
      ...places("stage2"),
      data_path: join(world, "talks.json"),
      eval_data_path: join(world, "talks.json"),
      eval_steps: 10,
      pretrain_mm_mlp_adapter: join(world, "stage1/mm_projector.safetensors"),
      lora_r: 4,
      lora_alpha: 8,
      learning_rate: 0.02,
      mm_projector_lr: 0.002,
      train_batch_size: 4,
      micro_batch_size: 2,
      num_train_epochs: 12,
      gradient_checkpointing: false,
      model_max_length: 256,
    });
    const second = await trainRecipe(stage2);
    expect(second.adapted.length).toBe(14);
    expect(second.losses.at(-1)).toBeLessThan(0.75 * second.losses[0]); // of random frozen weights
    expect(second.evaluations.map(({ step }) => step)).toEqual([10, 20, 24]);
    expect(existsSync(join(world, "stage2/adapter_config.json"))).toBe(true);
    expect(readFileSync(join(world, "stage2/loss.svg"), "utf8")).toContain("<circle");
    expect(JSON.parse(readFileSync(join(world, "stage2/log.json"), "utf8")).losses).toEqual(second.losses);

    const again = await Llava.fromPretrained(folder(join(world, "model")));
    await loadAdapter(again, folder(join(world, "stage2")));
    const input = { inputIds: tensor([[1, -200, 30, 40, 50]], { dtype: "i32" }), pixelValues: rand(1, 3, 16, 16) };
    const want = await second.model.forward(input).logits.data();
    expect(await again.eval().forward(input).logits.data()).toEqual(want);
  });
});

describe("a frozen base of few bits", () => {
  test.each([16, 8, 4] as const)("%i bits: a LoRA and the projector learn", async (bits) => {
    const recipe = parseRecipe({
      preset: "llava-1.5-stage2-qlora",
      ...places(`bits-${bits}`),
      data_path: join(world, "talks.json"),
      bits,
      lora_r: 4,
      lora_alpha: 8,
      learning_rate: 0.02,
      train_batch_size: 5,
      micro_batch_size: 5,
      max_steps: 8,
      group_by_modality_length: false,
      model_max_length: 256,
    });
    const { losses, model, parameters } = await trainRecipe(recipe);
    expect(losses[7]).toBeLessThan(0.9 * losses[0]);
    const language = parameters.find(({ part }) => part === "language_model")!;
    expect(language.values).toBeGreaterThan(60000); // as many as the matrices that are packed
    const layer = model.language_model.model.layers[0].self_attn.q_proj;
    expect(layer.weight instanceof Tensor ? layer.weight.dtype : recipe.quant_type).toBe(bits === 16 ? "f16" : "nf4");

    const dtype = ({ 16: "f16", 8: "int8", 4: "nf4" } as const)[bits];
    const again = await Llava.fromPretrained(folder(join(world, "model")), { dtype });
    await loadAdapter(again, folder(recipe.output_dir));
    const input = { inputIds: tensor([[1, 30, 40, 50]], { dtype: "i32" }) };
    const [got, want] = [await again.eval().forward(input).logits.data(), await model.forward(input).logits.data()];
    expect(got).toEqual(want);
  });
});

/** The losses of three steps of one epoch of stage 2, in f32 and without extras, and of the same with other keys. */
describe("the same steps by other means", () => {
  const losses = async (name: string, keys: object = {}) => {
    const recipe = parseRecipe({
      preset: "llava-1.5-stage2",
      ...places(name),
      data_path: join(world, "talks.json"),
      learning_rate: 0.01,
      train_batch_size: 5,
      micro_batch_size: 5,
      max_steps: 3,
      gradient_checkpointing: false,
      group_by_modality_length: false,
      model_max_length: 256,
      ...keys,
    });
    return trainRecipe(recipe);
  };
  let plain: Awaited<ReturnType<typeof losses>>;
  beforeAll(async () => {
    plain = await losses("plain");
  });
  const close = (got: readonly number[], relative: number): void => {
    expect(got.length).toBe(plain.losses.length);
    got.forEach((loss, i) => expect(Math.abs(loss / plain.losses[i] - 1)).toBeLessThan(relative));
  };

  test("cached features and checkpointed activations change nothing", async () => {
    const keys = { feature_cache: "disk", gradient_checkpointing: true };
    const cached = await losses("cached", keys);
    close(cached.losses, 1e-5);
    expect((await losses("cached", keys)).losses).toEqual(cached.losses); // from the files
  });

  test("activations in f16 with scaled losses follow, on less memory", async () => {
    const half = await losses("half", { fp16: true });
    close(half.losses, 0.02);
    expect(half.losses).not.toEqual(plain.losses);
    expect(half.skipped).toBe(0);
    if (plain.memory.activations) expect(half.memory.activations).toBeLessThan(plain.memory.activations);
  });

  test("packed samples see themselves alone, from position 0", async () => {
    const packed = await losses("packed", { packing: true });
    expect([plain.rows, packed.rows]).toEqual([5, 2]);
    close(packed.losses, 1e-4); // sums in another order, through AdamW
  });

  test("a memory budget computes activations again, in the forecast and in the run", async () => {
    const free = plain.memory.activations;
    const budget = Math.max(1, Math.round(0.7 * free));
    const tight = await losses("budget", { memory_budget: budget, eval_data_path: join(world, "talks.json") });
    close(tight.losses, 1e-4);
    if (free) {
      expect(tight.memory.unbudgeted).toBe(free);
      expect(tight.memory.activations).toBeLessThanOrEqual(budget);
      const small = losses("budget", { memory_budget: 1000 });
      await expect(small).rejects.toThrow(/memory budget of 1000 bytes is too small: this step needs \d+ bytes/);
    }
    expect((await losses("after")).losses).toEqual(plain.losses); // the budget ends with its run
  });

  test("the memory forecast is near the measured peak", async () => {
    for (const keys of [{}, { micro_batch_size: 1 }, { lora_enable: true, trainable: ["projector"] }]) {
      const device = await openBackend(); // a new one, with nothing on it
      const { memory } = await losses("memory", keys);
      if (device) expect(Math.abs(memory.total / memoryStats().peakBytes - 1)).toBeLessThan(0.25); // sizes are classes, and batches of other lengths add theirs
    }
  });
});

describe("a run that stops and goes on", () => {
  const recipe = (output: string) =>
    parseRecipe({
      preset: "llava-v1-stage2",
      ...places(output),
      data_path: join(world, "talks.json"),
      trainable: ["projector"],
      lora_enable: true,
      lora_r: 2,
      lora_dropout: 0.3, // random numbers that must go on too
      learning_rate: 0.01,
      weight_decay: 0.1,
      train_batch_size: 3, // steps of different sizes, of both modalities
      micro_batch_size: 1,
      num_train_epochs: 3,
      save_steps: 2,
      max_grad_norm: 0.5,
      gradient_checkpointing: false,
    });
  const trained = async (model: { namedParameters(): Iterable<[string, { data(): Promise<unknown> }]> }) =>
    Object.fromEntries(
      await Promise.all(
        [...model.namedParameters()]
          .filter(([name]) => /lora_|projector/.test(name))
          .map(async ([name, t]) => [name, await t.data()]),
      ),
    );

  test("has the losses and weights of one that did not, bit for bit", async () => {
    const whole = await trainRecipe(recipe("whole"));
    const stop = new AbortController();
    const stopped = trainRecipe(recipe("parts"), {
      signal: stop.signal,
      onProgress: ({ step }) => step === 3 && stop.abort(new Error("power cut")),
    });
    await expect(stopped).rejects.toThrow("power cut");
    const rest = await trainRecipe(recipe("parts"), { resume: true });
    expect(rest.resumedAt).toBe(4);
    expect(rest.losses).toEqual(whole.losses);
    expect(await trained(rest.model)).toEqual(await trained(whole.model));
    const other = { ...recipe("parts"), learning_rate: 0.02 };
    await expect(trainRecipe(other, { resume: true })).rejects.toThrow("learning_rate was 0.01, is 0.02");
  });
});
