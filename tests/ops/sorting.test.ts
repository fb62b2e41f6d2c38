import { beforeAll, describe, expect, test } from "vitest";
import { grad, searchsorted, tensor } from "../../src/index.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { normals } from "../support/random.ts";

const list = async (x: Tensor): Promise<number[]> => Array.from(await x.data());

describe.each(["webgpu", "reference"] as const)("sorting on %s", (backend) => {
  beforeAll(async () => void (await init({ backend })));

  test("topk takes NaN as the largest, any dim, the smallest, and any k", async () => {
    const x = tensor([3, NaN, 1, NaN, 5, 4]);
    expect(await list(x.topk(6).values)).toEqual([NaN, NaN, 5, 4, 3, 1]);
    expect(await list(x.topk(6, { largest: false }).indices)).toEqual([2, 0, 5, 4, 1, 3]);
    expect((await x.topk(0).values.data()).length).toBe(0);
    const many = normals(500);
    const sorted = [...many].sort((a, b) => a - b);
    expect(await list(tensor(many).topk(300, { largest: false }).values)).toEqual(sorted.slice(0, 300));
    expect(await list(tensor(many, { shape: [500, 1] }).topk(2, { dim: 0 }).values)).toEqual(
      sorted.slice(-2).reverse(),
    );
  });

  test("0-d and empty tensors", async () => {
    const one = tensor(3);
    expect([one.sort().values.shape, one.sort().indices.shape, one.median(0).values.shape]).toEqual([[], [], []]);
    expect(await list(one.topk(1).values)).toEqual([3]);
    const none = tensor([], { shape: [2, 0] });
    expect(none.sort().values.shape).toEqual([2, 0]);
    expect((await none.sort().indices.data()).length).toBe(0);
    expect(none.cumprod(1).shape).toEqual([2, 0]);
    expect(await list(searchsorted(tensor([], { shape: [0] }), tensor([1, 2])))).toEqual([0, 0]);
    const { values, counts } = await tensor([], { shape: [0] }).unique();
    expect([values.shape, counts.shape]).toEqual([[0], [0]]);
    expect(await list(await tensor([], { shape: [0], dtype: "i32" }).bincount({ minlength: 2 }))).toEqual([0, 0]);
    expect(await list(tensor([], { shape: [0] }).histc(3))).toEqual([0, 0, 0]);
  });

  test("unique of rows, in lexicographic order, and of neighbours", async () => {
    const x = tensor(
      [
        [1, 2],
        [0, 9],
        [1, 2],
        [0, 3],
        [1, 2],
      ],
      { dtype: "i32" },
    );
    const rows = await x.unique({ dim: 0 });
    expect(await list(rows.values)).toEqual([0, 3, 0, 9, 1, 2]);
    expect(await list(rows.inverse)).toEqual([2, 1, 2, 0, 2]);
    expect(await list(rows.counts)).toEqual([1, 1, 3]);
    const runs = await tensor([2, 2, 1, 2, 2, 2]).uniqueConsecutive();
    expect(await list(runs.values)).toEqual([2, 1, 2]);
    expect(await list(runs.inverse)).toEqual([0, 0, 1, 2, 2, 2]);
    expect(await list(runs.counts)).toEqual([2, 1, 3]);
    expect((await tensor([NaN, 1, NaN]).unique()).values.shape).toEqual([3]); // NaN differs from NaN, as in torch
  });

  test("mode gives the position of the last occurrence", async () => {
    const { values, indices } = tensor([[2, 1, 2, 1, 0]]).mode();
    expect([await list(values), await list(indices)]).toEqual([[1], [3]]);
  });

  test("quantiles of infinities", async () => {
    expect(await list(tensor([-Infinity, 1, Infinity]).quantile([0, 0.5, 1]))).toEqual([-Infinity, 1, Infinity]);
  });

  test("the gradient of sort gathers by the inverse, also a second time", async () => {
    const x = tensor([0.3, -2, 1.5, 0.1], { requiresGrad: true });
    const y = x
      .sort()
      .values.pow(3)
      .mul(tensor([1, 2, 3, 4]))
      .sum();
    const [first] = grad(y, [x], { createGraph: true });
    (await list(first!)).forEach((g, i) => expect(g).toBeCloseTo([0.81, 12, 27, 0.06][i], 4));
    const [second] = grad(first!.sum(), [x]);
    (await list(second!)).forEach((g, i) => expect(g).toBeCloseTo([5.4, -12, 36, 1.2][i], 4));
  });

  test.each([
    ["topk: k = 4 of [3]: expected 0 to 3", () => tensor([1, 2, 3]).topk(4)],
    ["topk: unknown option biggest", () => tensor([1]).topk(1, { biggest: true } as object)],
    ["sort: dim 1 is out of range", () => tensor([1]).sort({ dim: 1 })],
    ["sort: unknown option axis", () => tensor([1]).sort({ axis: 0 } as object)],
    ["kthvalue: k = 0 of [2]: expected 1 to 2", () => tensor([1, 2]).kthvalue(0)],
    ["median: dim 1 of [2,0] is empty", () => tensor([], { shape: [2, 0] }).median(1)],
    ["quantile: q = 1.5", () => tensor([1]).quantile(1.5)],
    ["quantile: a float tensor is expected, got i32", () => tensor([1], { dtype: "i32" }).quantile(0.5)],
    ["quantile: unknown interpolation cubic", () => tensor([1]).quantile(0.5, { interpolation: "cubic" } as object)],
    [
      "searchsorted: sorted [2,3] does not fit values [4]",
      () =>
        searchsorted(
          tensor([
            [1, 2, 3],
            [1, 2, 3],
          ]),
          tensor([1, 2, 3, 4]),
        ),
    ],
    ["bucketize: boundaries [1,2]", () => tensor([1]).bucketize(tensor([[1, 2]]))],
    ["histc: 0 bins", () => tensor([1]).histc(0)],
    ["histc: from 2 to 1", () => tensor([1]).histc(3, 2, 1)],
    ["cumprod: dim 3 is out of range", () => tensor([1]).cumprod(3)],
  ])("error: %s", (message, call) => {
    expect(call).toThrow(message);
  });

  test("errors of functions that wait", async () => {
    await expect(tensor([1.5]).bincount()).rejects.toThrow("bincount: x is f32 [1]: expected a vector of integers");
    await expect(tensor([1, -2], { dtype: "i32" }).bincount()).rejects.toThrow("bincount: -2 in x [2]");
    await expect(tensor([1]).unique({ dim: 1 })).rejects.toThrow("unique: dim 1 is out of range");
  });
});

describe("a million elements", () => {
  beforeAll(async () => void (await init({ backend: "webgpu" })));

  test("are sorted, stable", async () => {
    const N = 1_000_000;
    const x = normals(N).map((v) => Math.round(1000 * v));
    const { values, indices } = tensor(x).sort({ descending: true });
    const [v, at] = [await values.data(), await indices.data()];
    let wrong = 0;
    for (let i = 0; i < N; i++) {
      if (x[at[i]] !== v[i]) wrong++;
      if (i > 0 && !(v[i - 1] > v[i] || (v[i - 1] === v[i] && at[i - 1] < at[i]))) wrong++;
    }
    expect(wrong).toBe(0);
  });

  test("more rows than workgroups in a dim", async () => {
    const [rows, cols] = [200_000, 3];
    const x = normals(rows * cols);
    const y = await tensor(x, { shape: [rows, cols] })
      .sort()
      .values.data();
    let wrong = 0;
    for (let r = 0; r < rows; r++) {
      const want = x.slice(r * cols, r * cols + cols).sort();
      for (let c = 0; c < cols; c++) if (y[r * cols + c] !== want[c]) wrong++;
    }
    expect(wrong).toBe(0);
  });
});
