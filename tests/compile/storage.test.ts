import { beforeAll, expect, test } from "vitest";
import { arange, tensor, where } from "../../src/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { flush } from "../../src/tensor/engine.ts";
import { half } from "../support/tensors.ts";

beforeAll(async () => {
  await init({ backend: "webgpu" });
});

const values = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.3) * 4);

test.each([[1], [3], [4], [7], [2, 5], [3, 8], [2, 3, 5]])(
  "f16 is stored in pairs whatever the shape: %s",
  async (...shape) => {
    const n = shape.reduce((a, b) => a * b, 1);
    const x = tensor(values(n), { shape, dtype: "f16" });
    const y = x.add(1).to("f16");
    await flush(y);
    expect([...(await y.data())]).toEqual([...values(n)].map((v) => half(half(v) + 1)));
    const transposed = y.reshape([n, 1]).expand([n, 3]).t();
    const want = [0, 1, 2].flatMap(() => [...values(n)].map((v) => half(half(v) + 1)));
    expect([...(await transposed.to("f32").data())]).toEqual(want);
    expect(y.dtype).toBe("f16");
  },
);

test("f16 operands of a heavy kernel are widened, the result rounded", async () => {
  const a = tensor(values(15), { shape: [3, 5], dtype: "f16" });
  const b = tensor(values(20), { shape: [5, 4], dtype: "f16" });
  const got = await a.matmul(b).data();
  for (let i = 0; i < 12; i++) {
    let want = 0;
    for (let k = 0; k < 5; k++) want += half(values(15)[Math.floor(i / 4) * 5 + k]) * half(values(20)[k * 4 + (i % 4)]);
    expect(Math.abs(got[i] - want)).toBeLessThanOrEqual(2e-3 * Math.abs(want) + 1e-3);
  }
});

test("booleans are read as 0 and 1", async () => {
  const x = tensor([-1, 0, 2, 3, -5]);
  const positive = x.gt(0);
  await flush(positive);
  expect([...(await positive.data())]).toEqual([0, 0, 1, 1, 0]);
  expect([...(await where(positive, x, 9).data())]).toEqual([9, 9, 2, 3, 9]);
});

test("integers keep every bit", async () => {
  const x = tensor(Int32Array.of(2147483647, -2147483648, 16777217));
  expect([...(await x.add(0).data())]).toEqual([2147483647, -2147483648, 16777217]);
});

test("more workgroups than one grid dim holds", async () => {
  const n = 65_536 * 64 * 4 + 4 * 64 * 3 + 1;
  const x = arange(n, { dtype: "i32" }).add(1);
  await flush(x);
  expect([...(await x.narrow(0, n - 3, 3).data())]).toEqual([n - 2, n - 1, n]);
});
