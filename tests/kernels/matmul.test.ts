import { describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import { contiguousStrides, numel } from "../../src/graph/shape.ts";
import { lowerMatmul } from "../../src/lowering/matmul.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { product } from "../support/reference.ts";
import { lowerOp, open, runTwice, type Source, submit } from "./harness.ts";

/** A source of `shape` stored with its dims in the order `order` (a permuted view), `offset` elements into its buffer. */
function stored(shape: readonly number[], seed: number, order = shape.map((_, i) => i), offset = 0): Source {
  const strides = new Array<number>(shape.length);
  contiguousStrides(order.map((d) => shape[d])).forEach((s, i) => (strides[order[i]] = s));
  return { data: normals(numel(shape) + offset, seed), shape, offset, strides };
}

async function check(
  a: Source,
  b: Source,
  batch: readonly number[] = [],
  adapter: number | Partial<DeviceInfo> = {}, // or its subgroup size
  candidate = 0,
): Promise<string[]> {
  const [M, N] = [a.shape[a.shape.length - 2], b.shape[b.shape.length - 1]];
  const info = typeof adapter === "number" ? { subgroupSize: adapter } : adapter;
  const spec = { shape: [...batch, M, N], dtype: "f32" as const };
  const [got] = await runTwice(lowerMatmul, [a, b], {}, spec, { info, candidate });
  const K = a.shape[a.shape.length - 1];
  expect(worstError(got, product(a, b, batch))).toBeLessThan(1e-6 * (1 + Math.sqrt(K))); // rounding of K additions
  return (await lowerOp(lowerMatmul, [a, b], {}, spec, { info })).calls.map((c) => c.kernel);
}

/** An epilogue that stores the place it is given: batch, row and column, or the element of a sum of parts. */
async function checkPlaces([M, N, K]: readonly number[], info: Partial<DeviceInfo>, split: boolean): Promise<void> {
  const place = split
    ? "f32(i.z)"
    : "f32(i.x) * 10000.0 + f32(i.y) * 100.0 + vec4f(vec4u(i.z) + vec4u(0u, 1u, 2u, 3u))";
  const sources = [stored([2, M, K], 1), stored([2, K, N], 2, [0, 2, 1])];
  const epilogue = { hooks: { epilogue: `return value * 0.0 + ${place};` } };
  const spec = { shape: [2, M, N], dtype: "f32" as const };
  const op = await lowerOp(lowerMatmul, sources, {}, spec, { epilogue, info });
  expect(op.calls.some((c) => c.kernel === "sum_parts")).toBe(split);
  await submit(op.dispatches);
  const want = Float64Array.from({ length: 2 * M * N }, (_, i) =>
    split ? i : Math.floor(i / N / M) * 10000 + (Math.floor(i / N) % M) * 100 + (i % N),
  );
  expect(worstError(await op.read(), want)).toBe(0);
}

const layouts = {
  "A.B": [
    [0, 1],
    [0, 1],
  ],
  "At.B": [
    [1, 0],
    [0, 1],
  ],
  "A.Bt": [
    [0, 1],
    [1, 0],
  ],
  "At.Bt": [
    [1, 0],
    [1, 0],
  ],
};
const sizes = [
  [1, 1, 1],
  [7, 5, 3],
  [16, 32, 4],
  [17, 33, 5],
  [64, 64, 64],
  [100, 36, 52],
  [5, 64, 260],
  [31, 127, 61],
  [3, 8, 1],
  [130, 4, 9],
];

describe.each([undefined, 0])("matmul, subgroup size %s", (subgroupSize) => {
  describe.each(Object.entries(layouts))("%s", (_, [orderA, orderB]) => {
    test.each(sizes)("M %i N %i K %i", async (M, N, K) => {
      await check(stored([M, K], 1, orderA), stored([K, N], 2, orderB), [], subgroupSize);
    });
  });

  test("an offset that is no multiple of 4", async () => {
    await check(stored([20, 16], 1, undefined, 3), stored([16, 24], 2, undefined, 5), [], subgroupSize);
  });

  test("a padded row stride and a negative stride", async () => {
    const a: Source = { data: normals(20 * 24, 1), shape: [20, 16], strides: [24, 1], offset: 4 };
    const b: Source = { data: normals(16 * 12, 2), shape: [16, 12], strides: [-12, 1], offset: 15 * 12 };
    await check(a, b, [], subgroupSize);
  });

  test("values outside the matrices are not read: NaN around them", async () => {
    const data = new Float32Array(40 * 40).fill(NaN);
    const x = normals(17 * 7);
    for (let m = 0; m < 17; m++) for (let k = 0; k < 7; k++) data[m * 40 + k] = x[m * 7 + k];
    await check(
      { data, shape: [17, 7], strides: [40, 1] },
      { data, shape: [7, 17], strides: [1, 40] },
      [],
      subgroupSize,
    );
  });

  test("batches: heads permuted from [B, T, H, D]", async () => {
    const [B, T, H, D] = [2, 19, 3, 12];
    const q = stored([B, H, T, D], 1, [0, 2, 1, 3]);
    const k = stored([B, H, D, T], 2, [0, 3, 1, 2]);
    await check(q, k, [B, H], subgroupSize);
  });

  test("batches: broadcast on either side, missing dims, sizes of 1", async () => {
    await check(stored([3, 1, 6, 8], 1), stored([4, 8, 5], 2), [3, 4], subgroupSize);
    await check(stored([6, 8], 1), stored([2, 3, 8, 5], 2), [2, 3], subgroupSize);
    await check({ ...stored([5, 6, 8], 1), strides: [0, 8, 1] }, stored([5, 8, 9], 2), [5], subgroupSize);
  });

  test("more batch dims than a kernel decodes", async () => {
    const a = stored([2, 3, 2, 2, 2, 5, 6], 1, [4, 2, 0, 3, 1, 5, 6]);
    await check(a, stored([2, 3, 2, 2, 2, 6, 7], 2, [1, 3, 0, 2, 4, 6, 5]), [2, 3, 2, 2, 2], subgroupSize);
  });

  test("many small products", async () => {
    await check(stored([70_000, 2, 3], 1), stored([70_000, 3, 2], 2), [70_000], subgroupSize);
  });

  test("few tiles and a long K are split", async () => {
    expect(await check(stored([5, 3001], 1), stored([3001, 7], 2), [], subgroupSize)).toEqual([
      subgroupSize === 0 ? "matmul_tiled" : "matmul",
      "sum_parts",
    ]);
    await check(stored([2, 20, 1040], 1, [0, 2, 1]), stored([2, 1040, 12], 2), [2], subgroupSize);
  });

  test.each([1, 2, 3, 4, 6, 8, 9])("M %i against wide weights in both layouts", async (M) => {
    await check(stored([M, 300], 1), stored([300, 90], 2), [], subgroupSize);
    await check(stored([M, 300], 1), stored([300, 90], 2, [1, 0]), [], subgroupSize);
    await check(stored([M, 301], 1), stored([301, 91], 2, [1, 0]), [], subgroupSize);
    await check(stored([3, M, 130], 1), stored([3, 130, 37], 2, [0, 2, 1]), [3], subgroupSize);
  });

  test("an epilogue sees batch, row and column, that of a sum of parts the element", async () => {
    const info = subgroupSize === 0 ? { subgroupSize } : {};
    for (const [M, N, K] of [
      [18, 37, 5],
      [1, 37, 64],
    ])
      await checkPlaces([M, N, K], info, false);
    await checkPlaces([3, 9, 2000], info, true);
  });
});

test.each(Object.entries(layouts))("tiles of 32 rows for large products, %s", async (_, [orderA, orderB]) => {
  for (const [M, N, K] of [
    [148, 132, 1720],
    [149, 136, 1660],
  ]) {
    await check(stored([M, K], 1, orderA), stored([K, N], 2, orderB));
  }
});

test.each(Object.entries(layouts))(
  "operands that lie along k are transposed first, %s",
  async (name, [orderA, orderB]) => {
    const { info } = await open();
    if (info.kind !== "software" || info.subgroupSize === 0) return;
    const swapped = (order: number[]): number[] => [0, ...order.map((d) => d + 1)];
    const transposes = Number(!name.startsWith("At")) + Number(name.endsWith("Bt"));
    const kernels = [...new Array<string>(transposes).fill("transpose"), "matmul"];
    // Each batch has operands of its own; A is shared by all; rows, columns and k fill no tile.
    for (const [batch, shared] of [
      [3, false],
      [2, true],
    ] as const) {
      const a = stored(shared ? [1, 260, 36] : [batch, 260, 36], 1, swapped(orderA), 4);
      const b = stored([batch, 36, 268], 2, swapped(orderB), 8);
      expect(await check(a, b, [batch])).toEqual(kernels);
    }
    // What cannot be read four at a time, or is small, is read as it lies.
    expect(await check(stored([260, 37], 1, orderA), stored([37, 268], 2, orderB))).toEqual(["matmul"]);
    expect(await check(stored([64, 36], 1, orderA), stored([36, 64], 2, orderB))).toEqual(["matmul"]);
  },
);

const gpus: Record<string, Partial<DeviceInfo>> = {
  "discrete, subgroups": { kind: "discrete" },
  "integrated, no subgroups": { kind: "integrated", subgroupSize: 0 },
};

describe.each(Object.entries(gpus))("tiles in workgroup memory: %s", (_, info) => {
  test.each(Object.entries(layouts))("%s", async (_, [orderA, orderB]) => {
    for (const [M, N, K] of [
      [17, 33, 5],
      [68, 72, 64],
      [100, 36, 52],
      [31, 127, 61],
      [131, 20, 9],
    ])
      expect(await check(stored([M, K], 1, orderA), stored([K, N], 2, orderB), [], info)).toEqual(["matmul_workgroup"]);
  });

  test("every tile, the first one the heuristic's", async () => {
    const [a, b] = [stored([133, 37], 1), stored([37, 140], 2, [1, 0])];
    const used: string[] = [];
    for (let candidate = 0; candidate < 4; candidate++) {
      await check(a, b, [], info, candidate);
      const { calls } = await lowerOp(
        lowerMatmul,
        [a, b],
        {},
        { shape: [133, 140], dtype: "f32" },
        { info, candidate },
      );
      const { LX, TM, TN } = calls[0].params!;
      used.push(`${LX} x ${LX} lanes of ${TM} x ${4 * (TN as number)}`);
    }
    const [large, small] = ["8 x 8 lanes of 8 x 8", "8 x 8 lanes of 4 x 4"];
    expect(used[0]).toBe(info.kind === "discrete" ? large : small);
    expect(used.sort()).toEqual(["16 x 16 lanes of 4 x 4", "16 x 16 lanes of 8 x 8", small, large]);
  });

  test("batches, broadcast, permuted and in parts", async () => {
    await check(stored([3, 1, 20, 8], 1), stored([4, 8, 18], 2), [3, 4], info);
    await check(stored([2, 3, 19, 12], 1, [0, 2, 1, 3]), stored([2, 3, 12, 19], 2, [0, 3, 1, 2]), [2, 3], info);
    const parts = await check(stored([20, 3001], 1), stored([3001, 24], 2), [], info);
    expect(parts).toEqual(["matmul_workgroup", "sum_parts"]);
    await check(stored([2, 20, 1040], 1, [0, 2, 1]), stored([2, 1040, 20], 2), [2], info);
  });

  test("odd offsets, negative strides, NaN around the matrices", async () => {
    await check(stored([20, 16], 1, undefined, 3), stored([16, 24], 2, undefined, 5), [], info);
    const reversed: Source = { data: normals(18 * 20, 2), shape: [18, 20], strides: [-20, 1], offset: 17 * 20 };
    await check(stored([20, 18], 1), reversed, [], info);
    const data = new Float32Array(40 * 40).fill(NaN);
    const x = normals(19 * 7);
    for (let m = 0; m < 19; m++) for (let k = 0; k < 7; k++) data[m * 40 + k] = x[m * 7 + k];
    const [a, b] = [
      { data, shape: [19, 7], strides: [40, 1] },
      { data, shape: [7, 19], strides: [1, 40] },
    ];
    await check(a, b, [], info);
  });

  test("an epilogue sees batch, row and column", () => checkPlaces([18, 37, 5], info, false));
});

test.each([1, 2, 3])("candidate %i of the tiles", async (candidate) => {
  for (const subgroupSize of [undefined, 0])
    for (const [orderA, orderB] of Object.values(layouts))
      await check(stored([37, 29], 1, orderA), stored([29, 43], 2, orderB), [], subgroupSize, candidate);
});

test("M 1 with [N, K] weights takes the matvec kernel where there are subgroups", async () => {
  const { info } = await open();
  const kernels = await check(stored([1, 300], 1), stored([300, 90], 2, [1, 0]));
  expect(kernels).toEqual([info.subgroupSize > 0 ? "matvec" : "matmul_tiled"]);
});

test.each([1, 3, 4, 8])("M %i: sums of blocks of k are added up apart", async (M) => {
  const [N, K] = [1031, 2044];
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const [a, b] = [stored([M, K], 1), stored([K, N], 2, order)];
    const [got] = await runTwice(lowerMatmul, [a, b], {}, { shape: [M, N], dtype: "f32" });
    const want = product(a, b);
    const largest = want.reduce((x, y) => Math.max(x, Math.abs(y)), 0);
    const worst = want.reduce((x, y, i) => Math.max(x, Math.abs(y - got[i])), 0);
    expect(worst / largest).toBeLessThan(3e-7); // one chain of additions: 5e-7 and more
  }
});

