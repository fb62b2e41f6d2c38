import { beforeAll, describe, expect, test } from "vitest";
import { Llava } from "../../models/llava.ts";
import { AdamW } from "../../src/nn/index.ts";
import { tensor } from "../../src/ops/functional.ts";
import { folder } from "../../src/runtime/node.ts";
import { openBackend } from "../support/backend.ts";
import { listCases, mismatch, openCase, skipIfNone } from "./cases.ts";

const cases = listCases("training").filter(({ name }) => name === "llava-two-stage");
skipIfNone("training", cases);

describe.each(cases)("training/$name", ({ path, json }) => {
  beforeAll(openBackend);

  test("losses, gradient norms and weights of both stages", async () => {
    const [inputs, outputs] = [await openCase(path, "inputs"), await openCase(path, "outputs")];
    const input = async (name: string) => {
      const { data, shape, dtype } = await inputs.read(`train/${name}`);
      return tensor(data, { shape, dtype });
    };
    const batch = {
      inputIds: await input("input_ids"),
      attentionMask: await input("attention_mask"),
      labels: await input("labels"),
      pixelValues: await input("pixel_values"),
    };
    const model = await Llava.fromPretrained(folder(`${path}/model`));
    const losses: number[] = [];
    const norms: number[] = [];
    model.requiresGrad_(false);
    const trained = [[model.multi_modal_projector], [model.multi_modal_projector, model.language_model]];
    // "stage 1 … (AdamW lr 1e-3, 5 steps), stage 2 … (AdamW lr 2e-4, 5 steps)"
    const stages = [...json.what.matchAll(/AdamW lr ([\d.e-]+), (\d+) steps/g)];
    expect(stages.length).toBe(trained.length);
    for (const [i, [, lr, steps]] of stages.entries()) {
      const parts = trained[i];
      for (const part of parts) part.requiresGrad_();
      // Clipping at a norm never reached changes nothing, and gives the norms.
      const optimizer = new AdamW(
        parts.flatMap((part) => part.parameters()),
        { lr: Number(lr), weightDecay: 0, maxNorm: 1e9 },
      );
      for (let step = 0; step < Number(steps); step++) {
        const loss = model.loss(batch);
        loss.backward();
        await optimizer.step();
        losses.push(await loss.item());
        norms.push(await optimizer.gradNorm!.item());
      }
      const state = model.stateDict();
      const prefix = `train/stage${i + 1}/`;
      const names = outputs.names.filter((name) => name.startsWith(prefix));
      expect(names.length).toBeGreaterThan(3);
      for (const name of names) {
        const got = await state[name.slice(prefix.length)].data();
        expect(mismatch(got, (await outputs.read(name)).data, json.tol.weights), name).toBeUndefined();
      }
    }
    losses.push(await model.loss(batch).item());
    expect(
      mismatch(losses, [...json.loss_float64, json.final_loss_after_10_steps.float64], json.tol.loss),
    ).toBeUndefined();
    expect(mismatch(norms, json.grad_norm_float64, json.tol.grad_norm)).toBeUndefined();
  });
});
