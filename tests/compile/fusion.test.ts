import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import type { HostArray } from "../../src/graph/dtype.ts";
import { arange, cat, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

/** A step of a random program: picks earlier values and combines them. Shapes stay within a few broadcastable ones. */
type Step = { kind: number; a: number; b: number; k: number };

const values = (n: number, seed: number): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(seed * 12.9898 + i * 78.233) * 1.5);

function build(shape: readonly [number, number, number], steps: readonly Step[]): Tensor[] {
  const [B, M, N] = shape;
  const pool: Tensor[] = [
    tensor(values(B * M * N, 1), { shape }),
    tensor(values(B * M * N, 2), { shape }),
    tensor(values(N, 3), { shape: [N] }).expand(shape),
    tensor(values(B * M, 4), { shape: [B, M, 1] }).expand(shape),
    arange(N).to("f32").mul(0.1).expand(shape),
  ];
  const rows = (k: number): Tensor => tensor(Int32Array.from({ length: B * M }, (_, i) => (i * 7 + k) % (B * M)));
  for (const { kind, a, b, k } of steps) {
    const x = pool[a % pool.length];
    const y = pool[b % pool.length];
    pool.push(
      [
        () => x.add(y),
        () => x.mul(y).sigmoid(),
        () => x.sub(y).tanh(),
        () =>
          x
            .sum(k % 3, true)
            .mul(0.1)
            .tanh()
            .expand(shape),
        () => x.amax([0, 2], true).add(y),
        () => x.permute([1, 0, 2]).reshape(shape).mul(y),
        () => x.flip([k % 3]).add(1),
        () =>
          x
            .pad(
              [
                [0, 0],
                [1, 0],
                [0, 2],
              ],
              0.5,
            )
            .slice([
              [null, null],
              [0, M],
              [2, N + 2],
            ])
            .maximum(y),
        () =>
          x
            .transpose(1, 2)
            .reshape([B, N * M])
            .sin()
            .reshape([B, N, M])
            .transpose(1, 2),
        () => x.gt(y).where(x, y.neg()),
        () => x.mean([1, 2], true).expand(shape).minimum(y),
        () => x.matmul(y.transpose(1, 2)).mul(0.1).matmul(y).tanh(),
        () =>
          x
            .reshape([B * M, N])
            .indexSelect(0, rows(k))
            .reshape(shape)
            .add(y),
        () =>
          x
            .mul(0.3)
            .cumsum(k % 3)
            .tanh(),
        () =>
          cat(
            [
              x
                .reshape([B * M, N])
                .indexSelect(0, rows(k))
                .reshape(shape),
              y,
            ],
            1,
          ).narrow(1, k % (M + 1), M),
        () => x.add(y).mul(0.1).matmul(y.tanh().transpose(1, 2)).matmul(x.sigmoid()).tanh(),
      ][kind % 16](),
    );
  }
  return [pool.at(-1)!, pool.at(-1)!.sum([0, 1]), pool.at(-2)!.mul(pool.at(-1)!).mean()];
}

async function evaluate(shape: readonly [number, number, number], steps: readonly Step[]): Promise<HostArray[]> {
  const out: HostArray[] = [];
  for (const t of build(shape, steps)) out.push(await t.data());
  return out;
}

const program = fc.array(fc.record({ kind: fc.nat(15), a: fc.nat(20), b: fc.nat(20), k: fc.nat(5) }), {
  minLength: 1,
  maxLength: 9,
});
const sizes = fc.tuple(
  fc.integer({ min: 1, max: 3 }),
  fc.constantFrom(1, 2, 4, 5, 7),
  fc.constantFrom(1, 3, 4, 8, 9, 12),
);

describe("random graphs", () => {
  let wanted: { shape: readonly [number, number, number]; steps: Step[]; values: HostArray[] }[];
  beforeAll(async () => {
    await init({ backend: "reference" });
    const programs = fc.sample(fc.tuple(sizes, program), { numRuns: 30, seed: 20261122 });
    wanted = [];
    for (const [shape, steps] of programs) wanted.push({ shape, steps, values: await evaluate(shape, steps) });
  });

  test.each([true, false])("agree with the f64 interpreter, fusion %s", async (fuse) => {
    if (!(await init({ fuse }))) return expect.fail("no WebGPU adapter");
    for (const { shape, steps, values: want } of wanted) {
      const got = await evaluate(shape, steps);
      const replayed = await evaluate(shape, steps); // the same graph again: a replayed plan
      want.forEach((w, i) => {
        for (let j = 0; j < w.length; j++) {
          if (!(Math.abs(got[i][j] - w[j]) <= 2e-4 + 2e-4 * Math.abs(w[j])))
            expect.fail(`${JSON.stringify({ shape, steps })} output ${i} at ${j}: got ${got[i][j]}, want ${w[j]}`);
        }
        expect(replayed[i]).toEqual(got[i]);
      });
    }
  });
});
