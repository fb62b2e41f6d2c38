/** Indices that the device computes and that are out of range: 0 or nothing, never another row, equal on both backends. */
import { beforeEach, describe, expect, test } from "vitest";
import { embedding, flush, init, ones, type Tensor, tensor, writeAt, zeros } from "../../src/index.ts";

const table = () => tensor([10, 20, 30, 40, 50, 60], { shape: [2, 3] });
/** Host values that the device computes, so that no check at the call sees them. */
const computed = (values: number[], shape = [values.length]) =>
  tensor(
    values.map((v) => v - 7),
    { dtype: "i32", shape },
  ).add(7);

const reads: [string, () => Tensor, number[]][] = [
  ["gather", () => table().gather(1, computed([-1, 0, 3, 2], [2, 2])), [0, 10, 0, 60]],
  ["gather along dim 0", () => table().gather(0, computed([2, 1, -1], [1, 3])), [0, 50, 0]],
  ["gather by u32", () => table().gather(1, computed([-1, 1], [2, 1]).to("u32")), [0, 50]],
  ["indexSelect", () => table().indexSelect(0, computed([1, 2, -1])), [40, 50, 60, 0, 0, 0, 0, 0, 0]],
  [
    "indexSelect of a narrowed view",
    () =>
      tensor([1, 2, 3, 4])
        .narrow(0, 1, 2)
        .indexSelect(0, computed([2, -1, 1])),
    [0, 0, 3],
  ],
  [
    "indexSelect fused with its source",
    () =>
      table()
        .mul(2)
        .add(1)
        .indexSelect(1, computed([3, 0])),
    [0, 21, 0, 81],
  ],
  ["embedding", () => embedding(computed([5, 1]), table()), [0, 0, 0, 40, 50, 60]],
  ["at", () => table().at(computed([5, -2, -3])), [0, 0, 0, 10, 20, 30, 0, 0, 0]],
  ["takeAlongDim", () => table().takeAlongDim(computed([3, 0], [2, 1]), 1), [0, 40]],
  ["scatterAdd", () => zeros(2, 3).scatterAdd(1, computed([3, -1], [2, 1]), ones(2, 1)), [0, 0, 0, 0, 0, 0]],
  ["indexAdd", () => zeros(2, 3).indexAdd(1, computed([3, 0, -1]), ones(2, 3)), [1, 0, 0, 1, 0, 0]],
  ["scatter", () => table().scatter(1, computed([3, -1], [2, 1]), 7), [10, 20, 30, 40, 50, 60]],
  ["indexPut", () => table().indexPut([computed([2, 1]), computed([0, 3])], tensor([1, 2])), [10, 20, 30, 40, 50, 60]],
  ["writeAt", () => writeAt(zeros(1, 2, 3, 1), ones(1, 2, 2, 1), computed([2])), [0, 0, 1, 0, 0, 1]],
  ["writeAt before the cache", () => writeAt(zeros(1, 2, 3, 1), ones(1, 2, 2, 1), computed([-1])), [1, 0, 0, 1, 0, 0]],
];

describe.each(["webgpu", "reference"] as const)("%s", (backend) => {
  beforeEach(async () => void (await init({ backend, tune: false })));

  test.each(reads)("%s", async (_name, build, want) => {
    expect([...(await build().data())]).toEqual(want);
  });

  test("gradients skip them too", async () => {
    const x = tensor([1, 2, 3], { requiresGrad: true });
    x.gather(0, computed([3, 1, -1, 1]))
      .sum()
      .backward();
    expect([...(await x.grad!.data())]).toEqual([0, 2, 0]);
    const w = tensor([1, 2, 3, 4], { shape: [2, 2], requiresGrad: true });
    embedding(computed([2, 0]), w)
      .sum()
      .backward();
    expect([...(await w.grad!.data())]).toEqual([1, 1, 0, 0]);
  });

  test("checkIndices makes them errors with op and position", async () => {
    await init({ backend, tune: false, checkIndices: true });
    expect([
      ...(await table()
        .gather(1, computed([2, 0], [2, 1]))
        .data()),
    ]).toEqual([30, 40]);
    const bad = table().gather(1, computed([0, 1, 2, 9], [2, 2]));
    await expect(bad.data()).rejects.toThrow("gather: index 9 at [1,1] is out of range for size 3: expected 0 to 2");
    embedding(computed([0, -1]), table());
    await expect(flush()).rejects.toThrow("embedding: index -1 at [1] is out of range for size 2: expected 0 to 1");
    expect([...(await table().sum(1).data())]).toEqual([60, 150]); // the error is not told twice
    await init({ backend, tune: false });
    expect([
      ...(await table()
        .gather(1, computed([9, 1], [2, 1]))
        .data()),
    ]).toEqual([0, 50]);
  });
});

test("tables larger than a binding", async () => {
  await init({ backend: "webgpu", tune: false, limits: { maxStorageBufferBindingSize: 1024 } });
  const x = tensor(
    Float32Array.from({ length: 1000 }, (_, i) => i + 1),
    { shape: [250, 4] },
  );
  await flush(x);
  const picked = await x
    .indexSelect(0, computed([250, -1, 249, 64, 63, 1000]))
    .select(1, 0)
    .data();
  expect([...picked]).toEqual([0, 0, 997, 257, 253, 0]);
});
