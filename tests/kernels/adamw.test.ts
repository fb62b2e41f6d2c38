import { describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import { Node } from "../../src/graph/node.ts";
import type { RefArray } from "../../src/graph/op.ts";
import { lowerAdamw, lowerAdamwInt8 } from "../../src/lowering/optim.ts";
import { adamwInt8Op, STATE_BLOCK } from "../../src/ops/adamw.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { lowerOp, submit } from "./harness.ts";

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
    expect(worstError(p, want.p)).toBeLessThan(2e-6);
    expect(worstError(m, want.m)).toBeLessThan(1e-6);
    expect(worstError(v, want.v)).toBeLessThan(1e-6);
  }
});

describe.each<[string, Partial<DeviceInfo>]>([
  ["software", {}],
  ["discrete", { kind: "discrete" }],
])("moments of 8 bits, %s schedule", (_, info) => {
  test.each([64, 256, 320, 6464, 30_016])("four steps over %i parameters", async (n) => {
    const [lr, beta1, beta2, decay, scale] = [0.01, 0.9, 0.99, 0.1, 0.5];
    const blocks = Math.ceil(n / STATE_BLOCK);
    let state: (Float32Array | Uint32Array)[] = [
      normals(n, 1),
      new Uint32Array(n / 4),
      new Uint32Array(n / 4),
      new Float32Array(2 * blocks),
    ];
    const specs = [
      { shape: [n], dtype: "f32" },
      { shape: [n / 4], dtype: "u32" },
      { shape: [n / 4], dtype: "u32" },
      { shape: [blocks, 2], dtype: "f32" },
    ] as const;
    for (let t = 1; t <= 4; t++) {
      // Gradients over many magnitudes, a block of zeros, and in the third step none at all.
      const g = normals(n, 10 + t).map((x, i) => (t === 3 || i >> 8 === 1 ? 0 : x * 10 ** -(i % 9)));
      const hyper = Float32Array.of(lr, beta1, beta2, 1e-8, decay, 1 - beta1 ** t, 1 - beta2 ** t, scale);
      const data = [state[0], g, ...state.slice(1), hyper];
      const sources = data.map((d, i) => ({
        data: d,
        shape: i === 4 ? [blocks, 2] : [d.length],
        dtype: d instanceof Uint32Array ? ("u32" as const) : ("f32" as const),
      }));
      const node = new Node(adamwInt8Op, [], {}, [n], "f32", specs);
      const exact = adamwInt8Op.reference!(
        sources.map((s) => ({ ...s, data: Float64Array.from(s.data) })),
        {},
        node,
      ) as RefArray[];
      const run = async (): Promise<typeof state> => {
        const op = await lowerOp(lowerAdamwInt8, sources, {}, specs, { inPlace: [0, 2, 3, 4], info });
        await submit(op.dispatches);
        return Promise.all([0, 1, 2, 3].map((i) => op.read(i))) as Promise<typeof state>;
      };
      const got = await run();
      expect(await run()).toEqual(got); // bit for bit
      expect(worstError(got[0] as Float32Array, exact[0].data)).toBeLessThan(4e-6);
      expect(worstError(got[3] as Float32Array, exact[3].data)).toBeLessThan(1e-6);
      let furthest = 0;
      let other = 0; // codes next to the exact ones, where a value lies between two
      for (const k of [1, 2]) {
        const [a, b] = [got[k], Uint32Array.from(exact[k].data)].map((w) => new Uint8Array(w.buffer));
        a.forEach((c, i) => {
          furthest = Math.max(furthest, Math.abs(c - b[i]));
          if (c !== b[i]) other++;
        });
      }
      expect(furthest).toBeLessThanOrEqual(1);
      expect(other).toBeLessThanOrEqual(2 + n / 500);
      state = got;
    }
  });
});
