/** What is loaded and saved again is what there was: names, types, shapes and bytes. */
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { loadWeights, saveModel } from "../../models/checkpoints/load.ts";
import { loadAdapter, saveAdapter } from "../../models/checkpoints/peft.ts";
import { Llava } from "../../models/llava.ts";
import { MplugOwl } from "../../models/owl.ts";
import { Blip2ImageEncoder } from "../../models/qformer.ts";
import { fromPretrained } from "../../models/registry.ts";
import { Resampler, resamplerNames } from "../../models/resampler.ts";
import { init, tensor } from "../../src/index.ts";
import { openCheckpoint, openWeights, saveCheckpoint } from "../../src/io/huggingface.ts";
import { type FileSource, memoryFiles, subfolder } from "../../src/io/source.ts";
import type { StoredType } from "../../src/io/stored.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { type Module, withoutInit } from "../../src/nn/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { notYet } from "../goldens/not-yet.ts";
import { goldenPath } from "./goldens.ts";

beforeAll(async () => void (await init()));

const golden = (name: string): FileSource => folder(goldenPath("models", name, "model")!);
type Loader = (source: FileSource) => Promise<Module & { config: object; savePretrained?: Llava["savePretrained"] }>;
/** The golden folders of models, and of adapters. */
const checkpoints = goldenPath("models") ? readdirSync(goldenPath("models")!) : [];
/** Models that are not there. */
const later = Object.keys(notYet).map((id) => id.replace("models/", ""));

const loaders: Record<string, Loader> = {
  "blip2-qformer": (source) => Blip2ImageEncoder.fromPretrained(source),
  "qwenvl-resampler": async (source) => {
    const { config, tensors } = await openCheckpoint(source);
    const model = withoutInit(() => new Resampler(config));
    await loadWeights(model, [tensors], resamplerNames);
    return model;
  },
};

/** Every tensor of a file: how it is stored, and its bytes. */
async function contents(file: TensorFiles): Promise<Record<string, unknown>> {
  const all: Record<string, unknown> = {};
  for (const name of [...file.names].sort()) {
    const { dtype, shape } = file.entry(name);
    const sha1 = createHash("sha1").update(await file.bytes(name));
    all[name] = { dtype, shape, bytes: sha1.digest("hex") };
  }
  return all;
}

/** Loads, saves and loads again; the saved folder and model are those that there were. */
async function roundTrip(source: FileSource, load: Loader): Promise<FileSource> {
  const saved = memoryFiles();
  const model = await load(source);
  if (model.savePretrained) await model.savePretrained(saved);
  else await saveModel(model, model.config, saved);
  for (const inside of ["", "/vision_tower"]) {
    if ((await source.size(`.${inside}/config.json`)) === undefined) continue;
    const [now, was] = [saved, source].map((place) => (inside ? subfolder(place, inside.slice(1)) : place));
    expect(await contents(await openWeights(now))).toEqual(await contents(await openWeights(was)));
  }
  const again = await load(saved);
  const [a, b] = [model.stateDict(), again.stateDict()];
  expect(Object.keys(b)).toEqual(Object.keys(a));
  for (const [key, value] of Object.entries(a)) expect(await b[key].data(), key).toEqual(await value.data());
  return saved;
}

