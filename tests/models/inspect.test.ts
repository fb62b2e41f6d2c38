import { beforeAll, describe, expect, test } from "vitest";
import { attentionMaps, drawAttention, imageAttention, logitLens } from "../../models/evaluate/inspect.ts";
import type { Llava } from "../../models/llava.ts";
import { memoryStats, rand, type Tensor, tensor } from "../../src/index.ts";
import { Dropout, Linear, Module } from "../../src/nn/index.ts";
import { openBackend } from "../support/backend.ts";
import { softmax } from "../support/plain.ts";
import { IMAGE, tinyLlava } from "../support/tiny-llava.ts";

const ids = (...list: number[][]) => tensor(list, { dtype: "i32" });
const close = (a: ArrayLike<number>, b: ArrayLike<number>, digits = 5) => {
  expect(a.length).toBe(b.length);
  Array.from(a, (x, i) => expect(x).toBeCloseTo(b[i], digits));
};
let model: Llava;
beforeAll(async () => {
  await openBackend();
  model = tinyLlava({ text: { num_attention_heads: 4, num_key_value_heads: 2 } }, 4);
});

describe("hooks", () => {
  test("see arguments and results, on replayed plans too", async () => {
    const layers = model.language_model.model.layers;
    const seen: Tensor[] = [];
    const before = { ...model.stateDict() };
    const hook = layers[0].registerForwardHook((module, args, output) => {
      expect(module).toBe(layers[0]);
      expect(args[0].shape).toEqual([1, 4, 16]);
      seen.push(output.keep());
    });
    expect(model.stateDict()).toEqual(before); // a hook is no state
    let plans = 0;
    for (const [step, list] of [
      [1, 2, 3, 4],
      [5, 6, 7, 8],
      [4, 3, 2, 1],
      [8, 1, 7, 2],
    ].entries()) {
      const { hiddenStates, logits } = model.language_model.forward({ inputIds: ids(list) });
      hiddenStates[1].keep();
      await logits.data();
      close(await seen[step].data(), await hiddenStates[1].data(), 6);
      if (step === 1) plans = memoryStats().plans; // the first one uploads the weights
    }
    expect(memoryStats().plans).toBe(plans);
    expect(new Set(await Promise.all(seen.map(async (s) => (await s.data())[0]))).size).toBe(4);
    hook.remove();
    hook.remove();
    model.language_model.forward({ inputIds: ids([1, 2, 3, 4]) });
    expect(seen.length).toBe(4);
    expect(Object.hasOwn(layers[0], "forward")).toBe(false);
  });

  test("what a hook returns replaces the result; several run in order", async () => {
    const layer = new Linear(3, 2);
    const x = rand(4, 3);
    const plain = await layer.forward(x).data();
    const double = layer.registerForwardHook((_, __, y) => y.mul(2));
    const add = layer.registerForwardHook((_, __, y) => y.add(1));
    close(
      await layer.forward(x).data(),
      plain.map((v) => 2 * v + 1),
      6,
    );
    double.remove();
    close(
      await layer.forward(x).data(),
      plain.map((v) => v + 1),
      6,
    );
    add.remove();
    close(await layer.forward(x).data(), plain, 6);
  });

  test("a module without forward is named", () => {
    class Group extends Module {
      part = new Dropout(0.5);
    }
    expect(() => new Group().registerForwardHook(() => undefined)).toThrow("Group has no forward");
  });
});

test("the logit lens: each layer's state through the last norm and the output layer", async () => {
  const input = { inputIds: ids([1, IMAGE, 2, 3], [4, IMAGE, 5, 6]), pixelValues: rand(2, 3, 4, 4).keep() };
  const lens = await logitLens(model, input, { top: 3 });
  expect([lens.length, lens[0].length, lens[0][0].length]).toEqual([3, 2, 3]);
  const { hiddenStates, logits } = model.forward(input);
  const decoder = model.language_model;
  const want = [
    ...[0, 1].map((i) => decoder.logits(decoder.model.norm.forward(hiddenStates[i].select(1, 6)))),
    logits.select(1, 6),
  ];
  for (const [layer, t] of want.entries()) {
    const all = await t.data();
    for (const sample of [0, 1]) {
      const p = softmax(Array.from(all.subarray(sample * 12, (sample + 1) * 12)));
      const order = p.map((_, id) => id).sort((a, b) => p[b] - p[a]);
      expect(lens[layer][sample].map(({ id }) => id)).toEqual(order.slice(0, 3));
      close(
        lens[layer][sample].map(({ probability }) => probability),
        order.slice(0, 3).map((id) => p[id]),
      );
    }
  }
  const first = await logitLens(decoder, { inputIds: ids([1, 2, 3]) }, { top: 1, position: 0 });
  expect(first[2][0][0].id).toBe((await logitLens(decoder, { inputIds: ids([1]) }, { top: 1 }))[2][0][0].id);
  await expect(logitLens(decoder, { inputIds: ids([1]) }, { position: 1 })).rejects.toThrow(
    "position 1 of a sequence of 1",
  );
});

