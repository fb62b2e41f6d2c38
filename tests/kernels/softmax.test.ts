import { describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import {
  lowerLogSoftmax,
  lowerLogSoftmaxBackward,
  lowerSoftmax,
  lowerSoftmaxBackward,
} from "../../src/lowering/rows.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { softmax, softmaxGradient } from "../support/reference.ts";
import { lowerOp, runTwice, submit } from "./harness.ts";

const spec = (shape: number[]) => ({ shape, dtype: "f32" as const });

const shapes = [
  [1, 1],
  [3, 1],
  [1, 7],
  [5, 13],
  [16, 8],
  [37, 64],
  [40, 129],
  [2, 1000],
  [1, 50_000],
  [17, 4],
  [70_001, 3],
  [600_000, 4],
];

describe.each<[string, Partial<DeviceInfo>]>([
  ["software", {}],
  ["discrete", { kind: "discrete" }],
])("%s schedule", (_, info) => {
  test.each(shapes)("softmax and log-softmax of %i x %i", async (rows, cols) => {
    const x = normals(rows * cols).map((v) => 5 * v);
    for (const log of [false, true]) {
      const [y] = await runTwice(
        log ? lowerLogSoftmax : lowerSoftmax,
        [{ data: x, shape: [rows, cols] }],
        {},
        spec([rows, cols]),
        { info },
      );
      expect(worstError(y, softmax(x, cols, log))).toBeLessThan(1e-6);
      const g = normals(rows * cols, 2);
      const sources = [
        { data: g, shape: [rows, cols] },
        { data: y, shape: [rows, cols] },
      ];
      const [dx] = await runTwice(
        log ? lowerLogSoftmaxBackward : lowerSoftmaxBackward,
        sources,
        {},
        spec([rows, cols]),
        { info },
      );
      expect(worstError(dx, softmaxGradient(g, y, cols, log))).toBeLessThan(log ? 1e-5 : 1e-6); // log: the sum of g cancels
    }
  });

  test("long rows are right to a few units in the last place", async () => {
    const [rows, cols] = [257, 4096];
    const x = normals(rows * cols, 7);
    const [y] = await runTwice(lowerSoftmax, [{ data: x, shape: [rows, cols] }], {}, spec([rows, cols]), { info });
    const want = softmax(x, cols, false);
    const [worst, largest] = [
      want.reduce((w, e, i) => Math.max(w, Math.abs(y[i] - e)), 0),
      want.reduce((w, e) => Math.max(w, e), 0),
    ];
    expect(worst / largest).toBeLessThan(1.5e-7); // an online normaliser in one chain of additions: 4e-7
    const sums = Array.from({ length: rows }, (_, r) => {
      let sum = 0;
      for (let c = r * cols; c < (r + 1) * cols; c++) sum += y[c];
      return sum;
    });
    expect(worstError(sums, new Array(rows).fill(1))).toBeLessThan(5e-7);
  });

  test("NaN spoils its row alone; values far below the largest are exactly 0", async () => {
    const x = Float32Array.from([1, NaN, 3, 4, 0, -104, -88.5, -1e30, 0, -86, -1, -2]);
    const [y] = await runTwice(lowerSoftmax, [{ data: x, shape: [3, 4] }], {}, spec([3, 4]), { info });
    expect(Array.from(y.subarray(0, 4), Number.isNaN)).toEqual([true, true, true, true]);
    expect(Array.from(y.subarray(4, 8))).toEqual([1, 0, 0, 0]);
    expect(y[9] / Math.fround(Math.exp(-86) / (1 + Math.exp(-1) + Math.exp(-2)))).toBeCloseTo(1, 5);
  });

  test("large values, and masked entries before and after others", async () => {
    const I = -Infinity;
    const x = Float32Array.from([1e30, 1e30, -1e30, 0, I, I, 3, 4, 2, I, I, I, -3e38, -3e38, I, -3e38]);
    for (const log of [false, true]) {
      const [y] = await runTwice(log ? lowerLogSoftmax : lowerSoftmax, [{ data: x, shape: [4, 4] }], {}, spec([4, 4]), {
        info,
      });
      expect(worstError(y, softmax(x, 4, log))).toBeLessThan(1e-6);
    }
  });

  test("a row of -inf alone is NaN, as in torch", async () => {
    const [y] = await runTwice(
      lowerSoftmax,
      [{ data: new Float32Array(8).fill(-Infinity), shape: [2, 4] }],
      {},
      spec([2, 4]),
      { info },
    );
    expect(y.every(Number.isNaN)).toBe(true);
  });

  test("an epilogue sees row and column", async () => {
    for (const [rows, cols] of [
      [20, 12],
      [20, 7],
      [3, 40],
    ]) {
      const lanes = cols % 4 ? "f32(i.z)" : "vec4f(vec4u(i.z) + vec4u(0u, 1u, 2u, 3u))";
      const epilogue = { hooks: { epilogue: `return value * 0.0 + f32(i.y) * 100.0 + ${lanes};` } };
      const op = await lowerOp(
        lowerSoftmax,
        [{ data: normals(rows * cols), shape: [rows, cols] }],
        {},
        spec([rows, cols]),
        { epilogue, info },
      );
      await submit(op.dispatches);
      expect(
        worstError(
          await op.read(),
          Float64Array.from({ length: rows * cols }, (_, i) => Math.floor(i / cols) * 100 + (i % cols)),
        ),
      ).toBe(0);
    }
  });
});
