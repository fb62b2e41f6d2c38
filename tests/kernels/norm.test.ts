import { describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import { lowerLayerNorm, lowerLayerNormBackward, lowerRmsNorm, lowerRmsNormBackward } from "../../src/lowering/rows.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { norm, normGradients } from "../support/reference.ts";
import { lowerOp, runTwice, submit } from "./harness.ts";

const eps = 1e-5;
const spec = (shape: number[]) => ({ shape, dtype: "f32" as const });

const shapes = [
  [1, 1],
  [3, 5],
  [1, 7],
  [17, 13],
  [16, 8],
  [37, 64],
  [200, 129],
  [2, 1000],
  [1, 50_000],
  [5, 4096],
  [1000, 16],
  [70_001, 3],
];
const norms = [
  { name: "layer norm", center: true, forward: lowerLayerNorm, backward: lowerLayerNormBackward },
  { name: "rms norm", center: false, forward: lowerRmsNorm, backward: lowerRmsNormBackward },
];

/** Gradients with barriers compile for seconds on a software adapter: shapes for each width and number of invocations per row. */
const fewShapes = [
  [3, 5],
  [37, 64],
  [200, 129],
  [2, 1000],
];

describe.each<[string, Partial<DeviceInfo>, number[][]]>([
  ["software", {}, shapes],
  ["discrete", { kind: "discrete" }, fewShapes],
])("%s schedule", (_, info, backwardShapes) => {
  describe.each(norms)("$name", ({ center, forward, backward }) => {
    test.each(shapes)("forward of %i x %i", async (rows, cols) => {
      const x = normals(rows * cols).map((v) => 3 * v + 1);
      const [weight, bias] = [normals(cols, 2), normals(cols, 3)];
      const X = { data: x, shape: [rows, cols] };
      const sources = [X, { data: weight, shape: [cols] }, { data: bias, shape: [cols] }];
      for (let count = 1; count <= 3; count++) {
        const [y] = await runTwice(forward, sources.slice(0, count), { eps }, spec([rows, cols]), { info });
        const want = norm(x, {
          cols,
          eps,
          center,
          weight: count > 1 ? weight : undefined,
          bias: count > 2 ? bias : undefined,
        }).y;
        // With three columns a row may have nearly equal values: its rounding is then scaled up by 1 / sqrt(eps).
        expect(worstError(y, want)).toBeLessThan(cols < 8 ? 1e-4 : 2e-6);
      }
    });

    test("long rows are right to a few units in the last place", async () => {
      const [rows, cols] = [67, 16_384];
      const x = normals(rows * cols, 9);
      const [y] = await runTwice(forward, [{ data: x, shape: [rows, cols] }], { eps }, spec([rows, cols]), { info });
      const want = norm(x, { cols, eps, center }).y;
      const worst = want.reduce((w, e, i) => Math.max(w, Math.abs(y[i] - e) / Math.max(1, Math.abs(e))), 0);
      expect(worst).toBeLessThan(3e-7); // one chain of additions per invocation: 7e-7
    });

    test.each(backwardShapes)("backward of %i x %i", async (rows, cols) => {
      const [g, x, weight] = [normals(rows * cols, 4), normals(rows * cols), normals(cols, 2)];
      const sources = [
        { data: g, shape: [rows, cols] },
        { data: x, shape: [rows, cols] },
        { data: weight, shape: [cols] },
      ];
      const forms = [
        [3, 3],
        [3, 1],
        [2, 1],
        [3, 2],
      ];
      for (const [count, outputs] of forms.slice(0, backwardShapes === shapes ? 4 : 1)) {
        const specs = [spec([rows, cols]), spec([cols]), spec([cols])].slice(0, outputs);
        const got = await runTwice(backward, sources.slice(0, count), { eps }, specs, { info });
        const want = normGradients(g, x, { cols, eps, center, weight: count > 2 ? weight : undefined });
        expect(worstError(got[0], want[0])).toBeLessThan(cols < 8 ? 0.02 : 1e-5); // as above, with the square of the scale
        for (let i = 1; i < outputs; i++)
          expect(worstError(got[i], want[i])).toBeLessThan(1e-6 * (1 + Math.sqrt(rows)));
      }
    });

    test("a mean far from zero costs no digits", async () => {
      const x = normals(20 * 96).map((v) => v + 1000);
      const [y] = await runTwice(forward, [{ data: x, shape: [20, 96] }], { eps }, spec([20, 96]), { info });
      expect(worstError(y, norm(x, { cols: 96, eps, center }).y)).toBeLessThan(2e-4); // the mean itself rounds to 6e-5; one-pass variance is wrong by 0.1
    });

    test("an epilogue sees row and column", async () => {
      const epilogue = {
        hooks: { epilogue: "return value * 0.0 + f32(i.y) * 100.0 + vec4f(vec4u(i.z) + vec4u(0u, 1u, 2u, 3u));" },
      };
      const op = await lowerOp(forward, [{ data: normals(240), shape: [20, 12] }], { eps }, spec([20, 12]), {
        epilogue,
        info,
      });
      await submit(op.dispatches);
      expect(
        worstError(
          await op.read(),
          Float64Array.from({ length: 240 }, (_, i) => Math.floor(i / 12) * 100 + (i % 12)),
        ),
      ).toBe(0);
    });
  });
});