test.each([1, 2, 3, 5, 8])("M %i with [N, K] weights in every way to compute few rows", async (M) => {
  const { info } = await open();
  if (info.subgroupSize === 0) return;
  const used = new Set<string>();
  for (const [N, K] of [
    [37, 4 * info.subgroupSize + 3],
    [50, 260],
  ]) {
    const [a, b] = [stored([2, M, K], 1), stored([2, K, N], 2, [0, 2, 1])];
    const spec = { shape: [2, M, N], dtype: "f32" as const };
    for (let candidate = 0; candidate < 4; candidate++) {
      await check(a, b, [2], undefined, candidate);
      const { calls } = await lowerOp(lowerMatmul, [a, b], {}, spec, { candidate });
      used.add(`${calls[0].kernel} ${calls[0].params!.COLUMNS ?? ""}`);
    }
  }
  expect([...used].sort()).toEqual(
    { 1: ["matmul ", "matvec 16", "matvec 4", "matvec 8"], 8: ["matmul ", "matvec 4"] }[M] ?? expect.anything(),
  );
});

test("an empty product has no dispatch, an empty sum is zero", async () => {
  const spec = (shape: number[]) => ({ shape, dtype: "f32" as const });
  expect((await lowerOp(lowerMatmul, [stored([0, 4], 1), stored([4, 5], 2)], {}, spec([0, 5]))).calls).toEqual([]);
  const [zeros] = await runTwice(lowerMatmul, [stored([3, 0], 1), stored([0, 5], 2)], {}, spec([3, 5]));
  expect([...zeros]).toEqual(new Array(15).fill(0));
});
