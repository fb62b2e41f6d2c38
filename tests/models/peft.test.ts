/** Adapter folders in PyTorch's format, as PEFT wrote them before safetensors and LLaVA still does. */
import { beforeAll, describe, expect, test } from "vitest";
import { loadAdapter } from "../../models/checkpoints/peft.ts";
import { Llava } from "../../models/llava.ts";
import { MplugOwl } from "../../models/owl.ts";
import { init } from "../../src/index.ts";
import type { ValueEntry } from "../../src/io/safetensors.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { saveTorch } from "../../src/io/torch.ts";
import { loraStateDict } from "../../src/nn/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { goldenPath } from "./goldens.ts";

beforeAll(async () => void (await init({ backend: "reference" })));

const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const values = (shape: number[], seed: number): ValueEntry => {
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * seed + seed));
  return { shape, dtype: "f32", read: () => data };
};

test.skipIf(!goldenPath("models", "mplug-owl-lora"))("adapter_model.bin is adapter_model.safetensors", async () => {
  const source = folder(goldenPath("models", "mplug-owl-lora", "adapter")!);
  const file = await TensorFiles.open(source, "adapter_model.safetensors");
  const entries = file.names.map(async (name) => {
    const { data, shape, dtype } = await file.read(name);
    return [name, { shape, dtype, read: () => data }] as const;
  });
  const files = memoryFiles();
  files.files.set("adapter_config.json", await source.read("adapter_config.json"));
  await saveTorch(files, "adapter_model.bin", Object.fromEntries(await Promise.all(entries)));
  const model = await MplugOwl.fromPretrained(folder(goldenPath("models", "mplug-owl", "model")!));
  await loadAdapter(model, files);
  const loaded = loraStateDict(model);
  expect(Object.keys(loaded).sort()).toEqual([...file.names].sort());
  for (const [name, t] of Object.entries(loaded)) expect(await t.data(), name).toEqual((await file.read(name)).data);
});

describe.skipIf(!goldenPath("models", "llava-original-mlp2x"))("a LoRA of LLaVA's own training", () => {
  const model = () => Llava.fromPretrained(folder(goldenPath("models", "llava-original-mlp2x", "model")!));
  const prefix = "base_model.model.model";
  const settings = { peft_type: "LORA", r: 4, lora_alpha: 8, bias: "none", target_modules: ["q_proj"] };

  async function written(full: Record<string, ValueEntry>) {
    const { hidden_size: d, num_hidden_layers: layers } = (await model()).config.text_config;
    const files = memoryFiles();
    files.files.set("adapter_config.json", bytes(settings));
    const lora = Array.from({ length: layers }, (_, i) => `${prefix}.layers.${i}.self_attn.q_proj`).flatMap((at, i) => [
      [`${at}.lora_A.weight`, values([4, d], i + 1)] as const,
      [`${at}.lora_B.weight`, values([d, 4], i + 7)] as const,
    ]);
    await saveTorch(files, "adapter_model.bin", Object.fromEntries(lora));
    await saveTorch(files, "non_lora_trainables.bin", full);
    return { files, lora };
  }

  test("its names are those of the original layout, for the parts trained in full too", async () => {
    const loaded = await model();
    const projector = loaded.multi_modal_projector.stateDict();
    const original = (name: string) => name.replace(/^linear_(\d)/, (_, n) => `${2 * (Number(n) - 1)}`);
    const full = Object.fromEntries(
      Object.entries(projector).map(([name, t], i) => [
        `${prefix}.mm_projector.${original(name)}`,
        values([...t.shape], i + 20),
      ]),
    );
    const { files, lora } = await written(full);
    await loadAdapter(loaded, files);
    const state = loraStateDict(loaded);
    for (const [name, { read }] of lora) {
      const own = state[name.replace("model.model.layers", "model.language_model.model.layers")];
      expect(await own.data(), name).toEqual(await read());
    }
    const now = Object.values(loaded.multi_modal_projector.stateDict());
    for (const [i, { read }] of Object.values(full).entries()) expect(await now[i].data()).toEqual(await read());
  });

  test("what does not fit is named, and the model stays as it was", async () => {
    const loaded = await model();
    const names = Object.keys(loaded.stateDict());
    const wrong = { [`${prefix}.mm_projector.0.bias`]: values([3], 1), [`${prefix}.nothing`]: values([1], 1) };
    const { files } = await written(wrong);
    await expect(loadAdapter(loaded, files)).rejects.toThrow(
      /memory: non_lora_trainables does not fit the model: \S+mm_projector.0.bias has shape \[3\], expected \[\d+\]; \S+nothing is no tensor of the model/,
    );
    expect(Object.keys(loaded.stateDict())).toEqual(names);
    files.files.delete("adapter_model.bin");
    await expect(loadAdapter(loaded, files)).rejects.toThrow(
      "memory: expected adapter_model.safetensors or adapter_model.bin",
    );
  });
});
