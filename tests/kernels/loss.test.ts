import { describe, expect, test } from "vitest";
import { lowerCrossEntropy, lowerCrossEntropyBackward } from "../../src/lowering/loss.ts";
import type { DeviceInfo } from "../../src/runtime/device.ts";
import { maxError, normals, runTwice } from "./harness.ts";

const spec = (shape: number[]) => ({ shape, dtype: "f32" as const });

function reference(x: Float32Array, target: Int32Array, g: Float32Array, ignoreIndex: number, s: number) {
  const cols = x.length / target.length;
  const [loss, dx] = [new Float64Array(target.length), new Float64Array(x.length)];
  for (let r = 0; r < target.length; r++) {
    if (target[r] === ignoreIndex) continue;
    const row = x.subarray(r * cols, (r + 1) * cols);
    const high = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = row.reduce((a, b) => a + Math.exp(b - high), 0);
    const lse = high + Math.log(sum);
    loss[r] = (1 - s) * (lse - row[target[r]]) + (s === 0 ? 0 : s * (lse - row.reduce((a, b) => a + b, 0) / cols));
    for (let c = 0; c < cols; c++)
      dx[r * cols + c] = g[r] * (Math.exp(row[c] - lse) - s / cols - (c === target[r] ? 1 - s : 0));
  }
  return { loss, dx };
}

async function check(
  x: Float32Array,
  target: Int32Array,
  attrs: { ignoreIndex: number; labelSmoothing: number },
  info: Partial<DeviceInfo>,
  tolerance = 2e-6,
) {
  const rows = target.length;
  const cols = x.length / rows;
  const g = normals(rows, 5);
  const [X, T] = [
    { data: x, shape: [rows, cols] },
    { data: target, shape: [rows] },
  ];
  const want = reference(x, target, g, attrs.ignoreIndex, attrs.labelSmoothing);
  const [loss] = await runTwice(lowerCrossEntropy, [X, T], attrs, spec([rows]), { info });
  expect(maxError(loss, want.loss)).toBeLessThan(tolerance);
  const [dx] = await runTwice(
    lowerCrossEntropyBackward,
    [{ data: g, shape: [rows] }, X, T],
    attrs,
    spec([rows, cols]),
    { info },
  );
  expect(maxError(dx, want.dx)).toBeLessThan(tolerance);
}

describe.each<[string, Partial<DeviceInfo>]>([
  ["software", {}],
  ["discrete", { kind: "discrete" }],
])("%s schedule", (_, info) => {
  test.each([
    [1, 1],
    [3, 5],
    [17, 13],
    [16, 8],
    [300, 10],
    [2, 1001],
    [37, 260],
    [1, 50_000],
    [70_001, 3],
  ])("%i x %i", async (rows, cols) => {
    const target = Int32Array.from({ length: rows }, (_, r) => (r * 7919) % cols);
    for (let r = 2; r < rows; r += 3) target[r] = -100;
    for (const labelSmoothing of [0, 0.1])
      await check(
        normals(rows * cols).map((v) => 4 * v),
        target,
        { ignoreIndex: -100, labelSmoothing },
        info,
      );
  });

  test("ignoring a class, all rows, and rows that are not numbers", async () => {
    const x = normals(4 * 6);
    x.fill(NaN, 6, 12);
    await check(x, Int32Array.of(0, 5, 2, 5), { ignoreIndex: 5, labelSmoothing: 0 }, info);
    await check(x, Int32Array.of(-1, -1, -1, -1), { ignoreIndex: -1, labelSmoothing: 0.2 }, info);
  });

  test("logits far apart, and masked classes", async () => {
    const x = Float32Array.of(1e4, 0, -1e4, 3, -Infinity, 2, -Infinity, 1, 88, 89, 90, -88);
    await check(x, Int32Array.of(0, 1, 2), { ignoreIndex: -100, labelSmoothing: 0 }, info);
  });

  test("a target that is no class gives NaN, not a number", async () => {
    const sources = [
      { data: normals(20), shape: [2, 10] },
      { data: Int32Array.of(10, -3), shape: [2] },
    ];
    const attrs = { ignoreIndex: -100, labelSmoothing: 0 };
    const [loss] = await runTwice(lowerCrossEntropy, sources, attrs, spec([2]), { info });
    const [dx] = await runTwice(
      lowerCrossEntropyBackward,
      [{ data: normals(2), shape: [2] }, ...sources],
      attrs,
      spec([2, 10]),
      { info },
    );
    expect([...loss, ...dx].every(Number.isNaN)).toBe(true);
  });
});