test("attention maps times values are what the output projection gets", async () => {
  const { decoder } = model.merge({ inputIds: ids([1, IMAGE, 2, 3]), pixelValues: rand(1, 3, 4, 4) });
  decoder.inputsEmbeds.keep();
  const attention = model.language_model.model.layers[1].self_attn;
  const got: { mixed?: Tensor; values?: Tensor } = {};
  const hooks = [
    attention.o_proj.registerForwardHook((_, [x]) => void (got.mixed = x.keep())),
    attention.v_proj.registerForwardHook((_, __, v) => void (got.values = v.keep())),
  ];
  const maps = await attentionMaps(model.language_model, decoder);
  for (const hook of hooks) hook.remove();
  const map = await maps[1].data(); // [1, 4, 7, 7]
  const [mixed, v] = [await got.mixed!.data(), await got.values!.data()]; // [1, 7, 16], [1, 7, 8]
  for (let h = 0; h < 4; h++)
    for (let i = 0; i < 7; i++)
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let j = 0; j < 7; j++) sum += map[(h * 7 + i) * 7 + j] * v[j * 8 + Math.floor(h / 2) * 4 + c];
        expect(mixed[i * 16 + h * 4 + c]).toBeCloseTo(sum, 5);
      }
});

test("attention over patches: the mean of the maps, and red where it is high", async () => {
  const input = { inputIds: ids([1, IMAGE, 2, 3]), pixelValues: rand(1, 3, 4, 4).keep() };
  const { positions, weights } = await imageAttention(model, input);
  expect(positions).toEqual([5, 6]);
  const maps = await Promise.all(
    (await attentionMaps(model.language_model, model.merge(input).decoder)).map((m) => m.data()),
  );
  for (const [k, i] of positions.entries())
    for (let patch = 0; patch < 4; patch++) {
      let sum = 0;
      for (const map of maps) for (let h = 0; h < 4; h++) sum += map[(h * 7 + i) * 7 + 1 + patch] / 8;
      expect(weights[k][patch]).toBeCloseTo(sum, 5);
    }
  await expect(imageAttention(model, { inputIds: ids([1, 2]) })).rejects.toThrow("the first sample has no image");

  const grey = { width: 4, height: 2, channels: 1, data: new Uint8Array(8).fill(100) };
  const drawn = drawAttention(grey, [0, 1], 1, 2);
  expect([...drawn.data.subarray(0, 3)]).toEqual([100, 100, 100]);
  expect([...drawn.data.subarray(9, 12)]).toEqual([224, 20, 20]);
  expect(() => drawAttention(grey, [1], 1, 2)).toThrow("1 weights for 1 x 2 patches");
});

test("the lens and the attention replay their plans for other words and pictures", async () => {
  const input = (seed: number) => ({
    inputIds: ids([1, IMAGE, 2 + seed, 3]),
    pixelValues: tensor(
      Float32Array.from({ length: 48 }, (_, i) => Math.sin(i + seed)),
      { shape: [1, 3, 4, 4] },
    ),
  });
  const look = async (seed: number) => {
    await logitLens(model, input(seed), { top: 2 });
    const { weights } = await imageAttention(model, input(seed));
    return weights.map((row) => [...row]);
  };
  const first = await look(0);
  const { plans, pipelines } = memoryStats();
  expect(await look(1)).not.toEqual(first);
  expect(await look(0)).toEqual(first);
  expect(memoryStats()).toMatchObject({ plans, pipelines });
});
