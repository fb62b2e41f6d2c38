import { beforeAll, describe, expect, test } from "vitest";
import type { Ours } from "../../bench/ours.ts";
import { workloads } from "../../bench/workloads/train.ts";
import type { Input } from "../../bench/workloads/workload.ts";
import { Batcher, type ConversationBatch } from "../../examples/demo/batches.ts";
import { createHeads, createModel } from "../../examples/demo/model.ts";
import { TextIds, trainTokenizer } from "../../examples/demo/pack.ts";
import { Random } from "../../examples/demo/random.ts";
import { presets } from "../../examples/demo/recipes.ts";
import { Splits } from "../../examples/demo/splits.ts";
import { headLoss, modelInput, pixelTensor } from "../../examples/demo/stages.ts";
import * as sg from "../../src/index.ts";
import { memoryStats } from "../../src/index.ts";
import { AdamW, decayMatrices, Linear } from "../../src/nn/index.ts";
import { inventedSet } from "../support/invented-emoji.ts";

/** The plan of a train step, laid out and never compiled. */
async function planOf(parameters: sg.Tensor[], loss: sg.Tensor): Promise<sg.PlanReport> {
  const optimizer = new AdamW(decayMatrices(parameters, 0.05), { maxNorm: 1 });
  optimizer.zeroGrad();
  loss.backward();
  return (await optimizer.plan())!;
}

/** The decoder of the benchmark, which hands its parameters and loss to the harness. */
async function decoderPlan(): Promise<sg.PlanReport> {
  const work = workloads.find((w) => w.name === "decoder_train_step")!;
  const put = ({ data, shape }: Input) =>
    sg.tensor(data, { shape: [...shape], dtype: data instanceof Int32Array ? "i32" : "f32" });
  let made: Promise<sg.PlanReport> | undefined;
  const train: Ours["train"] = (parameters, _options, data, loss) => {
    const p = parameters.map((x) => put(x).requiresGrad_());
    made = planOf(p, loss(p, data.map(put)));
    return { run: async () => {}, result: async () => new Float32Array() };
  };
  work.ours({ sg, train } as Ours, work.inputs());
  return made!;
}

describe("train steps", () => {
  const reports: Record<string, sg.PlanReport> = {};

  beforeAll(async () => {
    await sg.init({ backend: "webgpu" });
    const { size, recipe } = presets.default;
    const splits = new Splits(inventedSet(64));
    const texts = new TextIds(trainTokenizer(Batcher.corpus(splits), 400));
    const batcher = new Batcher(splits, texts, new Random(1));
    const model = createModel({ ...size, vocabulary: texts.tokenizer.size }, 1);
    const joint = (batch: ConversationBatch) => planOf(model.parameters(), model.loss(modelInput(batch)));
    model.vision_tower.requiresGrad_(false);
    reports["stage 2, singles"] = await joint(batcher.conversations("single", recipe.singles));
    reports["stage 2, composites"] = await joint(batcher.conversations("composite", recipe.composites));

    const heads = createHeads(model, batcher.classes, batcher.tagWords.length, 1);
    model.requiresGrad_(false);
    model.vision_tower.requiresGrad_();
    const pictures = batcher.heads(recipe.vision.batch);
    const logits = heads.forward(model.visionFeatures(pixelTensor(pictures.pixels)));
    reports.vit = await planOf([...model.vision_tower.parameters(), ...heads.parameters()], headLoss(logits, pictures));
    reports.decoder = await decoderPlan();
  }, 60_000);

  const names = ["stage 2, singles", "stage 2, composites", "vit", "decoder"];
  // The stem of the vit: convolution kernels read a padded copy of their input.
  const most: Readonly<Record<string, number>> = { vit: 1.15 };
  test.each(names)("%s takes at most a tenth more memory than must be alive", (name) => {
    const { peakBytes, lowerBound } = reports[name];
    expect(lowerBound).toBeGreaterThan(1e6);
    expect(peakBytes).toBeGreaterThanOrEqual(lowerBound);
    expect(peakBytes / lowerBound).toBeLessThanOrEqual(most[name] ?? 1.1);
  });

  test.each(names)("%s needs at most 60 pipelines", (name) => {
    const { pipelines, kernels } = reports[name];
    expect(kernels).toBeGreaterThan(100);
    expect(pipelines).toBeGreaterThan(20);
    expect(pipelines).toBeLessThanOrEqual(60);
  });
});

