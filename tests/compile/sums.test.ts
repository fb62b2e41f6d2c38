import { beforeAll, describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/index.ts";
import { init, layerNorm, tensor } from "../../src/index.ts";
import { kernelLabels } from "../support/plans.ts";
import { normals } from "../support/random.ts";

let kind: DeviceInfo["kind"];
beforeAll(async () => {
  kind = (await init())!.kind;
});

test.each([
  [5, 8, 0, 5, ["sum_parts"]],
  [300, 1028, 0, 300, ["sum_parts"]],
  [300, 1028, 7, 100, [expect.stringMatching("sum.copy")]], // not from the first row on
  [31, 7, 0, 31, ["sum_parts"]],
] as const)("rows of %i x %i from %i, %i of them, add up as partial sums do", async (rows, N, from, count, kernels) => {
  const x = normals(rows * N);
  const sum = tensor(x, { shape: [rows, N] })
    .narrow(0, from, count)
    .sum(0);
  if (kind === "software") expect(await kernelLabels(sum)).toEqual(kernels);
  const got = await sum.data();
  for (let n = 0; n < N; n++) {
    let want = 0;
    for (let r = from; r < from + count; r++) want += x[r * N + n];
    expect(Math.abs(got[n] - want)).toBeLessThan(1e-6 * count);
  }
});

test.each([[1], [37], [512], [2047], [2048]])("%i numbers add up in one kernel, as exactly as in two", async (n) => {
  const x = normals(n).map((v) => 8 + Math.abs(v));
  const mean = tensor(x).sum(0, true).div(n);
  if (kind === "software") expect((await kernelLabels(mean)).length).toBe(n === 2047 ? 2 : 1);
  const want = x.reduce((a, b) => a + b, 0) / n;
  expect(Math.abs((await mean.data())[0] / want - 1)).toBeLessThan(1e-7);
});

test.each([[37], [512], [2048]])("the sum of %i numbers of one size rounds once", async (n) => {
  const x = normals(n).map((v) => 2 + Math.abs(v));
  const want = Math.fround(x.reduce((a, b) => a + b, 0));
  const got = (await tensor(x).sum().data())[0];
  if (kind === "software") expect(got).toBe(want);
  else expect(Math.abs(got / want - 1)).toBeLessThan(1e-6);
});

test.each([
  [[1, Infinity], Infinity],
  [[Infinity, -Infinity], NaN],
  [[-Infinity, 2], -Infinity],
  [[1, NaN], NaN],
])("%s among numbers sums to %d", async (some, want) => {
  const x = normals(512);
  x.set(some, 100);
  expect(await tensor(x).sum().item()).toBe(want);
});

test("a few numbers spread over more are computed there", async () => {
  const [x, y] = [tensor([2]), tensor(normals(512))];
  const spread = x.maximum(1).sqrt().exp().expand([512]).mul(y);
  expect((await kernelLabels(spread)).length).toBe(1);
  const large = tensor(normals(1024)).exp().sqrt().unsqueeze(1).expand([1024, 512]);
  expect((await kernelLabels(large.mul(2))).length).toBe(2);
});

/** Relative error of sums of like-signed data over `dim`. */
async function longError(shape: number[], dim: number, term: (i: number) => number): Promise<number> {
  const x = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => term(i));
  const got = await tensor(x, { shape }).sum(dim).data();
  const inner = shape.slice(dim + 1).reduce((a, b) => a * b, 1);
  const want = new Float64Array(got.length);
  for (let i = 0; i < x.length; i++) want[Math.floor(i / (shape[dim] * inner)) * inner + (i % inner)] += x[i];
  return Math.max(...want.map((w, i) => Math.abs(got[i] / w - 1)));
}

test.each([
  [[10_000_000], 0],
  [[3_333_333, 3], 0],
  [[3, 3_333_333], 1],
  [[100, 100_000], 0],
  [[77, 129_870], 1],
  [[100, 1000, 100], 1],
] as [number[], number][])(
  "ten million terms of one sign, %j over dim %i: relative error below 1e-6",
  async (shape, dim) => {
    expect(await longError(shape, dim, () => 0.1)).toBeLessThan(1e-6);
    expect(await longError(shape, dim, (i) => 1 + (i % 97) / 7)).toBeLessThan(1e-6);
  },
);

