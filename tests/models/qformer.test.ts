import { beforeAll, expect, test } from "vitest";
import { loadWeights, saveModel } from "../../models/checkpoints/load.ts";
import { type Blip2Config, Blip2ImageEncoder } from "../../models/qformer.ts";
import { Resampler, resamplerNames } from "../../models/resampler.ts";
import { manualSeed, rand } from "../../src/index.ts";
import { saveSafetensors, TensorFiles } from "../../src/io/index.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { openBackend } from "../support/backend.ts";

beforeAll(openBackend);

const config: Blip2Config = {
  vision_config: {
    hidden_size: 12,
    intermediate_size: 20,
    num_hidden_layers: 1,
    num_attention_heads: 3,
    image_size: 8,
    patch_size: 4,
  },
  qformer_config: {
    hidden_size: 8,
    encoder_hidden_size: 12,
    intermediate_size: 10,
    num_hidden_layers: 3,
    num_attention_heads: 2,
  },
  num_query_tokens: 5,
  text_config: { d_model: 7 },
};

test("a BLIP-2 folder is read back bit for bit, its language model left out", async () => {
  manualSeed(3);
  const model = new Blip2ImageEncoder(config);
  const pixels = rand(2, 3, 8, 8);
  const { embeddings, hiddenStates } = model.forward(pixels);
  expect([embeddings.shape, hiddenStates.length]).toEqual([[2, 5, 7], 4]);
  const files = memoryFiles();
  const whole = { ...model.stateDict(), "language_model.model.embed_tokens.weight": rand(3, 7) };
  await saveModel(model, config, files, {}, whole);
  const again = await Blip2ImageEncoder.fromPretrained(files);
  expect(Object.keys(again.stateDict())).toEqual(Object.keys(model.stateDict()));
  expect(await again.forward(pixels).embeddings.data()).toEqual(await model.forward(pixels).embeddings.data());
  await again.savePretrained(files);
  const saved = (await TensorFiles.open(files, "model.safetensors")).names;
  expect([...saved].sort()).toEqual(Object.keys(model.stateDict()).sort());
  const crossing = Object.keys(model.stateDict()).filter((name) =>
    name.includes("crossattention.attention.key.weight"),
  );
  expect(crossing.map((name) => name.split(".")[3])).toEqual(["0", "2"]);
});

test("a config that does not fit is an error that says why", () => {
  const narrow = { ...config.qformer_config, encoder_hidden_size: 10 };
  expect(() => new Blip2ImageEncoder({ ...config, qformer_config: narrow })).toThrow(
    "encoder_hidden_size 10 must equal the tower's hidden_size 12",
  );
  expect(() => new Blip2ImageEncoder({ ...config, text_config: {} })).toThrow("no width in text_config");
  const heads = { ...config.qformer_config, num_attention_heads: 3 };
  expect(() => new Blip2ImageEncoder({ ...config, qformer_config: heads })).toThrow(
    "3 heads do not divide hidden size 8",
  );
});

test("a resampler keeps its published names, and its positions never train", async () => {
  manualSeed(4);
  const model = new Resampler({ grid_size: 2, embed_dim: 8, num_heads: 2, kv_dim: 6 });
  const state = model.stateDict();
  const published = Object.fromEntries(Object.entries(state).map(([name, t]) => [name.replace(".table", ""), t]));
  expect(Object.keys(published)).toContain("pos_embed");
  const files = memoryFiles();
  const entries = Object.entries(published).map(([name, t]) => {
    const read = () => t.data() as Promise<Float32Array>;
    return [name, { shape: [...t.shape], dtype: "f32", read }] as const;
  });
  await saveSafetensors(files, "a.safetensors", Object.fromEntries(entries));
  const again = new Resampler(model.config);
  await loadWeights(again, [await TensorFiles.open(files, "a.safetensors")], resamplerNames);
  const x = rand(3, 9, 6);
  expect(await again.forward(x).data()).toEqual(await model.forward(x).data());
  expect([again.forward(x).shape, again.tokens()]).toEqual([[3, 4, 8], 4]);
  again.requiresGrad_();
  expect(again.pos_embed.table.requiresGrad).toBe(false);
  expect(again.query.requiresGrad).toBe(true);
  expect(() => again.forward(rand(1, 7, 6))).toThrow("Resampler: 7 features are not a square grid");
  expect(() => new Resampler({ grid_size: 2, embed_dim: 6, num_heads: 2 })).toThrow(
    "embed_dim 6 must be a multiple of 4",
  );
});
