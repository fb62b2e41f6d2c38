import { describe, expect, test } from "vitest";
import { attentionSteps, matmulDims, matmulSteps, pad4, type Step } from "../../kernels/ladder/index.ts";
import { specialize } from "../../src/compile/codegen/template.ts";
import { floatBits } from "../../src/graph/dtype.ts";
import { list } from "../style/files.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { attention, product, view } from "../support/reference.ts";
import { download, open, prepare, submit, upload } from "./harness.ts";

test("every file of the ladder is a step, in order", () => {
  const files = list("kernels/ladder", /\.wgsl$/).map((path) => path.split("/").at(-1)!.slice(0, -5));
  expect([...attentionSteps, ...matmulSteps].map((s) => s.name)).toEqual(files);
});

/** Runs a step twice and expects the same bits. */
async function run(step: Step, dims: number[], inputs: Float32Array[], count: number, rows: number, columns: number) {
  const SG = (await open()).info.subgroupSize;
  if (step.subgroups && SG === 0) return undefined;
  const code = specialize(step.code, { params: step.subgroups ? { SG } : {} });
  const [high, wide] = step.tile(SG);
  const grid = [Math.ceil(columns / wide), Math.ceil(rows / high), 1] as const;
  const results = [0, 1].map(() => new Float32Array(count));
  for (const result of results) {
    const out = await upload(new Float32Array(count).fill(NaN));
    const transposed = step.name.startsWith("attention") ? ([grid[1], grid[0], 1] as const) : grid;
    await submit([await prepare(code, dims, [...(await Promise.all(inputs.map((x) => upload(x)))), out], transposed)]);
    await download(out, result);
  }
  expect(new Uint32Array(results[0].buffer)).toEqual(new Uint32Array(results[1].buffer));
  return results[0];
}

describe.each(matmulSteps)("$name", (step) => {
  test.for([
    [1, 1, 1],
    [7, 5, 3],
    [17, 33, 65],
    [64, 64, 64],
    [37, 130, 29],
  ])("M %i N %i K %i", async ([M, N, K], { skip }) => {
    const padded = (rows: number, columns: number, seed: number, room: number): Float32Array => {
      const x = normals(rows * columns, seed);
      const out = new Float32Array(room * pad4(columns));
      for (let r = 0; r < rows; r++) out.set(x.subarray(r * columns, (r + 1) * columns), r * pad4(columns));
      return out;
    };
    const [a, b] = [padded(M, K, 1, M), padded(K, N, 2, pad4(K))];
    const got = await run(step, matmulDims(M, N, K), [a, b], M * pad4(N), M, N);
    if (!got) return skip("no fixed subgroup size");
    const want = product(
      { data: a, shape: [M, K], strides: [pad4(K), 1] },
      { data: b, shape: [K, N], strides: [pad4(N), 1] },
    );
    const values = want.map((_, i) => got[Math.floor(i / N) * pad4(N) + (i % N)]);
    expect(worstError(values, want)).toBeLessThan(1e-6 * (1 + Math.sqrt(K)));
  });
});

describe.each(attentionSteps)("$name", (step) => {
  test.for([
    [1, 1, 1, 4, 0],
    [2, 7, 5, 8, 0],
    [1, 33, 33, 20, 1],
    [3, 17, 41, 12, 0],
    [2, 70, 70, 64, 1],
    [1, 40, 13, 16, 1],
  ])("H %i T %i S %i D %i causal %i", async ([H, T, S, D, causal], { skip }) => {
    const [q, k, v] = [normals(H * T * D, 1), normals(H * S * D, 2), normals(H * S * D, 3)];
    const scale = 1 / Math.sqrt(D);
    const got = await run(step, [T, S, D / 4, causal, floatBits(scale)], [q, k, v], H * T * D, T, H);
    if (!got) return skip("no fixed subgroup size");
    const [Q, KV] = [
      [1, H, T, D],
      [1, H, S, D],
    ];
    const visible = (_b: number, _h: number, t: number, s: number): boolean => causal === 0 || s <= t;
    const want = attention({ q: view(q, ...Q), k: view(k, ...KV), v: view(v, ...KV), scale, visible }).o;
    expect(worstError(got, want)).toBeLessThan(3e-6);
  });
});