test("gradients that are sums over a million rows: relative error below 1e-6", async () => {
  const [N, C] = [1_000_000, 8];
  const x = Float32Array.from({ length: N * C }, (_, i) => (i % C) + (i % 7) * 0.1 + 0.3);
  const [w, b] = [tensor(new Float32Array(C).fill(1)), tensor(new Float32Array(C))].map((t) => t.requiresGrad_());
  layerNorm(tensor(x, { shape: [N, C] }), w, b)
    .mul(0.1)
    .sum()
    .backward();
  const want = new Float64Array(C);
  for (let r = 0; r < N; r++) {
    const row = Array.from(x.subarray(r * C, (r + 1) * C));
    const mean = row.reduce((a, v) => a + v) / C;
    const deviation = Math.sqrt(row.reduce((a, v) => a + (v - mean) ** 2, 0) / C + 1e-5);
    for (let c = 0; c < C; c++) want[c] += ((row[c] - mean) / deviation) * Math.fround(0.1);
  }
  const [dw, db] = [await w.grad!.data(), await b.grad!.data()];
  for (let c = 0; c < C; c++) {
    expect(Math.abs(dw[c] / want[c] - 1)).toBeLessThan(1e-6);
    expect(Math.abs(db[c] / (N * Math.fround(0.1)) - 1)).toBeLessThan(1e-6);
  }
});

describe("running totals of ten million elements", () => {
  const N = 10_000_000;
  const equal = (v: number): Float32Array => new Float32Array(N).fill(v);

  test.each([
    [[N], 0],
    [[2, N / 2], 1],
    [[N / 2, 2], 0],
  ] as [number[], number][])("sums of %j along %i", async (shape, dim) => {
    const y = await tensor(equal(0.1), { shape }).cumsum(dim).data();
    const [n, inner] = [shape[dim], shape.length - 1 === dim ? 1 : 2];
    let worst = 0;
    for (let i = 0; i < N; i++)
      worst = Math.max(worst, Math.abs(y[i] / (Math.fround(0.1) * (1 + (Math.floor(i / inner) % n))) - 1));
    expect(worst).toBeLessThan(1e-6);
  });

  test("products", async () => {
    const x = 1 + 2 ** -22;
    const y = await tensor(equal(x)).cumprod(0).data();
    let worst = 0;
    for (let i = 0; i < N; i += 997) worst = Math.max(worst, Math.abs(y[i] / x ** (i + 1) - 1));
    expect(worst).toBeLessThan(1e-6);
  });

  test("logarithms of sums of exponentials", async () => {
    const y = await tensor(equal(0)).logcumsumexp(0).data();
    let worst = 0;
    for (let i = 1; i < N; i += 997) worst = Math.max(worst, Math.abs(y[i] / Math.log(i + 1) - 1));
    expect(worst).toBeLessThan(1e-6);
  });

  test("positions of the largest and smallest elements", async () => {
    const x = Float32Array.from({ length: N }, (_, i) => (i % 3_000_001 === 0 ? i : -i));
    const [largest, smallest] = [await tensor(x).cummax(0).indices.data(), await tensor(x).cummin(0).indices.data()];
    for (let i = 0; i < N; i += 991) {
      expect(largest[i]).toBe(i - (i % 3_000_001));
      expect(smallest[i]).toBe(i % 3_000_001 === 0 && i > 0 ? i - 1 : i);
    }
  });
});

test("infinities and NaN in running totals stay", async () => {
  const x = tensor([1, Infinity, 2, -Infinity, 3]);
  expect([...(await x.cumsum(0).data())]).toEqual([1, Infinity, Infinity, NaN, NaN]);
  expect([...(await x.cumprod(0).data())]).toEqual([1, Infinity, Infinity, -Infinity, -Infinity]);
  expect([...(await x.logcumsumexp(0).data())]).toEqual([1, Infinity, Infinity, Infinity, Infinity]);
  const y = tensor([-Infinity, NaN, 1]);
  expect([...(await y.logcumsumexp(0).data())]).toEqual([-Infinity, NaN, NaN]);
  expect([...(await y.cumprod(0).data())]).toEqual([-Infinity, NaN, NaN]);
});
