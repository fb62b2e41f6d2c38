/** matmul_workgroup.wgsl through the engine, as on a GPU: formats, and work before and behind it. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { currentDevice } from "../../src/engine.ts";
import { init, plan, type Tensor, tensor } from "../../src/index.ts";
import { dequantize, quantize, quantizedLinear } from "../../src/nn/index.ts";
import { maxError, normals } from "./harness.ts";

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

function product(a: ArrayLike<number>, b: ArrayLike<number>): Float64Array {
  const out = new Float64Array(M * N);
  for (let m = 0; m < M; m++)
    for (let k = 0; k < K; k++) for (let n = 0; n < N; n++) out[m * N + n] += a[m * K + k] * b[k * N + n];
  return out;
}

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
  expect(maxError(await values(a().matmul(bh)), product(x, yh))).toBeLessThan(1e-5);
  expect(maxError(await values(ah.matmul(b())), product(xh, y))).toBeLessThan(1e-5);
  expect(maxError(await values(ah.matmul(bh)), product(xh, yh))).toBeLessThan(2e-3); // rounded to f16
  const turned = await half(b().t());
  expect(maxError(await values(a().matmul(turned.t())), product(x, yh))).toBeLessThan(1e-5);
});

test.each(["int8", "int4", "nf4"] as const)("%s weights, and the gradient of what they multiply", async (format) => {
  const q = quantize(normals(N * K, 3), [N, K], { format, group: 32 });
  const dense = await dequantize(q).t().mul(1).data(); // [K, N]
  const input = a().requiresGrad_();
  const out = quantizedLinear(input, q);
  expect(maxError(await values(out), product(x, dense))).toBeLessThan(1e-5);
  const upstream = normals(M * N, 4);
  out.backward(tensor(upstream, { shape: [M, N] }));
  const want = new Float64Array(M * K);
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++) for (let k = 0; k < K; k++) want[m * K + k] += upstream[m * N + n] * dense[k * N + n];
  expect(maxError(await values(input.grad!), want)).toBeLessThan(1e-5);
});

test("work in front of it and behind it", async () => {
  const gate = tensor(normals(M * K, 5), { shape: [M, K] });
  const bias = tensor(normals(N, 6));
  const made = Float64Array.from(await gate.silu().mul(a()).data());
  const shift = await bias.data();
  const want = product(made, y).map((v, i) => Math.max(0, v + shift[i % N]));
  const got = await values(gate.silu().mul(a()).matmul(b()).add(bias).relu(), "silu·mul→matmul_workgroup→add·relu");
  expect(maxError(got, want)).toBeLessThan(1e-5);
});
