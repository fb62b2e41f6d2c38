import { describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import { contiguousStrides, numel } from "../../src/graph/shape.ts";
import { lowerIndexAdd, lowerIndexSum, lowerScatterAdd } from "../../src/lowering/gather.ts";
import { lowerCumsum, lowerScan } from "../../src/lowering/scan.ts";
import { lowerArgsort, lowerSearchsorted, lowerTopk } from "../../src/lowering/sort.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { runTwice } from "./harness.ts";

/** Pseudo-random ids in [0, size) with repeats. */
const ids = (count: number, size: number, seed = 1): Int32Array =>
  Int32Array.from(normals(count, seed), (v) => Math.floor(Math.abs(v) * 1e4) % size);

describe.each<[string, Partial<DeviceInfo>]>([
  ["software", {}],
  ["discrete", { kind: "discrete" }],
])("%s schedule", (_, info) => {
  test.each<readonly [readonly number[], number, number]>([
    [[1, 4], 0, 1],
    [[7, 5], 0, 20],
    [[1000, 64], 0, 300],
    [[50, 12], 0, 3000],
    [[3, 9, 8], 1, 30],
    [[4, 6, 5], 2, 17],
    [[300_000, 4], 0, 5],
    [[20_000, 4], 0, 60_000],
    ...(info.kind ? [[[3, 4], 0, 20_000] as const, [[2, 5, 3], 1, 6000] as const] : []), // software adapters leave them to the fallback
    [[5, 4], 0, 0],
  ])("index_add into %j along %i from %i rows", async (shape, dim, count) => {
    const sourceShape = shape.map((n, d) => (d === dim ? count : n));
    const [x, index, source] = [normals(numel(shape)), ids(count, shape[dim]), normals(numel(sourceShape), 2)];
    const sources = [
      { data: x, shape },
      { data: index, shape: [count] },
      { data: source, shape: sourceShape },
    ];
    const [got] = await runTwice(lowerIndexAdd, sources, { dim }, { shape, dtype: "f32" }, { info });
    const want = Float64Array.from(x);
    const inner = numel(shape.slice(dim + 1));
    for (let o = 0; o < numel(shape.slice(0, dim)); o++) {
      index.forEach((id, n) => {
        for (let i = 0; i < inner; i++) want[(o * shape[dim] + id) * inner + i] += source[(o * count + n) * inner + i];
      });
    }
    expect(worstError(got, want)).toBeLessThan(1e-5);
    const size = shape[dim];
    const [sum] = await runTwice(lowerIndexSum, sources.slice(1), { dim, size }, { shape, dtype: "f32" }, { info });
    const added = want.map((v, i) => v - x[i]);
    expect(worstError(sum, added)).toBeLessThan(1e-5);
  });

  test("index_add of integers, and one id for all", async () => {
    const source = Int32Array.from({ length: 400 }, (_, i) => 1_000_003 * i);
    const sources = [
      { data: new Int32Array(12).fill(5), shape: [3, 4] },
      { data: new Int32Array(100).fill(2), shape: [100] },
      { data: source, shape: [100, 4] },
    ];
    const [got] = await runTwice(lowerIndexAdd, sources, { dim: 0 }, { shape: [3, 4], dtype: "i32" }, { info });
    const want = new Int32Array(12).fill(5);
    source.forEach((v, i) => (want[8 + (i % 4)] += v));
    expect([...got]).toEqual([...want]);
  });

  test.each([
    [[9], [30], 0],
    [[5, 7], [5, 20], 1],
    [[20, 6], [3, 4], 0],
    [[2, 3, 4, 5], [2, 2, 9, 3], 2],
    [[70_000, 3], [70_000, 2], 1],
    [[4, 3], [0, 3], 0],
    [[2, 1, 3, 2, 1, 2, 3], [2, 1, 2, 2, 1, 2, 3], 4],
  ])("scatter_add into %j with index %j along %i", async (shape, part, dim) => {
    const [x, index, source] = [normals(numel(shape)), ids(numel(part), shape[dim]), normals(numel(part), 2)];
    const sources = [
      { data: x, shape },
      { data: index, shape: part },
      { data: source, shape: part },
    ];
    const [got] = await runTwice(lowerScatterAdd, sources, { dim }, { shape, dtype: "f32" }, { info });
    const want = Float64Array.from(x);
    const [strides, partStrides] = [contiguousStrides(shape), contiguousStrides(part)];
    for (let i = 0; i < numel(part); i++) {
      let at = 0;
      for (let d = 0; d < shape.length; d++)
        at += (d === dim ? index[i] : Math.floor(i / partStrides[d]) % part[d]) * strides[d];
      want[at] += source[i];
    }
    expect(worstError(got, want)).toBeLessThan(1e-5);
  });

  test.each([
    [1, 1],
    [1, 7],
    [3, 300],
    [20, 33],
    [1, 50_000],
    [70_001, 2],
  ])("cumsum of %i x %i", async (rows, cols) => {
    const x = normals(rows * cols);
    const [got] = await runTwice(
      lowerCumsum,
      [{ data: x, shape: [rows, cols] }],
      {},
      { shape: [rows, cols], dtype: "f32" },
      { info },
    );
    const want = Float64Array.from(x);
    for (let i = 0; i < want.length; i++) if (i % cols) want[i] += want[i - 1];
    expect(worstError(got, want)).toBeLessThan(2e-6 * (1 + Math.sqrt(cols))); // sums near zero after large ones
    const whole = Int32Array.from(x, (v) => Math.trunc(100 * v));
    const [exact] = await runTwice(
      lowerCumsum,
      [{ data: whole, shape: [rows, cols] }],
      {},
      { shape: [rows, cols], dtype: "i32" },
      { info },
    );
    const sums = whole.slice();
    for (let i = 0; i < sums.length; i++) if (i % cols) sums[i] += sums[i - 1];
    expect(exact).toEqual(sums);
  });

  test.each([
    ["product", [3, 300], 1, false],
    ["largest", [2, 9000], 1, false],
    ["smallest", [1, 20_000, 2], 1, false],
    ["sum", [1, 50_000], 1, true],
    ["sum", [700, 3], 0, true],
    ["logsumexp", [1, 9000], 1, false],
    ["recurrence", [2, 9000], 1, true],
  ] as const)("running %s of %j along %i, reverse %s", async (kind, shape, dim, reverse) => {
    const x = normals(numel(shape)).map((v) => (kind === "product" ? 1 + v / 100 : v / 2));
    const b = normals(numel(shape), 2);
    const sources = [x, b].slice(0, kind === "recurrence" ? 2 : 1).map((data) => ({ data, shape }));
    const position = kind === "largest" || kind === "smallest";
    const spec = { shape, dtype: position ? ("i32" as const) : ("f32" as const) };
    const [got] = await runTwice(lowerScan, sources, { kind, dim, reverse }, spec, { info });
    const want = new Float64Array(x.length);
    const [n, inner] = [shape[dim], numel(shape.slice(dim + 1))];
    for (let row = 0; row < x.length / n; row++) {
      let total: number | undefined;
      let at = 0;
      for (let c = 0; c < n; c++) {
        const column = reverse ? n - 1 - c : c;
        const i = (Math.floor(row / inner) * n + column) * inner + (row % inner);
        if (position && (total === undefined || (kind === "largest" ? x[i] >= total : x[i] <= total)))
          [total, at] = [x[i], c];
        if (kind === "sum") total = (total ?? 0) + x[i];
        if (kind === "product") total = (total ?? 1) * x[i];
        if (kind === "logsumexp") total = Math.log(Math.exp(total ?? -Infinity) + Math.exp(x[i]));
        if (kind === "recurrence") total = (total ?? 0) * x[i] + b[i];
        want[i] = position ? at : total!;
      }
    }
    expect(worstError(got, want)).toBeLessThan(position ? 1e-12 : 2e-5);
  });

  test.each([
    [1, 1, 1],
    [1, 7, 7],
    [3, 300, 5],
    [20, 33, 33],
    [1, 50_000, 20],
    [70_001, 3, 2],
  ])("topk of %i x %i, k %i", async (rows, cols, k) => {
    // Rounded, so that there are ties.
    for (const x of [
      normals(rows * cols).map((v) => Math.round(20 * v) / 8),
      Int32Array.from(normals(rows * cols), (v) => 30 * v),
    ]) {
      const [got] = await runTwice(
        lowerTopk,
        [{ data: x, shape: [rows, cols] }],
        { k, largest: true },
        { shape: [rows, k], dtype: "i32" },
        { info },
      );
      const want: number[] = [];
      for (let r = 0; r < rows; r++) {
        const row = x.subarray(r * cols, (r + 1) * cols);
        for (const c of Array.from(row, (_, c) => c)
          .sort((a, b) => row[b] - row[a] || a - b)
          .slice(0, k))
          want.push(c);
      }
      expect(worstError(got, want)).toBe(0);
    }
  });

  test.each([
    [1, 1],
    [1, 2],
    [300, 7],
    [5, 129],
    [3, 1024],
    [1, 1025],
    [2, 5000],
    [70, 1500],
    [1, 300_000],
    [70_001, 3],
  ])("argsort of %i x %i", async (rows, cols) => {
    const floats = normals(rows * cols).map((v) => (v > 2.5 ? NaN : Math.round(20 * v) / 8)); // ties, -0 and NaN
    for (const x of [floats, Int32Array.from(floats, (v) => 1e8 * v), Uint32Array.from(floats, (v) => 1e9 * v)])
      for (const descending of [false, true]) {
        const spec = { shape: [rows, cols], dtype: "i32" as const };
        const [got] = await runTwice(lowerArgsort, [{ data: x, shape: [rows, cols] }], { descending }, spec, { info });
        const want = new Int32Array(x.length);
        const above = (v: number): number => (Number.isNaN(v) ? Infinity : v);
        for (let r = 0; r < rows; r++) {
          const row = x.subarray(r * cols, (r + 1) * cols);
          const sign = descending ? -1 : 1;
          const order = Array.from(row, (_, c) => c).sort((a, b) => sign * (above(row[a]) - above(row[b])) || a - b);
          want.set(order, r * cols);
        }
        expect(got).toEqual(want);
      }
  });

  test.each([
    [1, 1, 5],
    [3, 100, 40],
    [2, 0, 3],
    [1, 5000, 3000],
  ])("searchsorted of %i x %i, %i values", async (rows, length, cols) => {
    const sorted = new Float32Array(rows * length);
    for (let r = 0; r < rows; r++)
      sorted.set(
        normals(length, r + 1)
          .map((v) => Math.round(20 * v) / 8)
          .sort(),
        r * length,
      );
    const values = normals(rows * cols, 9).map((v) => Math.round(20 * v) / 8);
    for (const right of [false, true]) {
      const sources = [
        { data: sorted, shape: [rows, length] },
        { data: values, shape: [rows, cols] },
      ];
      const spec = { shape: [rows, cols], dtype: "i32" as const };
      const [got] = await runTwice(lowerSearchsorted, sources, { right }, spec, { info });
      const want = values.map((v, i) => {
        const row = sorted.subarray(Math.floor(i / cols) * length, (Math.floor(i / cols) + 1) * length);
        return row.filter((s) => s < v || (right && s === v)).length;
      });
      expect([...got]).toEqual([...want]);
    }
  });

  test("topk orders NaN, infinities and zeros as torch does", async () => {
    const data = Float32Array.of(-0, 1, -Infinity, NaN, 0, Infinity, -1, 0, -0);
    const [got] = await runTwice(
      lowerTopk,
      [{ data, shape: [1, 9] }],
      { k: 9, largest: true },
      { shape: [1, 9], dtype: "i32" },
      { info },
    );
    expect([...got]).toEqual([3, 5, 1, 0, 4, 7, 8, 6, 2]);
  });
});
