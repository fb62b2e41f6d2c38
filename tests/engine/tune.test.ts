import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { addKernel } from "../../kernels/index.ts";
import { table } from "../../scripts/cli/tune.ts";
import type { Candidate } from "../../src/graph/kernel-call.ts";
import { Node } from "../../src/graph/node.ts";
import { init, plan, rand, type Tensor, tensor, tune } from "../../src/index.ts";
import { defineOp } from "../../src/ops/define.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { hashOf, type TunedEntry, Tuner, tuningKey } from "../../src/runtime/tuner/tuner.ts";
import { worstError } from "../support/compare.ts";

const leaf = defineOp({ name: "tune_test_leaf", kind: "leaf", reference: () => [] });
const node = new Node(leaf, [], {}, [1], "f32");
const candidates: Candidate[] = [{ rows: 16 }, { rows: 8 }];
const signature = { M: 100, layout: "row" };
const key = tuningKey(node, "matmul", signature);
const entry = (change: Partial<TunedEntry> = {}): TunedEntry => ({
  pick: { rows: 8 },
  kernels: ["matmul"],
  hash: hashOf(["matmul"]),
  ms: [1, 2],
  ...change,
});
const tunerOf = (e?: TunedEntry) => {
  const tuner = new Tuner();
  if (e) tuner.learn({ [key]: e });
  return tuner;
};
const choose = (e?: TunedEntry) => tunerOf(e).choose(node, "matmul", signature, candidates);

test("without a measurement the heuristic's choice stands, with one the measured pick", () => {
  expect(choose()).toEqual({ rows: 16 });
  expect(choose(entry())).toEqual({ rows: 8 });
});

test("a measurement of other kernel code, or of a candidate no longer offered, is ignored", () => {
  expect(choose(entry({ hash: "00000000" }))).toEqual({ rows: 16 });
  expect(choose(entry({ kernels: ["no_such_kernel"] }))).toEqual({ rows: 16 });
  expect(choose(entry({ pick: { rows: 4 } }))).toEqual({ rows: 16 });
});

test("comments do not make a measurement stale, code does", () => {
  addKernel("tune_test", "// One.\nconst TILE: u32 = 8u; // param\nfn main() {}");
  addKernel("tune_test_prose", "// One, with more words.\nconst TILE: u32 = 8u; // param: rows\nfn main() {}");
  addKernel("tune_test_code", "// One.\nconst TILE: u32 = 9u; // param\nfn main() {}");
  expect(hashOf(["tune_test_prose"])).toBe(hashOf(["tune_test"]));
  expect(hashOf(["tune_test_code"])).not.toBe(hashOf(["tune_test"]));
});

test("sizes within a power of two share an answer; words and dtypes do not", () => {
  expect(tuningKey(node, "matmul", { M: 128, layout: "row" })).toBe(key);
  expect(tuningKey(node, "matmul", { M: 129, layout: "row" })).not.toBe(key);
  expect(tuningKey(node, "matmul", { M: 100, layout: "column" })).not.toBe(key);
  expect(tuningKey(new Node(leaf, [], {}, [1], "f16"), "matmul", signature)).not.toBe(key);
});

test("a kernel with a prologue or epilogue has an answer of its own; until it is measured, the plain answer serves", () => {
  const [prologue, epilogue] = ["0:silu+mul", "add+gelu"];
  for (const joined of [{ epilogue }, { prologue }, { prologue, epilogue }]) {
    const tuner = tunerOf(entry());
    expect(tuner.choose(node, "matmul", signature, candidates, joined)).toEqual({ rows: 8 });
    expect(tuner.ask(node, "matmul", signature, candidates, joined)).toEqual({ rows: 8 });
    const own = tuningKey(node, "matmul", signature, joined);
    expect([...tuner.open.keys()]).toEqual([own]);
    expect(own).not.toBe(key);
    tuner.settle({ key: own, candidates: [], entry: entry({ pick: { rows: 16 } }) });
    expect(tuner.choose(node, "matmul", signature, candidates, joined)).toEqual({ rows: 16 });
    expect(tuner.choose(node, "matmul", signature, candidates)).toEqual({ rows: 8 });
  }
});

