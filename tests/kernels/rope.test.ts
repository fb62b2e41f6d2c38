import { expect, test } from "vitest";
import { lowerRope } from "../../src/lowering/rope.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { at } from "../support/reference.ts";
import { runTwice, type Source } from "./harness.ts";

interface Case {
  shape: [number, number, number, number];
  theta?: number;
  /** First position; later ones follow, `step` apart. */
  start?: number;
  step?: number;
  perSample?: boolean;
  inverse?: boolean;
  info?: { kind: "software" | "discrete" };
}

async function check({
  shape: [B, H, T, D],
  theta = 10_000,
  start = 0,
  step = 1,
  perSample = false,
  inverse = false,
  info,
}: Case): Promise<void> {
  const x: Source = {
    data: normals(B * H * T * D + 8),
    shape: [B, H, T, D],
    offset: 8,
    strides: [T * H * D, D, H * D, 1],
  };
  const count = perSample ? B * T : T;
  const positions = Int32Array.from({ length: count }, (_, i) => start + i * step);
  const frequencies = Float32Array.from({ length: D / 2 }, (_, i) => theta ** ((-2 * i) / D));
  const sources = [x, { data: positions, shape: perSample ? [B, T] : [T] }, { data: frequencies, shape: [D / 2] }];
  const want = new Float64Array(B * H * T * D);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let t = 0; t < T; t++)
        for (let i = 0; i < D / 2; i++) {
          const angle = positions[(perSample ? b * T : 0) + t] * frequencies[i] * (inverse ? -1 : 1);
          const [first, second] = [at(x, b, h, t, i), at(x, b, h, t, i + D / 2)];
          const row = ((b * H + h) * T + t) * D;
          want[row + i] = first * Math.cos(angle) - second * Math.sin(angle);
          want[row + i + D / 2] = second * Math.cos(angle) + first * Math.sin(angle);
        }
  const [y] = await runTwice(lowerRope, sources, { inverse }, { shape: [B, H, T, D], dtype: "f32" }, { info });
  expect(worstError(y, want)).toBeLessThan(1e-6);
}

test("prompt, shared positions, permuted operand", () => check({ shape: [2, 3, 7, 32] }));
test("one token of each sample, per-sample positions", () =>
  check({ shape: [3, 4, 1, 64], start: 17, step: 990, perSample: true }));
test("gradient: the inverse rotation", () => check({ shape: [1, 2, 5, 20], start: 3, inverse: true }));
test("positions of a few thousand", () => check({ shape: [1, 1, 64, 128], start: 4000, step: 61 }));
test("positions of a million, small and negative ones", () =>
  check({ shape: [1, 1, 65, 64], theta: 500_000, start: -1_000_000, step: 31_337 }));
test("frequencies above 1", () => check({ shape: [1, 1, 33, 8], theta: 0.001, start: 5000, step: 77 }));
test("heads in chunks, as on a real GPU", () => check({ shape: [2, 7, 3, 16], info: { kind: "discrete" } }));