describe.skipIf(!goldenPath("models"))("load, save, load: the keys, dtypes, shapes and bytes of the reference", () => {
  const models = checkpoints.filter((name) => goldenPath("models", name, "model") && !later.includes(name));

  test.each(models)("%s", async (name) => {
    await roundTrip(golden(name), loaders[name] ?? ((source) => fromPretrained(source) as ReturnType<Loader>));
  });

  test("the trained LLaVA", async () => {
    const path = goldenPath("training", "llava-two-stage", "model")!;
    await roundTrip(folder(path), (source) => Llava.fromPretrained(source));
  });

  test.skipIf(!checkpoints.includes("mplug-owl-lora"))("mplug-owl-lora: an adapter", async () => {
    const source = folder(goldenPath("models", "mplug-owl-lora", "adapter")!);
    const model = await MplugOwl.fromPretrained(golden("mplug-owl"));
    await loadAdapter(model, source);
    const saved = memoryFiles();
    await saveAdapter(model, saved);
    const file = "adapter_model.safetensors";
    expect(await contents(await TensorFiles.open(saved, file))).toEqual(
      await contents(await TensorFiles.open(source, file)),
    );
  });

  test("buffers of older files come back as they were, in the folder that had them", async () => {
    const name = "llava-original-mlp2x";
    const files = memoryFiles();
    const buffer = (stored: StoredType, bytes: Uint8Array, shape: number[]) => ({ stored, bytes, shape });
    const ids = Uint8Array.from({ length: 17 * 8 }, (_, i) => (i % 8 ? 0 : i / 8));
    const halves = Uint8Array.of(0, 60, 102, 46, 31, 33, 30, 20);
    for (const [inside, extra] of [
      [
        "",
        {
          "model.layers.0.self_attn.rotary_emb.inv_freq": buffer("F16", halves, [4]),
          "model.layers.1.self_attn.rotary_emb.inv_freq": buffer("F16", halves.toReversed(), [4]),
        },
      ],
      [
        "/vision_tower",
        {
          "vision_model.embeddings.position_ids": buffer("I64", ids, [1, 17]),
        },
      ],
    ] as const) {
      const was = inside ? subfolder(golden(name), inside.slice(1)) : golden(name);
      const { config, tensors } = await openCheckpoint(was);
      const own = tensors.names.map(async (key) => {
        const { dtype, shape } = tensors.entry(key);
        return [key, buffer(dtype, await tensors.bytes(key), [...shape])] as const;
      });
      const place = inside ? subfolder(files, inside.slice(1)) : files;
      await saveCheckpoint(place, config, { ...Object.fromEntries(await Promise.all(own)), ...extra });
    }
    const saved = await roundTrip(files, (source) => Llava.fromPretrained(source));
    // Half the file is halves, half is not: what is asked for is of the weights alone.
    const model = await Llava.fromPretrained(saved, { dtype: "int8", group: 32 });
    const other = memoryFiles();
    await model.savePretrained(other, { float: "BF16" });
    const written = await openWeights(other);
    expect(written.entry("model.layers.0.self_attn.rotary_emb.inv_freq").dtype).toBe("F16");
    expect(written.entry("model.layers.0.self_attn.q_proj.weight").dtype).toBe("BF16");
    expect([...written.names].sort()).toEqual([...(await openWeights(files)).names].sort());
  });

  test("a tower out of the folder of a whole CLIP", async () => {
    const source = golden("llava-original-linear");
    const { config, tensors } = await openCheckpoint(subfolder(source, "vision_tower"));
    const entry = async (key: string) => {
      const { dtype, shape } = tensors.entry(key);
      return [key, { stored: dtype, shape, bytes: await tensors.bytes(key) }] as const;
    };
    const clip = memoryFiles();
    const vision = Object.fromEntries(await Promise.all(tensors.names.map(entry)));
    const scalar = { stored: "F32" as const, shape: [], bytes: new Uint8Array(4) };
    await saveCheckpoint(
      clip,
      { model_type: "clip", vision_config: config },
      {
        ...vision,
        logit_scale: scalar,
        "text_model.embeddings.position_ids": scalar,
        "visual_projection.weight": scalar,
      },
    );
    const [model, want] = [
      await Llava.fromPretrained(source, { visionTower: clip }),
      await Llava.fromPretrained(source),
    ];
    const x = tensor(new Float32Array(3 * 28 * 28).fill(0.3), { shape: [1, 3, 28, 28] });
    expect(await model.imageFeatures(x).data()).toEqual(await want.imageFeatures(x).data());
  });
});
