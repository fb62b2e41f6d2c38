import { expect, test } from "vitest";
import { lowerAdamw } from "../../src/ops/lower/optim.ts";
import { lowerOp, maxError, normals, submit } from "./harness.ts";

test.each([1, 3, 64, 1000, 100_003])("three steps over %i parameters", async (n) => {
  const [lr, beta1, beta2, eps, decay, scale] = [0.01, 0.9, 0.99, 1e-8, 0.1, 0.5];
  let [p, m, v] = [normals(n, 1), new Float32Array(n), new Float32Array(n)];
  const want = { p: Float64Array.from(p), m: new Float64Array(n), v: new Float64Array(n) };
  for (let t = 1; t <= 3; t++) {
    const g = normals(n, 10 + t);
    const hyper = Float32Array.of(lr, beta1, beta2, eps, decay, 1 - beta1 ** t, 1 - beta2 ** t, scale);
    const sources = [p, g, m, v].map((data) => ({ data, shape: [n] }));
    const spec = { shape: [n], dtype: "f32" as const };
    const op = await lowerOp(lowerAdamw, [...sources, { data: hyper, shape: [8] }], {}, [spec, spec, spec], {
      inPlace: [0, 2, 3],
    });
    await submit(op.dispatches);
    [p, m, v] = (await Promise.all([op.read(0), op.read(1), op.read(2)])) as [
      Float32Array<ArrayBuffer>,
      Float32Array<ArrayBuffer>,
      Float32Array<ArrayBuffer>,
    ];
    for (let i = 0; i < n; i++) {
      const grad = g[i] * scale;
      want.p[i] *= 1 - lr * decay;
      want.m[i] = beta1 * want.m[i] + (1 - beta1) * grad;
      want.v[i] = beta2 * want.v[i] + (1 - beta2) * grad * grad;
      want.p[i] -= (lr / (1 - beta1 ** t)) * (want.m[i] / (Math.sqrt(want.v[i] / (1 - beta2 ** t)) + eps));
    }
    expect(maxError(p, want.p)).toBeLessThan(2e-6);
    expect(maxError(m, want.m)).toBeLessThan(1e-6);
    expect(maxError(v, want.v)).toBeLessThan(1e-6);
  }
});