describe("a plan before it runs", () => {
  test("compiles nothing, changes nothing, and is what runs", async () => {
    await sg.init({ backend: "webgpu" });
    const layer = new Linear(48, 32);
    const optimizer = new AdamW(layer.parameters(), { maxNorm: 1 });
    const x = sg.tensor(
      Float32Array.from({ length: 480 }, (_, i) => Math.sin(i)),
      { shape: [10, 48] },
    );
    const before = await layer.weight.data(); // a copy, without kernels
    const loss = layer.forward(x).square().mean();
    loss.backward();
    const planned = (await optimizer.plan())!;
    expect(memoryStats()).toMatchObject({ pipelines: 0, plans: 0 });
    expect(await optimizer.plan()).toEqual(planned);
    await optimizer.step();
    expect(memoryStats().pipelines).toBe(planned.pipelines);
    expect(await layer.weight.data()).not.toEqual(before);
    expect(optimizer.steps).toBe(1);
  });

  test("counts what it allocates and what must be alive", async () => {
    await sg.init({ backend: "webgpu" });
    const x = sg.tensor(new Float32Array(1 << 14), { shape: [128, 128] });
    await sg.flush(x);
    const planned = (await sg.plan(x.matmul(x).matmul(x).matmul(x).matmul(x)))!;
    // Two products are alive at each step; the last one is the result.
    expect(planned).toMatchObject({ kernels: 4, lowerBound: 3 << 16, peakBytes: 3 << 16 });
    expect(planned.text.split("\n").length).toBe(4);
  });
});

describe("a memory budget", () => {
  /** Losses and a parameter after some steps of a deep network with dropout, and the plan of a step. */
  async function train(memoryBudget?: number) {
    await sg.init({ backend: "webgpu", memoryBudget });
    sg.manualSeed(2);
    const layers = Array.from({ length: 12 }, () => new Linear(32, 32));
    const optimizer = new AdamW(
      layers.flatMap((l) => l.parameters()),
      { lr: 1e-2, maxNorm: 1 },
    );
    const x = sg.rand(512, 32);
    const losses: number[] = [];
    let planned: sg.PlanReport | undefined;
    for (let step = 0; step < 3; step++) {
      let h = x;
      for (const layer of layers) h = h.add(sg.dropout(layer.forward(h).gelu(), 0.1));
      const loss = h.square().mean();
      optimizer.zeroGrad();
      loss.backward();
      planned = await optimizer.plan();
      await optimizer.step();
      losses.push(await loss.item());
    }
    return { losses, weight: await layers[3].weight.data(), planned: planned! };
  }

  test("computes activations again, as many as it takes, with the same result", async () => {
    const plain = await train();
    const budget = Math.round(0.6 * plain.planned.peakBytes);
    const tight = await train(budget);
    expect(tight.planned.peakBytes).toBeLessThanOrEqual(budget);
    expect(tight.planned.kernels).toBeGreaterThan(plain.planned.kernels);
    expect(tight.planned.kernels).toBeLessThan(1.5 * plain.planned.kernels);
    tight.losses.forEach((loss, i) => expect(loss).toBeCloseTo(plain.losses[i], 5));
    tight.weight.forEach((w, i) => expect(w).toBeCloseTo(plain.weight[i], 5));
    const ample = await train(plain.planned.peakBytes);
    expect(ample.planned).toEqual(plain.planned);
  });

  test("that cannot be kept is an error that names the peak", async () => {
    await expect(train(100_000)).rejects.toThrow(
      /memory budget of 100000 bytes is too small: this step needs \d{6,} bytes/,
    );
    await sg.init({ backend: "webgpu" });
    expect(await sg.tensor([1, 2]).sum().item()).toBe(3);
  });
});

test("a key tells every value from every other", async () => {
  const [a, b] = [sg.tensor([1, 2, 3, 4]), sg.tensor([5, 1, 0, 2])];
  const forms = [
    (x: sg.Tensor) => sg.layerNorm(x, b, x),
    (x: sg.Tensor) => sg.layerNorm(x, b, b),
    (x: sg.Tensor) => sg.layerNorm(b, x, b),
    (x: sg.Tensor) => sg.layerNorm(b, x, x),
  ];
  const run = async (options: Parameters<typeof sg.init>[0]) => {
    await sg.init(options);
    const values: number[][] = [];
    for (let i = 0; i < 12; i++) values.push(Array.from(await forms[i % 4](a.mul(2)).data()));
    return values;
  };
  const want = await run({ backend: "reference" });
  const got = await run({ backend: "webgpu" });
  got.forEach((row, i) => row.forEach((v, k) => expect(v).toBeCloseTo(want[i][k], 5)));
});
