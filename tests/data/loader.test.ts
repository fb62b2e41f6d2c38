/** Data sets, samplers and loaders; `save` and `load`. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ConcatDataset,
  collate,
  DataLoader,
  Dataset,
  RandomSampler,
  randomSplit,
  Subset,
  TensorDataset,
  WeightedRandomSampler,
} from "../../src/data/index.ts";
import { arange, init, manualSeed, type Tensor, tensor } from "../../src/index.ts";
import { load, memoryFiles, save } from "../../src/io/index.ts";
import { Linear } from "../../src/nn/index.ts";

beforeAll(async () => void (await init({ backend: "reference" })));
const letters = [..."abcdefghij"];

async function all<B>(loader: AsyncIterable<B>): Promise<B[]> {
  const out: B[] = [];
  for await (const batch of loader) out.push(batch);
  return out;
}

describe("DataLoader", () => {
  test("in order, with and without the last batch", async () => {
    expect(await all(new DataLoader(letters, { batchSize: 4 }))).toEqual([
      ["a", "b", "c", "d"],
      ["e", "f", "g", "h"],
      ["i", "j"],
    ]);
    const dropping = new DataLoader(letters, { batchSize: 4, dropLast: true });
    expect([(await all(dropping)).length, dropping.length]).toEqual([2, 2]);
    expect(await all(new DataLoader([], { batchSize: 2 }))).toEqual([]);
  });

  test("shuffles every epoch anew, the same for the same seed", async () => {
    const loader = new DataLoader(letters, { batchSize: 10, shuffle: true, seed: 7 });
    const [first, second] = [await all(loader), await all(loader)];
    expect(first[0]).not.toEqual(letters);
    expect([...first[0]].sort()).toEqual(letters);
    expect(second[0]).not.toEqual(first[0]);
    expect(await all(new DataLoader(letters, { batchSize: 10, shuffle: true, seed: 7 }))).toEqual(first);
    manualSeed(3);
    const a = await all(new DataLoader(letters, { shuffle: true }));
    manualSeed(3);
    expect(await all(new DataLoader(letters, { shuffle: true }))).toEqual(a);
  });

  test.each([0, 3])("continues from a saved state, with %i batches read ahead", async (prefetch) => {
    const options = { batchSize: 3, shuffle: true, seed: 5, prefetch };
    const whole = new DataLoader(letters, options);
    const want = [...(await all(whole)), ...(await all(whole))];
    const stopped = new DataLoader(letters, options);
    const seen: string[][] = [];
    for await (const batch of stopped) if (seen.push(batch) === 2) break;
    const resumed = new DataLoader(letters, { ...options, seed: 99 });
    resumed.restore(stopped.state());
    expect([...seen, ...(await all(resumed)), ...(await all(resumed))]).toEqual(want);
    expect(resumed.state()).toEqual({ seed: 5, epoch: 2, batch: 0 });
  });

  test("rows of tensors", async () => {
    const loader = new DataLoader(new TensorDataset(arange(6).float().reshape([3, 2]), tensor([7, 8, 9])), {
      batchSize: 2,
    });
    const batches: [Tensor, Tensor][] = [];
    for await (const [x, y] of loader) batches.push([x, y]);
    expect(await batches[0][0].tolist()).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(await batches[1][1].tolist()).toEqual([9]);
    expect(() => new TensorDataset(tensor([1]), tensor([1, 2]))).toThrow(/TensorDataset: .*\[1\], \[2\]/);
  });

  test("reads ahead, in order, and reports an error at its batch", async () => {
    let open = 0;
    let most = 0;
    class Slow extends Dataset<number> {
      readonly length = 6;
      async get(i: number): Promise<number> {
        most = Math.max(most, ++open);
        await new Promise((resolve) => setTimeout(resolve, 12 - 2 * i));
        open--;
        if (i === 4) throw new Error("sample 4 is broken");
        return i;
      }
    }
    const seen: number[] = [];
    const iterate = async (): Promise<void> => {
      for await (const x of new DataLoader(new Slow(), { prefetch: 3, collate: ([i]) => i })) seen.push(x);
    };
    await expect(iterate()).rejects.toThrow("sample 4 is broken");
    expect(seen).toEqual([0, 1, 2, 3]);
    expect(most).toBeGreaterThan(1);
  });

  test("samplers", async () => {
    const of = (sampler: Iterable<number>) => all(new DataLoader(letters, { sampler, batchSize: 100 }));
    expect(await of([3, 1, 1])).toEqual([["d", "b", "b"]]);
    expect((await of(new RandomSampler(10, { replacement: true, samples: 25, seed: 1 })))[0].length).toBe(25);
    const weighted = new WeightedRandomSampler([0, 0, 1, 3], 4000, { seed: 2 });
    const counts = [0, 0, 0, 0];
    for (const i of weighted) counts[i]++;
    expect(counts.slice(0, 2)).toEqual([0, 0]);
    expect(counts[3] / counts[2]).toBeGreaterThan(2.5);
    expect(counts[3] / counts[2]).toBeLessThan(3.5);
    await expect(of([10])).rejects.toThrow(/position 10 of a data set of 10 samples/);
  });

  test("wrong options are refused", () => {
    expect(() => new DataLoader(letters, { batch_size: 2 } as object)).toThrow(/unknown option batch_size/);
    expect(() => new DataLoader(letters, { batchSize: 0 })).toThrow(/batchSize/);
    expect(() => new DataLoader(letters, { shuffle: true, sampler: [0] })).toThrow(/exclude each other/);
    expect(() => new DataLoader(letters, { workers: 1 })).toThrow(/need the option module/);
  });
});

describe("workers", () => {
  const module = new URL("./fixtures/squares.mjs", import.meta.url);
  const squares = { length: 16, get: (i: number) => ({ x: Float32Array.of(i), name: "", pid: 0 }) };

  test("samples come from other processes, in order", async () => {
    const loader = new DataLoader(squares, { batchSize: 4, workers: 2, module, sampler: [0, 1, 2, 3, 4, 5, 6, 7] });
    const batches = await all(loader);
    loader.close();
    expect(await batches[1].x.tolist()).toEqual([
      [4, 16],
      [5, 25],
      [6, 36],
      [7, 49],
    ]);
    expect(batches[0].name).toEqual(["s0", "s1", "s2", "s3"]);
    const pids = await Promise.all(batches.map(async (b) => (await b.pid.data())[0]));
    expect(new Set(pids).size).toBe(2);
    expect(pids).not.toContain(process.pid);
  });

  test.each([
    { at: 13, message: /sample 13 is broken/ },
    { at: 14, message: /ended: exit code 3/ },
  ])("sample $at: an error, no hang", async ({ at, message }) => {
    const loader = new DataLoader(squares, { workers: 1, module, sampler: [at] });
    await expect(all(loader)).rejects.toThrow(message);
    loader.close();
  });

  test("a module without a default export is named", async () => {
    const loader = new DataLoader(squares, { workers: 1, module: "data:text/javascript,export const a = 1" });
    await expect(all(loader)).rejects.toThrow(/no default export/);
    loader.close();
  });
});

describe("collate", () => {
  test("numbers, typed arrays, lists and objects", async () => {
    const { x, y, tag, on } = collate([
      { x: Float32Array.of(1, 2), y: [1, 0.5], tag: "a", on: true },
      { x: Float32Array.of(3, 4), y: [2, 1.5], tag: "b", on: false },
    ]);
    expect([x.shape, x.dtype, await x.tolist()]).toEqual([
      [2, 2],
      "f32",
      [
        [1, 2],
        [3, 4],
      ],
    ]);
    expect([y[0].dtype, y[1].dtype, tag, on.dtype]).toEqual(["i32", "f32", ["a", "b"], "bool"]);
    expect(() => collate([[1], [1, 2]])).toThrow(/lists of 1, 2 elements/);
    expect(() => collate<object>([{ a: 1 }, { b: 1 }])).toThrow(/expected the same/);
    expect(() => collate([tensor([1]), tensor([1, 2])])).toThrow(/collate: samples have the shapes \[1\], \[2\]/);
  });
});

test("ConcatDataset, Subset and randomSplit", async () => {
  const joined = new ConcatDataset([letters, ["k"]]);
  expect([joined.length, joined.get(10)]).toEqual([11, "k"]);
  expect(new Subset(letters, [9, 0]).get(0)).toBe("j");
  const [train, rest] = randomSplit(letters, [0.8, 0.2], { seed: 1 });
  expect([train.length, rest.length]).toEqual([8, 2]);
  expect([...train.positions, ...rest.positions].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(() => randomSplit(letters, [3, 3])).toThrow(/randomSplit/);
});

describe("save and load", () => {
  const folder = mkdtempSync(join(tmpdir(), "shadegrad-save-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(["w.safetensors", "w.pt"])("a state dict in %s", async (name) => {
    const model = new Linear(3, 2);
    const path = join(folder, name);
    await save({ ...model.stateDict(), half: tensor([1.5, 2]).half(), ids: tensor([1, 2], { dtype: "i32" }) }, path);
    const { half, ids, ...state } = await load(path);
    expect([half.dtype, ids.dtype]).toEqual(["f16", "i32"]);
    expect(await half.tolist()).toEqual([1.5, 2]);
    const other = new Linear(3, 2);
    other.loadStateDict(state);
    expect(await other.weight.tolist()).toEqual(await model.weight.tolist());
  });

  test("in memory, and wrong names", async () => {
    const files = memoryFiles(new Map());
    await save({ a: tensor([1]) }, "a.safetensors", { folder: files });
    expect(await (await load("a.safetensors", { folder: files })).a.tolist()).toEqual([1]);
    await expect(save({ a: tensor([1]) }, "a.npz")).rejects.toThrow(/save: a\.npz/);
    await expect(load(join(folder, "none.safetensors"))).rejects.toThrow(/no such file/);
  });
});
