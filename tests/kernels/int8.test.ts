import { describe, expect, test } from "vitest";
import { kernelSource } from "../../kernels/index.ts";
import { specialize } from "../../src/compile/codegen/template.ts";
import type { QuantLayout } from "../../src/graph/quantization.ts";
import { lowerQuantizedMatmul } from "../../src/lowering/quantized.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { download, lowerOp, open, prepare, runTwice, submit, upload } from "./harness.ts";

/** The codes and scales that quantize_rows.wgsl gives. */
async function rounded(x: Float32Array, M: number, K: number, group: number) {
  const groups = Math.ceil(K / group);
  const vec = K % 4 === 0;
  const params = { VEC: vec, X: vec ? "vec4f" : "f32" };
  const code = specialize(kernelSource("quantize_rows"), { params });
  const [codes, scales] = [new Uint32Array((M * groups * group) / 4), new Float32Array(M * groups)];
  const out = [await upload(codes.fill(0xffffffff)), await upload(scales.fill(NaN))];
  const grid = [Math.ceil((M * groups) / 64), 1, 1] as const;
  await submit([await prepare(code, [M, K, groups, group / 4], [await upload(x), ...out], grid)]);
  return {
    codes: new Int8Array((await download(out[0], codes)).buffer),
    scales: await download(out[1], scales),
    groups,
  };
}

const shapes = [
  [1, 1],
  [3, 33],
  [5, 100],
  [17, 260],
] as const;

describe.each([32, 64, 128])("rows rounded to int8 in groups of %i", (group) => {
  test.each(shapes)("[%i, %i]: the nearest of 255 codes of the largest value", async (M, K) => {
    const x = normals(M * K, 1);
    if (K > group) x.fill(0, group, Math.min(K, 2 * group)); // a group of zeros
    const { codes, scales, groups } = await rounded(x, M, K, group);
    for (let m = 0; m < M; m++) {
      for (let g = 0; g < groups; g++) {
        const part = x.slice(m * K + g * group, m * K + Math.min(K, (g + 1) * group));
        const most = Math.max(...part.map(Math.abs));
        expect(scales[m * groups + g]).toBeCloseTo(most / 127, 6);
        const got = codes.subarray((m * groups + g) * group, (m * groups + g + 1) * group);
        for (let i = 0; i < group; i++) {
          const exact = i < part.length && most > 0 ? (part[i] / most) * 127 : 0;
          expect(Math.abs(got[i] - exact)).toBeLessThanOrEqual(0.5 + 1e-4);
        }
      }
    }
  });
});

/** Codes around 128 and scales of a weight [N, K], and what they stand for. */
function weight(N: number, K: number, group: number) {
  const groups = Math.ceil(K / group);
  const codes = new Uint8Array(N * groups * group).map((_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 24);
  const scaleOf = (i: number): number => ((i % 7) + 1) / 64; // exact in f16
  const bits = (i: number): number => (i < N * groups ? Math.log2(scaleOf(i)) : 0);
  const half = (i: number): number => {
    const e = Math.floor(bits(i));
    return ((e + 15) << 10) | ((scaleOf(i) / 2 ** e - 1) * 1024);
  };
  const scales = Uint32Array.from(
    { length: Math.ceil((N * groups) / 2) },
    (_, i) => half(2 * i) | (half(2 * i + 1) << 16),
  );
  const value = (n: number, k: number): number =>
    (codes[n * groups * group + k] - 128) * scaleOf(n * groups + Math.floor(k / group));
  return { packed: new Uint32Array(codes.buffer), scales, value };
}

const products = [
  [1, 37, 100, 32],
  [2, 8, 64, 64],
  [3, 5, 33, 32],
  [8, 40, 260, 128],
  [9, 33, 100, 32],
  [33, 7, 61, 64],
  [70, 36, 192, 64],
  [20, 12, 2080, 32],
] as const;

describe.each([{ dot4: true }, { dot4: false }, { dot4: true, subgroupSize: 0 }])(
  "int8 activations times int8 weights, %o",
  (wanted) => {
    test.each(products)("M %i N %i K %i, groups of %i", async (M, N, K, group) => {
      const { info: own } = await open();
      const info = { ...wanted, dot4: wanted.dot4 && own.dot4 };
      const x = normals(M * K, 1);
      const { codes, scales, groups } = await rounded(x, M, K, group);
      const w = weight(N, K, group);
      const want = new Float64Array(M * N);
      let largest = 0;
      for (let m = 0; m < M; m++)
        for (let n = 0; n < N; n++) {
          let size = 0;
          for (let k = 0; k < K; k++) {
            const term = codes[m * groups * group + k] * scales[m * groups + Math.floor(k / group)] * w.value(n, k);
            want[m * N + n] += term;
            size += Math.abs(term);
          }
          largest = Math.max(largest, size);
        }
      const sources = [
        { data: x, shape: [M, K] },
        { data: w.packed, shape: [N, w.packed.length / N] },
        { data: w.scales, shape: [w.scales.length] },
      ];
      const layout: QuantLayout = {
        format: "int8",
        group: group as 32,
        zeroPoint: false,
        activations: "int8",
        shape: [N, K],
      };
      const attrs = { ...layout, transposed: false };
      const spec = { shape: [M, N], dtype: "f32" as const };
      const used = new Set<string>();
      for (const candidate of [0, 1, 2, 3]) {
        const [got] = await runTwice(lowerQuantizedMatmul, sources, attrs, spec, { info, candidate });
        expect(worstError(got, want)).toBeLessThan(3e-7 * largest); // sums of integers are exact, those of groups round
        const { calls } = await lowerOp(lowerQuantizedMatmul, sources, attrs, spec, { info, candidate });
        expect(calls[0].kernel).toBe("quantize_rows");
        for (const { kernel } of calls.slice(1)) used.add(kernel);
      }
      if (M > 8 || info.subgroupSize === 0) expect(used).not.toContain("matvec_quantized");
      else if (own.subgroupSize > 0) expect(used).toContain("matvec_quantized");
      expect(used).toContain("matmul_int8");
      expect(used.has("sum_parts")).toBe(K > 2000);
    });
  },
);
