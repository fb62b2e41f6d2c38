import { beforeAll, describe, expect, test } from "vitest";
import { loadAdapter, saveAdapter } from "../../models/checkpoints/peft.ts";
import { jsonBytes, memoryFiles, readJson } from "../../src/io/source.ts";
import {
  AdamW,
  adapterNames,
  addAdapter,
  addLoRA,
  deleteAdapter,
  Linear,
  loraStateDict,
  Module,
  mergeLoRA,
  setAdapter,
  setParameter,
  unmergeLoRA,
} from "../../src/nn/index.ts";
import { manualSeed, rand, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { expectDigits } from "../support/compare.ts";

beforeAll(() => init({ backend: "reference" })); // the golden mplug-owl-lora runs on the device

class Block extends Module {
  first = new Linear(3, 4);
  rest = [new Linear(4, 4, { bias: false }), new Linear(4, 2)];

  forward(x: Tensor): Tensor {
    return this.rest[1].forward(this.rest[0].forward(this.first.forward(x)).relu());
  }
}

const x = tensor([
  [0.5, -1, 2],
  [1, 0.25, -0.5],
]);
const made = (seed = 1): Block => {
  manualSeed(seed);
  return new Block();
};
/** Gives an adapter's B values, so that it changes the model. */
function move(model: Block, adapter: string, by: number): void {
  for (const [key, t] of Object.entries(loraStateDict(model, adapter)))
    if (key.includes("lora_B")) setParameter(t, tensor(new Float32Array(t.numel).fill(by), { shape: t.shape }));
}
const run = async (model: Block): Promise<number[]> => [...(await model.forward(x).data())];

describe("one adapter", () => {
  test("starts as the frozen model, trains A and B alone, and merges into the same function", async () => {
    const block = made();
    const before = await run(block);
    expect(addLoRA(block, /rest/, { r: 2, alpha: 4 })).toEqual(["rest.0", "rest.1"]);
    expect(await run(block)).toEqual(before);
    expect(Object.keys(loraStateDict(block))).toContain("base_model.model.rest.0.lora_A.weight");
    expect(block.parameters().filter((p) => p.requiresGrad).length).toBe(4);
    move(block, "default", 0.5);
    const moved = await run(block);
    expect(moved).not.toEqual(before);
    mergeLoRA(block);
    expectDigits(await run(block), moved, 5);
    unmergeLoRA(block);
    expectDigits(await run(block), moved, 5);
  });

  test("the update is alpha / r (or alpha / √r) times B A x", async () => {
    for (const [rankStabilized, scale] of [
      [false, 6 / 2],
      [true, 6 / Math.SQRT2],
    ] as const) {
      const layer = new Linear(2, 1, { bias: false });
      setParameter(layer.weight, tensor([[0, 0]]));
      const block = new (class extends Module {
        only = layer;
      })();
      addLoRA(block, ["only"], { r: 2, alpha: 6, rankStabilized });
      const { "base_model.model.only.lora_A.weight": a, "base_model.model.only.lora_B.weight": b } =
        loraStateDict(block);
      setParameter(
        a,
        tensor([
          [1, 2],
          [3, 4],
        ]),
      );
      setParameter(b, tensor([[10, 100]]));
      // A x = [1 + 4, 3 + 8]; B A x = 50 + 1100
      expect(await layer.forward(tensor([[1, 2]])).item()).toBeCloseTo(1150 * scale, 3 - Math.log10(1150));
    }
  });

  test("dropout acts on the input of the update while training, and only then", async () => {
    const block = made();
    addLoRA(block, ["first"], { r: 2, dropout: 0.5 });
    const before = await run(block.eval());
    expect(await run(block.train())).toEqual(before); // B is zero
    move(block, "default", 1);
    const still = await run(block.eval());
    expect(await run(block)).toEqual(still);
    block.train();
    const draws = [await run(block), await run(block), await run(block)].map(String);
    expect(new Set([String(still), ...draws]).size).toBeGreaterThan(2);
  });

  test("trains", async () => {
    const block = made();
    addLoRA(block, /./, { r: 2, alpha: 4 });
    const frozen = await block.rest[0].weight.data();
    const optimizer = new AdamW(block.parameters(), { lr: 0.05 });
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const loss = block.forward(x).sub(1).square().mean();
      loss.backward();
      await optimizer.step();
      losses.push(await loss.item());
    }
    expect(losses[19]).toBeLessThan(losses[0] / 4);
    expect(await block.rest[0].weight.data()).toEqual(frozen);
  });

  test("names the layers when none matches", () => {
    expect(() => addLoRA(made(), ["q_proj"], { r: 2 })).toThrow(
      "no Linear matches q_proj; there are first, rest.0, rest.1",
    );
    expect(() => addLoRA(made(), /first/, { r: 0 })).toThrow("r must be a positive integer");
  });
});

