/** LBFGS on the valley of Rosenbrock. The expected losses are torch.optim.LBFGS's in float64. */
import { beforeAll, expect, test } from "vitest";
import { init, type Tensor, tensor } from "../../src/index.ts";
import { LBFGS } from "../../src/nn/index.ts";

beforeAll(async () => void (await init({ backend: "reference" })));

function valley(): { x: Tensor; closure: () => Tensor; calls: () => number } {
  const x = tensor([-1.2, 1]).requiresGrad_();
  let calls = 0;
  const closure = (): Tensor => {
    calls++;
    const [a, b] = [x.select(0, 0), x.select(0, 1)];
    const loss = b.sub(a.square()).square().mul(100).add(a.neg().add(1).square());
    loss.backward();
    return loss;
  };
  return { x, closure, calls: () => calls };
}

test.each([
  {
    lineSearch: "strong_wolfe" as const,
    lr: 1,
    want: [24.2000103, 4.1118165, 3.4231655, 1.6579625, 0.4641408, 0.0779864],
  },
  { lineSearch: "none" as const, lr: 0.1, want: [24.2000103, 7.1129536, 5.2304989, 4.5280879, 4.2653362, 4.1616946] },
])("$lineSearch", async ({ lineSearch, lr, want }) => {
  const { x, closure } = valley();
  const optimizer = new LBFGS([x], { lr, lineSearch, maxIter: 5 });
  const losses: number[] = [];
  for (let i = 0; i < want.length; i++) losses.push(await optimizer.step(closure));
  for (const [i, loss] of losses.entries()) expect(Math.abs(loss - want[i])).toBeLessThan(5e-3 * want[i] + 1e-6);
});

test("reaches the minimum, and stops there", async () => {
  const { x, closure, calls } = valley();
  const optimizer = new LBFGS([x], { lineSearch: "strong_wolfe", maxIter: 100 });
  await optimizer.step(closure);
  const [a, b] = await x.data();
  expect([a, b]).toEqual([expect.closeTo(1, 3), expect.closeTo(1, 3)]);
  const before = calls();
  await optimizer.step(closure);
  expect(calls() - before).toBeLessThan(20);
});

test("wrong options are refused", () => {
  const x = tensor([1]).requiresGrad_();
  expect(() => new LBFGS([x], { max_iter: 3 } as object)).toThrow(/LBFGS: unknown option max_iter/);
  expect(() => new LBFGS([tensor([1])])).toThrow(/no parameters to train/);
  expect(() => new LBFGS([x], { maxIter: 0 })).toThrow(/maxIter/);
});
