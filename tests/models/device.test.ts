import { expect, test } from "vitest";
import { Llava } from "../../models/llava.ts";
import { init, manualSeed, tensor } from "../../src/index.ts";
import { AdamW, decayMatrices } from "../../src/nn/index.ts";
import { tinyConfig } from "../support/tiny-llava.ts";

const IMAGE = 5;
/** A convolutional ViT, pixel shuffle with a mean token and slots, tied embeddings: all that the demo's model has. */
const config = tinyConfig({
  image_token_index: IMAGE,
  vision_feature_layer: -1,
  projector_pixel_shuffle: 2,
  projector_mean_token: true,
  projector_slots: 20,
  vision: {
    model_type: "vit_conv_stem",
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    image_size: 32,
    patch_size: 8,
    stem_channels: [8, 16, 32],
  },
  text: { vocab_size: 128, hidden_size: 64, intermediate_size: 96, tie_word_embeddings: true, logit_scale: 0.5 },
});

/** Two rows of turns of five tokens packed after one image of `tiles` tiles, padded at the end. */
function batch(tiles: number, length: number, seed: number) {
  const head = 1 + 5 * tiles;
  const row = (b: number) => {
    const end = length - 4 - b;
    return Array.from({ length }, (_, t) => {
      if (t < head) return { id: t === 0 ? 1 : IMAGE, segment: 0, label: -100 };
      if (t >= end) return { id: 0, segment: -1, label: -100 };
      const id = 10 + ((7 * t + b + seed) % 100);
      return { id, segment: 1 + Math.floor((t - head) / 5), label: (t - head) % 5 > 2 ? id : -100 };
    });
  };
  const rows = [row(0), row(1)];
  const column = (key: "id" | "segment" | "label") =>
    tensor(
      rows.map((r) => r.map((token) => token[key])),
      { dtype: "i32" },
    );
  const pixels = Float32Array.from({ length: 2 * tiles * 3 * 32 * 32 }, (_, i) => Math.sin(0.37 * i + seed));
  return {
    inputIds: column("id"),
    segments: column("segment"),
    labels: column("label"),
    tilesPerImage: tiles,
    pixelValues: tensor(pixels, { shape: [2 * tiles, 3, 32, 32] }),
  };
}

async function run(backend: "reference" | "webgpu") {
  await init({ backend });
  manualSeed(7);
  const model = new Llava(config);
  const optimizer = new AdamW(decayMatrices(model.parameters(), 0.05), { lr: 2e-3, maxNorm: 1 });
  const numbers: number[] = [];
  for (let step = 0; step < 4; step++) {
    const loss = model.loss(batch(step % 2 ? 4 : 1, step % 2 ? 48 : 32, step));
    loss.backward();
    await optimizer.step();
    numbers.push(await loss.item(), await optimizer.gradNorm!.item());
  }
  const values = await Promise.all(
    [...model.namedParameters()].map(async ([name, p]) => [name, await p.data()] as const),
  );
  return { numbers, parameters: Object.fromEntries(values) };
}

test("packed turns on single and tiled images train on the device as in the f64 interpreter", async () => {
  const want = await run("reference");
  const got = await run("webgpu");
  for (const [i, x] of want.numbers.entries()) expect(Math.abs(got.numbers[i] - x)).toBeLessThan(1e-5 * Math.max(1, x));
  for (const [name, values] of Object.entries(want.parameters)) {
    if (name.endsWith("k_proj.bias")) continue; // its gradient is rounding noise, which Adam scales to full steps
    // So are those of single weights.
    const off = values.filter((x, i) => !(Math.abs(x - got.parameters[name][i]) < 5e-5)).length;
    expect(off, name).toBeLessThanOrEqual(values.length / 1000);
  }
});
