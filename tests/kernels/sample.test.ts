import { describe, expect, test } from "vitest";
import { lowerSample } from "../../src/lowering/sample.ts";
import { sampleOp } from "../../src/ops/sample.ts";
import { normals } from "../support/random.ts";
import { runTwice } from "./harness.ts";

const OFF = { temperature: 1, topK: 0, topP: 1, minP: 0 };
type Params = typeof OFF;
const info = { software: { kind: "software" }, discrete: { kind: "discrete" } } as const;

async function draw(
  logits: Float32Array,
  rows: number,
  params: Params[],
  uniform: number[],
  kind: keyof typeof info,
): Promise<number[]> {
  const V = logits.length / rows;
  const values = Float32Array.from(params.flatMap((p) => [p.temperature, p.topK, p.topP, p.minP]));
  const sources = [
    { data: logits, shape: [rows, V] },
    { data: values, shape: [params.length, 4] },
    { data: Float32Array.from(uniform), shape: [rows] },
  ];
  const [ids] = await runTwice(lowerSample, sources, {}, { shape: [rows], dtype: "i32" }, { info: info[kind] });
  return [...ids];
}

/** The ids that may be drawn, with their shares, from the f64 definition: a fine sweep of the uniform. */
function reference(logits: Float32Array, p: Params, uniform: number): number {
  const f64 = (data: ArrayLike<number>, shape: number[]) => ({
    data: Float64Array.from(data),
    shape,
    dtype: "f32" as const,
  });
  const x = [
    f64(logits, [1, logits.length]),
    f64([p.temperature, p.topK, p.topP, p.minP], [1, 4]),
    f64([uniform], [1]),
  ];
  const out = sampleOp.reference!(x, {}, { shape: [1], dtype: "i32" } as never);
  return (Array.isArray(out) ? out[0] : out).data[0];
}

for (const kind of ["software", "discrete"] as const) {
  describe(`sample, schedule for ${kind}`, () => {
    const sweep = async (logits: Float32Array, p: Params, rows = 101): Promise<void> => {
      const uniform = Array.from({ length: rows }, (_, i) => (i + 0.37) / rows);
      const repeated = new Float32Array(rows * logits.length);
      for (let i = 0; i < rows; i++) repeated.set(logits, i * logits.length);
      const got = await draw(repeated, rows, [p], uniform, kind);
      const want = uniform.map((u) => reference(logits, p, Math.fround(u)));
      const wrong = want.filter((id, i) => id !== got[i]).length;
      expect(wrong, `${got.slice(0, 12)} against ${want.slice(0, 12)}`).toBe(0);
    };

    test("all ids", () => sweep(normals(37, 1), OFF));
    test("one id", () => sweep(normals(1, 1), { ...OFF, topK: 1, topP: 0.5 }, 3));
    test("temperature", () => sweep(normals(300, 2), { ...OFF, temperature: 0.2 }));
    test("top-k", () => sweep(normals(300, 3), { ...OFF, topK: 7 }));
    test("top-k beyond V", () => sweep(normals(20, 3), { ...OFF, topK: 50 }));
    test("top-k keeps equal logits", () => sweep(Float32Array.of(1, 3, 2, 2, 2, 0, -1), { ...OFF, topK: 3 }));
    test("top-p", () => sweep(normals(300, 4), { ...OFF, topP: 0.6 }));
    test("top-p keeps the first of equal logits", () =>
      sweep(Float32Array.of(0, 2, 1, 1, 1, 1, 1, 0, -3), { ...OFF, topP: 0.62 }));
    test("top-p of next to nothing keeps one", () => sweep(normals(50, 5), { ...OFF, topP: 1e-9 }, 5));
    test("min-p", () => sweep(normals(300, 6), { ...OFF, minP: 0.1 }));
    test("all at once", () => sweep(normals(1000, 7), { temperature: 0.8, topK: 50, topP: 0.9, minP: 0.05 }));
    test("suppressed ids are never drawn", () =>
      sweep(
        normals(64, 8).map((x, i) => (i % 3 ? -Infinity : x)),
        { ...OFF, topP: 0.99 },
      ));

    test("temperature 0: the first largest", async () => {
      const logits = normals(2 * 500, 9);
      logits[77] = logits[490] = 9;
      logits[500 + 499] = 9;
      expect(await draw(logits, 2, [{ ...OFF, temperature: 0 }], [0.9, 0.1], kind)).toEqual([77, 499]);
    });

    test("a large vocabulary, parameters by row", async () => {
      const V = 200_000;
      const logits = normals(2 * V, 10).map((x) => 3 * x);
      const params = [
        { ...OFF, temperature: 0.7, topK: 40 },
        { ...OFF, topP: 0.3 },
      ];
      const got = await draw(logits, 2, params, [0.31, 0.87], kind);
      expect(got[0]).toBe(reference(logits.subarray(0, V), params[0], Math.fround(0.31)));
      // Nearly flat: f32 and f64 sums of thousands of kept ids may disagree on which id the draw falls on, not on where.
      expect(Math.abs(got[1] - reference(logits.subarray(V), params[1], Math.fround(0.87)))).toBeLessThan(V / 200);
    });

    test("a uniform just below 1 stays inside", async () => {
      const got = await draw(normals(33, 11), 1, [{ ...OFF, topK: 5 }], [1 - 2 ** -24], kind);
      expect(got[0]).toBe(reference(normals(33, 11), { ...OFF, topK: 5 }, 1 - 2 ** -24));
    });
  });
}
