import { beforeAll, describe, expect, test } from "vitest";
import {
  AdamW,
  cosineSchedule,
  Linear,
  linearSchedule,
  Module,
  type Optimizer,
  type OptimizerOptions,
  SGD,
} from "../../src/nn/index.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { openBackend } from "../backend.ts";
import { type Case, listCases, mismatch, openCase } from "./cases.ts";

class MLP extends Module {
  fc1 = new Linear(7, 13);
  fc2 = new Linear(13, 5);
  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.fc1.forward(x).gelu());
  }
}

function makeOptimizer({ name, json: { hyper } }: Case, model: MLP): Optimizer {
  const known = [
    "lr",
    "betas",
    "eps",
    "weight_decay",
    "max_norm",
    "momentum",
    "nesterov",
    "dampening",
    "groups",
    "warmup_steps",
    "total_steps",
  ];
  const unknown = Object.keys(hyper).filter((key) => !known.includes(key));
  if (unknown.length) throw new Error(`optim/${name}: hyper-parameters of an unknown kind: ${unknown}`);
  const schedule =
    hyper.total_steps === undefined
      ? undefined
      : cosineSchedule({ warmup: hyper.warmup_steps, total: hyper.total_steps });
  const options: OptimizerOptions = {
    lr: hyper.lr,
    weightDecay: hyper.weight_decay,
    maxNorm: hyper.max_norm,
    schedule,
  };
  const state = model.stateDict();
  const params = hyper.groups
    ? hyper.groups.map((group: any) => ({
        params: group.params.map((key: string) => state[key]),
        lr: group.lr,
        weightDecay: group.weight_decay,
      }))
    : model.parameters();
  if (name.startsWith("sgd"))
    return new SGD(params, { ...options, momentum: hyper.momentum, nesterov: hyper.nesterov });
  return new AdamW(params, { ...options, betas: hyper.betas, eps: hyper.eps });
}

const cases = listCases("optim");

describe.each(cases.filter(({ json }) => json.hyper))("optim/$name", (golden) => {
  beforeAll(openBackend);

  test("losses, gradients, learning rates and parameters of every step", async () => {
    const { json } = golden;
    const inputs = await openCase(golden.path, "inputs");
    const outputs = await openCase(golden.path, "outputs");
    const model = new MLP();
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
      optimizer.learningRates().forEach((lr, i) => expect(lr).toBeCloseTo(json.lr[step][i], 12));
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

describe.each(cases.filter(({ json }) => json.schedules))("optim/$name", ({ json }) => {
  test.each(json.schedules as any[])(
    "$kind, $warmup_steps of $total_steps steps warm-up",
    ({ kind, warmup_steps: warmup, total_steps: total, base_lr, lr_per_step }) => {
      const make = { cosine: cosineSchedule, linear: linearSchedule }[kind as string];
      if (!make) throw new Error(`schedule of an unknown kind: ${kind}`);
      const schedule = make({ warmup, total });
      lr_per_step.forEach((want: number, step: number) =>
        expect(Math.abs(base_lr * schedule(step) - want)).toBeLessThanOrEqual(1e-9 * want + 1e-15),
      );
    },
  );
});

test("every case is of a kind this file runs", () => {
  expect(cases.length).toBeGreaterThan(0);
  expect(cases.filter(({ json }) => !json.hyper && !json.schedules).map(({ name }) => name)).toEqual([]);
});
