import { beforeAll, describe, expect, test } from "vitest";
import { toHalf } from "../../src/graph/dtype.ts";
import { explain, type Tensor, tensor } from "../../src/index.ts";
import { lowerQuantizedMatmul } from "../../src/lowering/quantized.ts";
import { dequantize, quantize, quantizedLinear } from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { product, view } from "../support/reference.ts";
import { lowerOp, runTwice } from "./harness.ts";

test.each([
  ["int8", 1, false],
  ["int4", 2, true],
  ["nf4", 3, false],
  ["int4", 4, false],
  ["int8", 7, true],
] as const)("%s weights times %i rows in the schedule of a discrete adapter", async (format, M, zeroPoint) => {
  await init({ backend: "webgpu" });
  for (const [N, K] of [
    [13, 100],
    [40, 576],
  ]) {
    const options = { format, group: 32, zeroPoint } as const;
    const q = quantize(normals(N * K, 3), [N, K], options);
    const dense = await dequantize(q).t().mul(1).data();
    const bits = Array.from(await q.scales.data(), toHalf);
    const scales = Uint32Array.from(
      { length: Math.ceil(bits.length / 2) },
      (_, i) => bits[2 * i] | ((bits[2 * i + 1] ?? 0) << 16),
    );
    const x = normals(M * K, 4);
    const sources = [
      { data: x, shape: [M, K] },
      { data: Uint32Array.from(await q.packed.data()), shape: q.packed.shape },
      { data: scales, shape: [scales.length] },
    ];
    const attrs = { ...q.layout, transposed: false };
    const spec = { shape: [M, N], dtype: "f32" as const };
    const info = { kind: "discrete" as const };
    for (const candidate of [0, 1, 2]) {
      const [got] = await runTwice(lowerQuantizedMatmul, sources, attrs, spec, { info, candidate });
      expect(worstError(got, product(view(x, M, K), view(dense, K, N)))).toBeLessThan(1e-6 * (1 + Math.sqrt(K)));
    }
    const { calls } = await lowerOp(lowerQuantizedMatmul, sources, attrs, spec, { info });
    expect(calls.map((c) => c.kernel)).toEqual(["matvec_quantized"]);
  }
});

const half = async (data: Float32Array, shape: number[]): Promise<Tensor> => {
  const t = tensor(data, { shape, dtype: "f16" });
  return tensor(await t.data(), { shape, dtype: "f16" });
};

describe.each([{}, { disable: ["subgroups"] as const }])("operands as they are stored, %o", (options) => {
  beforeAll(async () => {
    await init({ backend: "webgpu", ...options });
  });

  test.each([
    [1, 40, 96],
    [1, 7, 33],
    [5, 12, 36],
    [17, 33, 5],
    [20, 64, 64],
  ])("halves on either side, M %i N %i K %i", async (M, N, K) => {
    const [x, y] = [normals(M * K, 1), normals(K * N, 2)];
    const [a, b] = [tensor(x, { shape: [M, K] }), tensor(y, { shape: [K, N] })];
    const [ah, bh, bt] = [await half(x, [M, K]), await half(y, [K, N]), await half(y, [N, K])];
    const [xh, yh, yt] = [await ah.data(), await bh.data(), await bt.t().data()];
    const bound = 1e-6 * (1 + Math.sqrt(K));
    expect(worstError(await a.matmul(bh).data(), product(view(x, M, K), view(yh, K, N)))).toBeLessThan(bound);
    expect(worstError(await ah.matmul(b).data(), product(view(xh, M, K), view(y, K, N)))).toBeLessThan(bound);
    expect(worstError(await a.matmul(bt.t()).data(), product(view(x, M, K), view(yt, K, N)))).toBeLessThan(bound);
    const both = await ah.matmul(bh.float()).data();
    expect(worstError(both, product(view(xh, M, K), view(yh, K, N)))).toBeLessThan(bound);
    expect(worstError(await ah.matmul(bh).data(), product(view(xh, M, K), view(yh, K, N)))).toBeLessThan(2e-3); // rounded to f16
  });

  test("halves are not widened before the product", async () => {
    const w = await half(normals(64 * 32), [32, 64]);
    const x = tensor(normals(12 * 64), { shape: [12, 64] });
    await w.mul(1).data();
    expect(await explain(x.matmul(w.t()))).toContain("1 kernels");
  });

  test("gradients have the dtype of their tensors", async () => {
    const w = (await half(normals(24), [6, 4])).requiresGrad_();
    const x = tensor(normals(18), { shape: [3, 6] }).requiresGrad_();
    x.matmul(w).sum().backward();
    expect([x.grad!.dtype, w.grad!.dtype]).toEqual(["f32", "f16"]);
    const columns = await x.sum(0).data();
    expect(worstError(await w.grad!.select(1, 2).data(), columns)).toBeLessThan(2e-3);
  });

  test("elementwise work after a packed product fuses as its epilogue", async () => {
    const q = quantize(normals(24 * 64), [24, 64], { format: "int4", group: 32 });
    await Promise.all([q.packed.data(), q.scales.data()]);
    for (const M of [1, 12]) {
      const x = tensor(normals(M * 64), { shape: [M, 64] });
      const [bias, gate] = [tensor(normals(24)), tensor(normals(M * 24), { shape: [M, 24] })];
      const y = quantizedLinear(x, q, bias).silu().mul(gate).add(gate);
      expect(await explain(y)).toMatch(/^ +0 +(matvec_quantized|matmul\w*)→[\s\S]*\n1 kernels/);
      const dense = quantizedLinear(x, q).mul(1).add(bias).silu().mul(gate).add(gate);
      expect(worstError(await y.data(), await dense.data())).toBeLessThan(1e-5);
    }
  });
});
