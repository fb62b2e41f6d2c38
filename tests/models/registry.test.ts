import { expect, test } from "vitest";
import { fromPretrained, loadModel, registerModel } from "../../models/index.ts";
import { type Tensor, tensor } from "../../src/index.ts";
import { type FileSource, memoryFiles, openCheckpoint, saveCheckpoint } from "../../src/io/index.ts";
import { Linear, Module } from "../../src/nn/index.ts";

// A model of a user's own: its class, its config, and one line in the registry.

interface TinyConfig {
  model_type: string;
  width: number;
  depth: number;
}

class Tiny extends Module {
  layers: Linear[];

  constructor(readonly config: TinyConfig) {
    super();
    this.layers = Array.from({ length: config.depth }, () => new Linear(config.width, config.width));
  }

  forward(x: Tensor): Tensor {
    return this.layers.reduce((y, layer) => layer.forward(y).relu(), x);
  }

  static async fromPretrained(source: FileSource): Promise<Tiny> {
    const { config, tensors } = await openCheckpoint(source);
    return loadModel(source, () => new Tiny(config), [tensors], [[/^blocks\./, "layers."]]);
  }
}

registerModel("tiny", Tiny);

test("one line in the registry: fromPretrained loads a model that it did not know", async () => {
  const model = new Tiny({ model_type: "tiny", width: 4, depth: 2 });
  const files = memoryFiles();
  const published = Object.entries(model.stateDict()).map(([name, t]) => [name.replace("layers.", "blocks."), t]);
  await saveCheckpoint(files, model.config, Object.fromEntries(published));
  const loaded = await fromPretrained(files);
  expect(loaded).toBeInstanceOf(Tiny);
  const x = tensor([[1, -2, 3, 0.5]]);
  const [own, again] = [model.forward(x), (loaded as Tiny).forward(x)];
  expect(await again.data()).toEqual(await own.data());
  expect((await own.data()).some((y) => y !== 0)).toBe(true);
});

test("a type is registered once, and an unknown one is refused with those that are known", async () => {
  expect(() => registerModel("llama", Tiny)).toThrow('there is a model of model_type "llama" already');
  const files = memoryFiles();
  await saveCheckpoint(files, { model_type: "huge" }, {});
  await expect(fromPretrained(files)).rejects.toThrow(/model_type "huge" is not supported; known are llama, .*, tiny/);
});
