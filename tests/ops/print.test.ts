/** What tensors look like as text. The expected texts are torch's, with this library's names of dtypes. */
import { inspect } from "node:util";
import { beforeAll, expect, test, vi } from "vitest";
import { arange, init, tensor, zeros } from "../../src/index.ts";

beforeAll(async () => void (await init({ backend: "reference" })));

test.each([
  [tensor([1, 2, 3]), "tensor([1., 2., 3.])"],
  [
    tensor([
      [1.5, -2],
      [3, 4.25],
    ]),
    "tensor([[ 1.5000, -2.0000],\n        [ 3.0000,  4.2500]])",
  ],
  [tensor(2.5), "tensor(2.5000)"],
  [tensor([1, -20], { dtype: "i32" }), "tensor([  1, -20], dtype: i32)"],
  [tensor([1, 0], { dtype: "bool" }), "tensor([ true, false], dtype: bool)"],
  [tensor([NaN, Infinity, -Infinity]), "tensor([ nan,  inf, -inf])"],
  [tensor([NaN, 1.5]), "tensor([   nan, 1.5000])"],
  [tensor([1e-5, 1]), "tensor([1.0000e-05, 1.0000e+00])"],
  [tensor([1e9, 2]), "tensor([1.0000e+09, 2.0000e+00])"],
  [tensor([0.1, 1500.5]), "tensor([1.0000e-01, 1.5005e+03])"],
  [
    tensor([
      [[1], [2]],
      [[3], [4]],
    ]),
    "tensor([[[1.],\n         [2.]],\n\n        [[3.],\n         [4.]]])",
  ],
  [tensor([1], { requiresGrad: true }), "tensor([1.], requiresGrad: true)"],
  [tensor(new Float32Array(0), { shape: [0, 3] }), "tensor([], shape: [0,3], dtype: f32)"],
  [zeros([2]).add(1), "tensor(pending, shape: [2], dtype: f32)"],
])("%#", (x, want) => {
  expect(String(x)).toBe(want);
  expect(inspect(x)).toBe(want);
  expect(`${x}`).toBe(want);
});

test("more than 1000 elements are shortened, long rows wrapped", () => {
  const wide = tensor(
    Float32Array.from({ length: 2000 }, (_, i) => i + 0.5),
    { shape: [2, 1000] },
  );
  expect(String(wide)).toBe(
    "tensor([[5.0000e-01, 1.5000e+00, 2.5000e+00,  ..., 9.9750e+02, 9.9850e+02,\n         9.9950e+02],\n" +
      "        [1.0005e+03, 1.0015e+03, 1.0025e+03,  ..., 1.9975e+03, 1.9985e+03,\n         1.9995e+03]])",
  );
  const row = String(tensor(Float32Array.from({ length: 30 }, (_, i) => i)));
  expect(row.split("\n").every((line) => line.length <= 80)).toBe(true);
  expect(tensor([1.23456789]).toString({ precision: 2 })).toBe("tensor([1.23])");
});

test("values that were read are shown; print reads them", async () => {
  const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
  const x = arange(3).float().mul(0.5);
  expect(String(x)).toContain("pending");
  await x.print();
  expect(log).toHaveBeenCalledWith("tensor([0.0000, 0.5000, 1.0000])");
  log.mockRestore();
  expect(String(x)).toBe("tensor([0.0000, 0.5000, 1.0000])");
});
