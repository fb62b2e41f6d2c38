import { describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import { lowerCrossEntropy, lowerCrossEntropyBackward } from "../../src/lowering/loss.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { crossEntropy } from "../support/reference.ts";
import { runTwice } from "./harness.ts";

const spec = (shape: number[]) => ({ shape, dtype: "f32" as const });

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
  const want = crossEntropy(x, target, g, attrs.ignoreIndex, attrs.labelSmoothing);
  const [loss] = await runTwice(lowerCrossEntropy, [X, T], attrs, spec([rows]), { info });
  expect(worstError(loss, want.loss)).toBeLessThan(tolerance);
  const [dx] = await runTwice(
    lowerCrossEntropyBackward,
    [{ data: g, shape: [rows] }, X, T],
    attrs,
    spec([rows, cols]),
    { info },
  );
  expect(worstError(dx, want.dx)).toBeLessThan(tolerance);
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
