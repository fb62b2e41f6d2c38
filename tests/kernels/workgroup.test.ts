/** matmul_workgroup.wgsl through the engine, as on a GPU: formats, prologues and epilogues. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { init, plan, type Tensor, tensor } from "../../src/index.ts";
import { dequantize, quantize, quantizedLinear } from "../../src/nn/index.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { product, view } from "../support/reference.ts";

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
  expect(worstError(await values(a().matmul(bh)), product(view(x, M, K), view(yh, K, N)))).toBeLessThan(1e-5);
  expect(worstError(await values(ah.matmul(b())), product(view(xh, M, K), view(y, K, N)))).toBeLessThan(1e-5);
  expect(worstError(await values(ah.matmul(bh)), product(view(xh, M, K), view(yh, K, N)))).toBeLessThan(2e-3); // rounded to f16
  const transposed = await half(b().t());
  expect(worstError(await values(a().matmul(transposed.t())), product(view(x, M, K), view(yh, K, N)))).toBeLessThan(
    1e-5,
  );
});

test.each(["int8", "int4", "nf4"] as const)("%s weights, and the gradient of what they multiply", async (format) => {
  const q = quantize(normals(N * K, 3), [N, K], { format, group: 32 });
  const dense = await dequantize(q).t().mul(1).data(); // [K, N]
  const input = a().requiresGrad_();
  const out = quantizedLinear(input, q);
  expect(worstError(await values(out), product(view(x, M, K), view(dense, K, N)))).toBeLessThan(1e-5);
  const upstream = normals(M * N, 4);
  out.backward(tensor(upstream, { shape: [M, N] }));
  const rows = await dequantize(q).mul(1).data(); // [N, K]
  const want = product(view(upstream, M, N), view(rows, N, K));
  expect(worstError(await values(input.grad!), want)).toBeLessThan(1e-5);
});

test("prologue and epilogue", async () => {
  const gate = tensor(normals(M * K, 5), { shape: [M, K] });
  const bias = tensor(normals(N, 6));
  const made = Float64Array.from(await gate.silu().mul(a()).data());
  const shift = await bias.data();
  const want = product(view(made, M, K), view(y, K, N)).map((v, i) => Math.max(0, v + shift[i % N]));
  const got = await values(gate.silu().mul(a()).matmul(b()).add(bias).relu(), "silu·mul→matmul_workgroup→add·relu");
  expect(worstError(got, want)).toBeLessThan(1e-5);
});