describe("several adapters", () => {
  test("are switched, added up, merged, taken out and deleted", async () => {
    const block = made();
    const base = await run(block);
    addAdapter(block, "a", /rest/, { r: 2 });
    move(block, "a", 0.5);
    const a = await run(block);
    addAdapter(block, "b", ["first", "rest.1"], { r: 1, alpha: 2 });
    move(block, "b", -0.25);
    const b = await run(block);
    expect(adapterNames(block)).toEqual(["b", "a"]);
    expect(new Set([base, a, b].map(String)).size).toBe(3);
    expect(block.parameters().filter((p) => p.requiresGrad).length).toBe(4); // A and B of "b" in two layers

    setAdapter(block, "a");
    expect(await run(block)).toEqual(a);
    setAdapter(block, null);
    expect(await run(block)).toEqual(base);
    expect(block.parameters().some((p) => p.requiresGrad)).toBe(false);
    setAdapter(block, ["a", "b"]);
    const both = await run(block);
    mergeLoRA(block, "a");
    expectDigits(await run(block), both, 5);
    mergeLoRA(block); // the rest of the active ones
    expectDigits(await run(block), both, 5);
    setAdapter(block, null); // what is merged stays in the weights
    expectDigits(await run(block), both, 5);
    unmergeLoRA(block, "b");
    expectDigits(await run(block), a, 5);
    deleteAdapter(block, "a"); // unmerges it first
    expectDigits(await run(block), base, 5);
    expect(adapterNames(block)).toEqual(["b"]);
    expect(block.rest[0].lora).toBeUndefined();
    expect(() => setAdapter(block, "a")).toThrow('setAdapter: the model has no adapter "a"; there are b');
    expect(() => addAdapter(block, "b", /first/, { r: 1 })).toThrow('first has a LoRA "b" already');
  });

  test("go out and come in as PEFT folders", async () => {
    const block = made();
    addAdapter(block, "a", /rest/, { r: 2, alpha: 8, dropout: 0.1 });
    block.first.requiresGrad_(); // trained in full as well
    setParameter(block.first.weight, rand(4, 3));
    move(block, "a", 0.5);
    const files = memoryFiles();
    await saveAdapter(block.eval(), files, { name: "a" });
    const want = await run(block);
    expect(await readJson(files, "adapter_config.json")).toMatchObject({
      peft_type: "LORA",
      r: 2,
      lora_alpha: 8,
      lora_dropout: 0.1,
      target_modules: ["rest.0", "rest.1"],
    });
    const again = made();
    await loadAdapter(again, files, { name: "tuned" });
    expect(await run(again.eval())).toEqual(want);
    expect(adapterNames(again)).toEqual(["tuned"]);
  });

  test("what does not fit is an error that changes nothing", async () => {
    const block = made();
    addLoRA(block, /rest/, { r: 2 });
    const files = memoryFiles();
    await saveAdapter(block, files);
    const config = await readJson(files, "adapter_config.json");
    const loading = async (changes: object): Promise<void> => {
      files.files.set("adapter_config.json", jsonBytes({ ...config, ...changes }));
      const fresh = made();
      try {
        await loadAdapter(fresh, files);
      } finally {
        expect(adapterNames(fresh)).toEqual([]);
      }
    };
    await expect(loading({ r: 3 })).rejects.toThrow(
      "base_model.model.rest.0.lora_A.weight has shape [2,4], expected [3,4]",
    );
    await expect(loading({ use_dora: true })).rejects.toThrow("use_dora true is not supported");
    await expect(loading({ rank_pattern: { rest: 4 } })).rejects.toThrow('rank_pattern {"rest":4} is not supported');
    await expect(loading({ bias: "all" })).rejects.toThrow("with bias all");
    const other = new (class extends Module {
      second = new Linear(4, 4);
    })();
    files.files.set("adapter_config.json", jsonBytes(config));
    await expect(loadAdapter(other, files)).rejects.toThrow("rest.0.lora_A.weight, which fits no Linear of the model");
  });
});