test("without an exact answer, one without the prologue is preferred to a plain one", () => {
  const joined = { prologue: "0:mul", epilogue: "add" };
  const tuner = tunerOf(entry());
  tuner.learn({ [tuningKey(node, "matmul", signature, { epilogue: "add" })]: entry({ pick: { rows: 16 } }) });
  expect(tuner.choose(node, "matmul", signature, candidates, joined)).toEqual({ rows: 16 });
  expect(tuner.choose(node, "matmul", signature, candidates, { prologue: "0:mul" })).toEqual({ rows: 8 });
});

test("open questions are kept when asked to, and a template offers at most twelve candidates", () => {
  const tuner = new Tuner();
  tuner.choose(node, "matmul", signature, candidates);
  expect(tuner.open.size).toBe(0);
  tuner.ask(node, "matmul", signature, candidates, {});
  expect([...tuner.open.keys()]).toEqual([key]);
  const many = Array.from({ length: 13 }, (_, rows) => ({ rows }));
  expect(() => tuner.choose(node, "matmul", signature, many)).toThrow(/13 candidates/);
});

describe("on the adapter", () => {
  const folder = process.env.SHADEGRAD_CACHE!;
  const product = () => rand(40, 24).matmul(rand(24, 48)).sum().item();
  const tilesOf = (rows: readonly { candidate: Candidate }[]) => rows.map((r) => r.candidate.rows);

  test("tune() measures what the work could use, keeps it, and the next device knows it", async () => {
    rmSync(folder, { recursive: true, force: true });
    await init({ backend: "webgpu", tune: false });
    const plain = await product();
    const results = await tune(product);
    const [result] = results.filter((r) => r.key.startsWith("matmul"));
    expect(tilesOf(result.candidates).toSorted((a, b) => Number(a) - Number(b))).toEqual(
      currentDevice()!.info.subgroupSize ? [4, 8, 16, 32] : [8, 16, 32],
    );
    for (const { ms } of result.candidates) expect(ms).toBeGreaterThan(0);
    const [heuristic] = result.candidates;
    const pick = result.candidates.find((c) => c.candidate === result.entry.pick)!;
    expect(result.entry.ms).toEqual([pick.ms, heuristic.ms]);
    expect(pick === heuristic || pick.ms! < heuristic.ms!).toBe(true);
    expect(table(results)).toContain(result.key);
    expect(await product()).not.toBe(plain); // other random numbers: it computed again

    const [file] = readdirSync(folder);
    const kept = JSON.parse(readFileSync(join(folder, file), "utf8"));
    expect(kept.entries[result.key]).toEqual(result.entry);
    await init({ backend: "webgpu" });
    expect(await tune(product)).toEqual([]); // nothing is left to measure

    writeFileSync(join(folder, file), JSON.stringify({ ...kept, adapter: "another" }));
    await init({ backend: "webgpu" });
    expect((await tune(product)).length).toBeGreaterThan(0);
    writeFileSync(join(folder, file), "{ damaged");
    await init({ backend: "webgpu", tune: true });
    await product();
    expect(JSON.parse(readFileSync(join(folder, file), "utf8")).entries[result.key]).toMatchObject({
      pick: expect.any(Object),
    });
  });

  test("kernels are measured with their epilogues", async () => {
    rmSync(folder, { recursive: true, force: true });
    await init({ backend: "webgpu", tune: false });
    const [x, w, bias] = [rand(40, 24), rand(24, 48), rand(48)];
    await Promise.all([x, w, bias].map((t) => t.data()));
    const layer = () => x.matmul(w).add(bias).reshape([40, 6, 8]).tanh().data();
    const plain = await layer();
    const compiled = currentDevice()!.pipelines.size;
    const results = await tune(layer);
    expect(results.map((r) => r.key.replace(/.* /, ""))).toEqual(["epilogue=add+tanh"]);
    expect(await layer()).toEqual(plain);
    const offered = results[0].candidates.length;
    expect(currentDevice()!.pipelines.size - compiled).toBe(offered - 1); // the heuristic's was there, with its work
  });

  test("and with prologues, which have an answer of their own", async () => {
    rmSync(folder, { recursive: true, force: true });
    await init({ backend: "webgpu", tune: false, fuse: "always" });
    const [x, gate, w] = [rand(40, 24), rand(40, 24), rand(24, 48)];
    await Promise.all([x, gate, w].map((t) => t.data()));
    const joined = (): Tensor => x.silu().mul(gate).matmul(w);
    const product = (): Tensor => x.matmul(w);
    const keys = async (f: () => Tensor) => (await tune(() => f().data())).map((r) => r.key);
    const plain = await joined().data();
    const compiled = currentDevice()!.pipelines.size;
    const [withPrologue, ...others] = await keys(joined);
    expect(others).toEqual([]);
    expect(withPrologue).toMatch(/^matmul .* prologue=0:silu\S*\+mul$/);
    expect(currentDevice()!.pipelines.size - compiled).toBe(currentDevice()!.tuner.results[0].candidates.length - 1);
    expect(worstError(await joined().data(), plain)).toBeLessThan(1e-6);
    expect(await keys(product)).toEqual([withPrologue.replace(/ prologue=.*/, "")]); // not answered by the other
    expect(await keys(joined)).toEqual([]);
    expect(await keys(() => gate.mul(2).matmul(w))).toEqual([expect.stringMatching(/ prologue=0:full\+mul$/)]);
    expect(await keys(() => x.matmul(w.mul(2)))).toEqual([expect.stringMatching(/ prologue=1:full\+mul$/)]);
  });

  describe("an answer with a prologue", () => {
    const stored = async (...shape: number[]): Promise<Tensor> => {
      const x = rand(...shape);
      await x.data();
      return x;
    };
    /** What a plan for y runs, and the grid of its product, which goes with the tile. */
    const runs = async (y: Tensor): Promise<{ kernels: number; grid: string }> => {
      const { text, kernels } = (await plan(y))!;
      return { kernels, grid: /matmul.* (\S+) workgroups/.exec(text)![1] };
    };
    const measured = async (y: () => Tensor) => {
      const [{ key, candidates, entry }] = await tune(() => y().data());
      expect(key).toMatch(/^matmul .* prologue=\S+$/);
      const tiles = candidates.map((c) => c.candidate);
      return { alone: key.replace(/ prologue=.*/, ""), key, entry, tiles, times: candidates.map((c) => c.ms) };
    };
    const learn = (key: string, entry: TunedEntry, pick: Candidate): void =>
      currentDevice()!.tuner.learn({ [key]: { ...entry, pick } });
    beforeEach(async () => {
      rmSync(folder, { recursive: true, force: true });
      await init({ backend: "webgpu", tune: false, fuse: "always" });
    });

    test("serves that prologue alone; without one the plain product's answer serves", async () => {
      const [x, w] = [await stored(256, 24), await stored(24, 48)];
      const products = [() => x.mul(2).matmul(w), () => x.matmul(w), () => x.mul(2).matmul(w.mul(3))];
      const heuristic = await runs(products[1]());
      const { key, alone, entry, tiles } = await measured(products[0]);
      learn(key, entry, tiles.find((t) => t.rows !== tiles[0].rows)!);
      const other = await runs(products[0]());
      expect(other.grid).not.toBe(heuristic.grid);
      for (const y of products.slice(1)) expect(await runs(y())).toEqual(heuristic);
      learn(alone, entry, tiles.find((t) => t.rows !== tiles[0].rows)!);
      for (const y of products) expect(await runs(y())).toEqual(other);
    });

    test("is never a variant that the prologue does not fuse into, and such an answer is ignored", async ({ skip }) => {
      skip(currentDevice()!.info.subgroupSize === 0, "tiles without subgroups read B eight times as often");
      const [x, w, v] = [await stored(16, 252), await stored(252, 252), await stored(252, 252)];
      const product = (): Tensor => x.matmul(w.add(v)); // the prologue fuses into tiles of 16 rows, which read B once; not of 4
      const heuristic = await runs(product());
      expect(heuristic.kernels).toBe(1);
      const { key, alone, entry, tiles, times } = await measured(product);
      const low = tiles.find((t) => t.rows === 4)!;
      expect(times[tiles.indexOf(low)]).toBeUndefined();
      expect(times[0]).toBeGreaterThan(0);
      learn(key, entry, low);
      expect(await runs(product())).toEqual(heuristic);
      learn(alone, entry, low);
      const apart = await runs(product());
      expect(apart.kernels).toBe(2);
      expect(apart.grid).not.toBe(heuristic.grid);
    });
  });

  test("where nothing can be kept, tuning serves the process", async () => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(folder, ".."), { recursive: true });
    writeFileSync(folder, "a file where the folder should be");
    await init({ backend: "webgpu", tune: false });
    const [a, b] = [tensor([[1, 2]]), tensor([[3], [4]])];
    await tune(() => a.matmul(b).data());
    expect(await tune(product)).not.toEqual([]);
    expect(await tune(product)).toEqual([]);
    rmSync(folder);
  });
});
