import { beforeAll, describe, expect, test } from "vitest";
import { tensor } from "../../src/ops/functional.ts";
import { openBackend } from "../support/backend.ts";
import { listCases, mismatch, openCase, skipIfNone } from "./cases.ts";
import { lacking, MLP, makeOptimizer, momenta, schedules } from "./optim-table.ts";

const cases = listCases("optim");
const runnable = cases.filter((golden) => golden.json.hyper && lacking(golden).length === 0);
skipIfNone("optimizers", runnable);

describe.each(runnable)("optim/$name", (golden) => {
  beforeAll(openBackend);

  test("losses, gradients, learning rates and parameters of every step", async () => {
    const { json } = golden;
    const inputs = await openCase(golden.path, "inputs");
    const outputs = await openCase(golden.path, "outputs");
    const shape = (name: string) => inputs.entry(`run/init.${name}`).shape;
    const model = new MLP(shape("fc1.weight"), shape("fc2.weight"));
    const names = Object.keys(model.stateDict());
    const init = await Promise.all(names.map(async (name) => [name, await inputs.read(`run/init.${name}`)]));
    model.loadStateDict(Object.fromEntries(init));
    const optimizer = makeOptimizer(golden, model);
    const [xs, ys] = [await inputs.read("run/x"), await inputs.read("run/y")];
    const [steps, rows] = xs.shape;
    for (let step = 0; step < steps; step++) {
      const at = ({ data, shape }: typeof xs) =>
        tensor(data.slice(step * rows * shape[2], (step + 1) * rows * shape[2]), { shape: [rows, shape[2]] });
      const loss = model.forward(at(xs)).sub(at(ys)).square().mean();
      loss.backward();
      const grads = model.stateDict();
      const graded = Object.entries(grads).map(([name, p]) => [name, p.grad!.keep()] as const);
      const rates = optimizer.learningRates(); // Muon has one more, of its vectors
      json.lr[step].forEach((lr: number, i: number) => expect(rates[i]).toBeCloseTo(lr, 12));
      await optimizer.step();
      expect(mismatch([await loss.item()], [json.loss[step]], json.tol.loss), `loss of step ${step}`).toBeUndefined();
      if (json.grad_norm) expect(await optimizer.gradNorm!.item()).toBeCloseTo(json.grad_norm[step], 4);
      for (const [name, grad] of graded) {
        const want = await outputs.read(`run/step${step}/grad.${name}`);
        expect(
          mismatch(await grad.data(), want.data, json.tol.grad),
          `gradient of ${name} at step ${step}`,
        ).toBeUndefined();
      }
      for (const [name, p] of model.namedParameters()) {
        const want = await outputs.read(`run/step${step}/param.${name}`);
        expect(mismatch(await p.data(), want.data, json.tol.param), `${name} after step ${step}`).toBeUndefined();
      }
    }
  });
});

const known = cases.flatMap(({ name, json }) =>
  ((json.schedules ?? []) as any[])
    .map((given, i) => ({ title: `optim/${name} ${i}: ${given.kind}`, given }))
    .filter(({ given }) => schedules[given.kind]),
);

test.each(known)("$title", ({ given }) => {
  const factor = schedules[given.kind](given);
  given.lr_per_step.forEach((want: number, step: number) =>
    expect(Math.abs(given.base_lr * factor(step) - want)).toBeLessThanOrEqual(1e-9 * want + 1e-15),
  );
  const momentum = given.momentum_per_step && momenta[given.kind](given);
  given.momentum_per_step?.forEach((want: number, step: number) => expect(momentum(step)).toBeCloseTo(want, 9));
  expect(given.lr_per_step.length).toBeGreaterThan(1);
});
