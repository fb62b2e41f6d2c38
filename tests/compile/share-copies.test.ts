/** Scratch values that several kernels want, such as a transposed input, are computed once. */
import { expect, test } from "vitest";
import { assign, explain, flush, init, rand, type Tensor } from "../../src/index.ts";

const labels = async (...out: Tensor[]): Promise<string[]> =>
  (await explain(...out))
    .split("\n")
    .slice(0, -1)
    .map((line) => line.trim().split(/\s+/)[1]);
const realized = async (...shape: number[]): Promise<Tensor> => {
  const x = rand(...shape);
  await flush(x);
  return x;
};

test("products of one input share its transposed copy, and keep their values", async () => {
  const info = await init({ backend: "webgpu", tune: false });
  const x = await realized(512, 256);
  const weights = [await realized(256, 256), await realized(256, 256), await realized(256, 256)];
  const products = () => weights.map((w) => x.matmul(w.t()));
  const transposes = (await labels(...products())).filter((label) => label === "transpose");
  if (info!.kind === "software" && info!.subgroupSize > 0) expect(transposes).toHaveLength(4); // x once, each weight
  const together = products();
  await flush(...together);
  for (const [i, w] of weights.entries()) expect(await together[i].data()).toEqual(await x.matmul(w.t()).data());
});

test("a copy is not shared with readers after an update in place", async () => {
  await init({ backend: "webgpu", tune: false });
  const x = await realized(512, 256);
  const w = await realized(256, 256);
  const before = x.matmul(w.t());
  assign(x, x.mul(2));
  const after = x.matmul(w.t());
  await flush(before, after);
  const [a, b] = [await before.data(), await after.data()];
  b.forEach((v, i) => {
    if (i % 97 === 0) expect(v).toBeCloseTo(2 * a[i], 4);
  });
});
