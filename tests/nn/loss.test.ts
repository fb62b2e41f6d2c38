import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

beforeAll(() => init({ backend: "reference" }));

const a = sg.tensor([
  [0.2, 0.9, 0.4],
  [0.6, 0.1, 0.7],
]);
const b = sg.tensor([
  [0.3, 0.5, 0.8],
  [0.1, 0.4, 0.9],
]);
const c = sg.tensor([
  [0.9, 0.1, 0.2],
  [0.4, 0.2, 0.3],
]);
const ids = sg.tensor(Int32Array.of(2, 0));
const sign = sg.tensor([1, -1]);
const signs = sg.tensor([
  [1, -1, 1],
  [-1, -1, 1],
]);
const weight = sg.tensor([1, 2, 4]);
const sum = { reduction: "sum" } as const;

describe("losses as modules", () => {
  test.each<[string, nn.Module & { forward(...x: any[]): Tensor }, any[], Tensor]>([
    [
      "CrossEntropyLoss",
      new nn.CrossEntropyLoss({ weight, labelSmoothing: 0.1 }),
      [a, ids],
      sg.crossEntropy(a, ids, { weight, labelSmoothing: 0.1 }),
    ],
    [
      "NLLLoss",
      new nn.NLLLoss({ weight, ignoreIndex: 0 }),
      [a.log(), ids],
      sg.nllLoss(a.log(), ids, { weight, ignoreIndex: 0 }),
    ],
    ["MSELoss", new nn.MSELoss(sum), [a, b], sg.mseLoss(a, b, sum)],
    ["L1Loss", new nn.L1Loss(sum), [a, b], sg.l1Loss(a, b, sum)],
    ["SmoothL1Loss", new nn.SmoothL1Loss({ beta: 0.2 }), [a, b], sg.smoothL1Loss(a, b, { beta: 0.2 })],
    ["HuberLoss", new nn.HuberLoss({ delta: 0.2 }), [a, b], sg.huberLoss(a, b, { delta: 0.2 })],
    ["BCELoss", new nn.BCELoss({ weight }), [a, b], sg.binaryCrossEntropy(a, b, { weight })],
    [
      "BCEWithLogitsLoss",
      new nn.BCEWithLogitsLoss({ posWeight: weight }),
      [a, b],
      sg.binaryCrossEntropyWithLogits(a, b, { posWeight: weight }),
    ],
    [
      "KLDivLoss",
      new nn.KLDivLoss({ reduction: "batchmean" }),
      [a.log(), b],
      sg.klDiv(a.log(), b, { reduction: "batchmean" }),
    ],
    [
      "CosineEmbeddingLoss",
      new nn.CosineEmbeddingLoss({ margin: 0.3 }),
      [a, b, sign],
      sg.cosineEmbeddingLoss(a, b, sign, { margin: 0.3 }),
    ],
    [
      "MarginRankingLoss",
      new nn.MarginRankingLoss({ margin: 0.3 }),
      [a, b, signs],
      sg.marginRankingLoss(a, b, signs, { margin: 0.3 }),
    ],
    [
      "HingeEmbeddingLoss",
      new nn.HingeEmbeddingLoss({ margin: 0.7 }),
      [a, signs],
      sg.hingeEmbeddingLoss(a, signs, { margin: 0.7 }),
    ],
    [
      "TripletMarginLoss",
      new nn.TripletMarginLoss({ p: 1, swap: true }),
      [a, b, c],
      sg.tripletMarginLoss(a, b, c, { p: 1, swap: true }),
    ],
    ["SoftMarginLoss", new nn.SoftMarginLoss(), [a, signs], sg.softMarginLoss(a, signs)],
    [
      "MultiMarginLoss",
      new nn.MultiMarginLoss({ p: 2, weight }),
      [a, ids],
      sg.multiMarginLoss(a, ids, { p: 2, weight }),
    ],
    [
      "MultiLabelSoftMarginLoss",
      new nn.MultiLabelSoftMarginLoss({ weight }),
      [a, b.round()],
      sg.multilabelSoftMarginLoss(a, b.round(), { weight }),
    ],
    [
      "PoissonNLLLoss",
      new nn.PoissonNLLLoss({ logInput: false }),
      [a, b],
      sg.poissonNLLLoss(a, b, { logInput: false }),
    ],
    ["GaussianNLLLoss", new nn.GaussianNLLLoss({ full: true }), [a, b, c], sg.gaussianNLLLoss(a, b, c, { full: true })],
    [
      "CTCLoss",
      new nn.CTCLoss({ blank: 2, reduction: "sum" }),
      [a.unsqueeze(1).logSoftmax(-1), sg.tensor(Int32Array.of(1), { shape: [1, 1] }), [2], [1]],
      sg.ctcLoss(a.unsqueeze(1).logSoftmax(-1), sg.tensor(Int32Array.of(1), { shape: [1, 1] }), [2], [1], {
        blank: 2,
        reduction: "sum",
      }),
    ],
  ])("%s is its function", async (_, module, inputs, want) => {
    expect(await module.forward(...inputs).tolist()).toEqual(await want.tolist());
    expect(module.parameters()).toEqual([]);
  });

  test("factors are buffers under torch's names, and those that are loaded count", async () => {
    const loss = new nn.BCEWithLogitsLoss({ weight, posWeight: sg.ones(3) });
    expect(Object.keys(loss.stateDict())).toEqual(["weight", "pos_weight"]);
    loss.loadStateDict({ weight: sg.tensor([0, 0, 1]), pos_weight: sg.ones(3) });
    const want = sg.binaryCrossEntropyWithLogits(a, b, { weight: sg.tensor([0, 0, 1]) });
    expect(await loss.forward(a, b).item()).toBeCloseTo(await want.item(), 6);
    expect(Object.keys(new nn.MSELoss().stateDict())).toEqual([]);
  });

  test("bad options are errors at the call", () => {
    expect(() => new nn.MSELoss({ reduction: "avg" as never })).toThrow(
      'MSELoss: unknown reduction "avg": expected mean, sum, none',
    );
    expect(() => new nn.L1Loss({ reduction: "batchmean" as never })).toThrow("L1Loss: unknown reduction");
    expect(() => new nn.HuberLoss({ beta: 1 } as never)).toThrow("HuberLoss: unknown option beta");
  });
});
