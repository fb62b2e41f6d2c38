/** matmul_workgroup.wgsl through the engine, as on a GPU: formats, and work before and behind it. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { init, plan, type Tensor, tensor } from "../../src/index.ts";
import { dequantize, quantize, quantizedLinear } from "../../src/nn/index.ts";
import { currentDevice } from "../../src/runtime/engine.ts";
import { maxError, normals, product } from "./harness.ts";

const [M, N, K] = [37, 36, 96];
const x = normals(M * K, 1);
const y = normals(K * N, 2);
let kind: string;
beforeAll(async () => {
  const info = (await init({ backend: "webgpu", fuse: "always" }))!;
  kind = info.kind;
  Object.assign(currentDevice()!.info, { kind: "discrete" });
});
afterAll(() => void Object.assign(currentDevice()!.info, { kind }));

const [a, b] = [() => tensor(x, { shape: [M, K] }), () => tensor(y, { shape: [K, N] })];
const half = async (t: Tensor): Promise<Tensor> => {
  const rounded = t.half();
  return tensor(await rounded.data(), { shape: t.shape, dtype: "f16" });
};
/** Values of one kernel that is a product in workgroup memory, with `name` in its label. */
async function values(out: Tensor, name = ""): Promise<ArrayLike<number>> {
  const { kernels, text } = (await plan(out))!;
  expect(kernels).toBe(1);
  expect(text).toContain("matmul_workgroup");
  expect(text).toContain(name);
  return out.data();
}

test("halves on either side", async () => {
  const [ah, bh] = [await half(a()), await half(b())];
  const [xh, yh] = [await ah.data(), await bh.data()];
  expect(maxError(await values(a().matmul(bh)), product(x, yh, M, N, K))).toBeLessThan(1e-5);
  expect(maxError(await values(ah.matmul(b())), product(xh, y, M, N, K))).toBeLessThan(1e-5);
  expect(maxError(await values(ah.matmul(bh)), product(xh, yh, M, N, K))).toBeLessThan(2e-3); // rounded to f16
  const turned = await half(b().t());
  expect(maxError(await values(a().matmul(turned.t())), product(x, yh, M, N, K))).toBeLessThan(1e-5);
});

test.each(["int8", "int4", "nf4"] as const)("%s weights, and the gradient of what they multiply", async (format) => {
  const q = quantize(normals(N * K, 3), [N, K], { format, group: 32 });
  const dense = await dequantize(q).t().mul(1).data(); // [K, N]
  const input = a().requiresGrad_();
  const out = quantizedLinear(input, q);
  expect(maxError(await values(out), product(x, dense, M, N, K))).toBeLessThan(1e-5);
  const upstream = normals(M * N, 4);
  out.backward(tensor(upstream, { shape: [M, N] }));
  const rows = await dequantize(q).mul(1).data(); // [N, K]
  const want = product(upstream, rows, M, K, N);
  expect(maxError(await values(input.grad!), want)).toBeLessThan(1e-5);
});

test("work in front of it and behind it", async () => {
  const gate = tensor(normals(M * K, 5), { shape: [M, K] });
  const bias = tensor(normals(N, 6));
  const made = Float64Array.from(await gate.silu().mul(a()).data());
  const shift = await bias.data();
  const want = product(made, y, M, N, K).map((v, i) => Math.max(0, v + shift[i % N]));
  const got = await values(gate.silu().mul(a()).matmul(b()).add(bias).relu(), "silu·mul→matmul_workgroup→add·relu");
  expect(maxError(got, want)).toBeLessThan(1e-5);
});
