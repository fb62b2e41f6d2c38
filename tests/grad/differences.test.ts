import fc from "fast-check";
import { expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { gradientError, randomLeaf } from "../support/f64.ts";

// Each op alone: tests/ops/table.test.ts.

/** A random expression of tensors [2, 3]: every step combines earlier values. */
function expression(
  steps: readonly (readonly [kind: number, a: number, b: number])[],
  leaves: readonly Tensor[],
): Tensor {
  const pool = [...leaves];
  const last = (x: Tensor): Tensor => x.tanh();
  for (const [kind, i, j] of steps) {
    const [a, b] = [pool[i % pool.length], pool[j % pool.length]];
    pool.push(
      [
        () => a.add(b),
        () => a.mul(b),
        () => last(a.sub(b)).div(b.square().add(1)),
        () => a.sum(j % 2, true).mul(b),
        () => a.t().flatten().reshape([2, 3]).add(b.flip(1)),
        () => a.matmul(b.t()).matmul(a),
        () => a.softmax(i % 2).mul(b.exp().mul(0.1)),
        () => sg.layerNorm(a, null, null, 0.1).add(b),
        () =>
          sg
            .cat([a, b], 1)
            .slice([[], [null, null, 2]])
            .gelu(),
        () =>
          a
            .pad([
              [1, 0],
              [0, 0],
            ])
            .narrow(0, 0, 2)
            .add(b.sigmoid()),
      ][kind](),
    );
  }
  return pool.at(-1)!.mean();
}

test("random expressions have the gradients that differences say", () => {
  const step = fc.tuple(fc.nat(9), fc.nat(9), fc.nat(9));
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
      const leaves = [randomLeaf([2, 3], -1, 1, 5), randomLeaf([2, 3], -1, 1, 6)];
      const used = (a: Tensor, b: Tensor): Tensor =>
        expression(steps, [a, b]).add(a.sum().mul(0.1)).add(b.sum().mul(0.1));
      expect(gradientError(used, leaves)).toBeLessThan(1e-7);
    }),
    { numRuns: 150, seed: 20261122 },
  );
});
