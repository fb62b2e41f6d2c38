/** Averages of parameters, groups that join later, and clipping by value. */
import { beforeAll, expect, test } from "vitest";
import { init, type Tensor, tensor } from "../../src/index.ts";
import { Adam, AdamW, clipGradValue, EMA, Linear, Muon, SGD } from "../../src/nn/index.ts";

beforeAll(async () => void (await init({ backend: "reference" })));
const values = async (t: Tensor): Promise<number[]> => Array.from(await t.data());
const leaf = (x: number[]): Tensor => tensor(x).requiresGrad_();

test("EMA follows the parameters, and puts them back after apply", async () => {
  const model = new Linear(2, 1, { bias: false });
  model.loadStateDict({ weight: { data: Float32Array.of(1, 2), shape: [1, 2], dtype: "f32" } });
  const ema = new EMA(model, 0.75);
  const optimizer = new SGD(model.parameters(), { lr: 1 });
  model.weight.sum().backward();
  await optimizer.step(); // weight [0, 1]
  await ema.update();
  expect(await values(ema.stateDict().weight)).toEqual([0.75, 1.75]);
  const inside = await ema.apply(() => values(model.weight));
  expect(inside).toEqual([0.75, 1.75]);
  expect(await values(model.weight)).toEqual([0, 1]);
  expect(() => new EMA(model, 1)).toThrow(/EMA: decay must be in/);
});

test("a group that joins later is trained from the next step on, at its own rate", async () => {
  const [a, b] = [leaf([1]), leaf([1])];
  const optimizer = new SGD([a], { lr: 0.5 });
  a.add(b).sum().backward();
  await optimizer.step();
  expect([await values(a), await values(b)]).toEqual([[0.5], [1]]);
  b.grad = null;
  optimizer.addParamGroup({ params: [b], lr: 0.25 });
  a.add(b).sum().backward();
  await optimizer.step();
  expect([await values(a), await values(b)]).toEqual([[0], [0.75]]);
  expect(() => optimizer.addParamGroup({ params: [a] })).toThrow(/listed twice/);
  expect(() => optimizer.addParamGroup({ params: [] })).toThrow(/no parameters to train/);
});

test("clipGradValue limits elements", async () => {
  const x = leaf([1, 2, 3]);
  x.mul(tensor([-9, 0.5, 9]))
    .sum()
    .backward();
  clipGradValue([x], 1);
  expect(await values(x.grad!)).toEqual([-1, 0.5, 1]);
  expect(() => clipGradValue([x], 0)).toThrow(/clipGradValue: value must be positive/);
});

test("wrong options are refused", () => {
  const x = leaf([1]);
  expect(() => new AdamW([x], { learningRate: 1 } as object)).toThrow(/AdamW: unknown option learningRate/);
  expect(() => new Adam([x], { betas: [1, 0.9] })).toThrow(/Adam: betas/);
  expect(() => new Muon([tensor([[[1]]]).requiresGrad_()])).toThrow(/Muon: expected matrices and vectors/);
});

test.each(["reference", "webgpu"] as const)(
  "gradients that several parameters share, or are constants, on %s",
  async (backend) => {
    await init({ backend });
    for (const Rule of [SGD, AdamW, Adam]) {
      const [a, b, w, c, d] = [leaf([1, 2]), leaf([3, 4]), leaf([5, 6]), leaf([1, 1]), leaf([1, 1])];
      const sum = a.add(b).mul(w).square().sum(); // the gradient of a is that of b, and enters that of w
      sum.add(c.sum()).add(d.sum()).backward(); // constants
      const gradients = await Promise.all([a, b, w, c, d].map((p) => values(p.grad!.mul(1))));
      expect(gradients).toEqual([
        [200, 432],
        [200, 432],
        [160, 432],
        [1, 1],
        [1, 1],
      ]);
      await new Rule([a, b, w, c, d], { lr: 0.5 }).step();
      if (Rule === SGD)
        expect([await values(a), await values(w), await values(d)]).toEqual([
          [-99, -214],
          [-75, -210],
          [0.5, 0.5],
        ]);
      else expect((await values(d))[0]).toBeCloseTo(0.5, 1);
    }
  },
);
