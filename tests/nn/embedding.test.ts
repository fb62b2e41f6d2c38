import { beforeAll, describe, expect, test } from "vitest";
import { Embedding, EmbeddingBag } from "../../src/nn/index.ts";
import { embedding, embeddingBag, rand, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";

beforeAll(() => init({ backend: "reference" }));

const ids = (...values: number[]) => tensor(Int32Array.from(values));

describe("Embedding", () => {
  test("the padding row starts at 0 and never trains", async () => {
    const layer = new Embedding(4, 2, { paddingIdx: -1 });
    expect((await layer.weight.tolist())[3 as never]).toEqual([0, 0]);
    layer
      .forward(ids(3, 1, 3))
      .sum()
      .backward();
    expect(await layer.weight.grad!.tolist()).toEqual([
      [0, 0],
      [1, 1],
      [0, 0],
      [0, 0],
    ]);
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new Embedding(4, 2, { paddingIdx: 4 })).toThrow("Embedding: paddingIdx must be -4 to 3, got 4");
    expect(() => new Embedding(4, 2, { maxNorm: 1 } as never)).toThrow("Embedding: unknown option maxNorm");
    expect(() => embedding(ids(0), rand(3, 2), { paddingIdx: 3 })).toThrow(
      "embedding: paddingIdx 3 is not a row of [3,2]",
    );
    expect(() => embedding(ids(3), rand(3, 2))).toThrow("index 3 is out of range for size 3");
    expect(() => embedding(rand(2), rand(3, 2))).toThrow("embedding: indices must be i32 or u32, got f32");
  });
});

describe("EmbeddingBag", () => {
  const weight = tensor([
    [1, -1],
    [2, -2],
    [4, 8],
  ]);

  test("empty bags, and bags of padding alone, are 0", async () => {
    for (const mode of ["sum", "mean", "max"] as const) {
      const offsets = ids(0, 2, 2);
      const out = embeddingBag(ids(0, 1, 2), weight, { offsets, mode, paddingIdx: 2 });
      const first = { sum: [3, -3], mean: [1.5, -1.5], max: [2, -1] }[mode];
      expect(await out.tolist()).toEqual([first, [0, 0], [0, 0]]);
      const square = tensor(Int32Array.of(0, 1, 2, 2), { shape: [2, 2] });
      expect(await embeddingBag(square, weight, { mode, paddingIdx: 2 }).tolist()).toEqual([first, [0, 0]]);
    }
  });

  test("ids after the last offset belong to no bag", async () => {
    const layer = new EmbeddingBag(3, 2, { mode: "sum", includeLastOffset: true });
    layer.loadStateDict({ weight });
    expect(await layer.forward(ids(0, 1, 2, 2), ids(0, 1, 3)).tolist()).toEqual([
      [1, -1],
      [6, 6],
    ]);
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new EmbeddingBag(3, 2, { mode: "min" as never })).toThrow('EmbeddingBag: unknown mode "min"');
    expect(() => embeddingBag(ids(0), weight)).toThrow(
      "ids [1] and offsets none: expected ids [B, L], or ids [n] with offsets [B]",
    );
    expect(() => embeddingBag(ids(0, 1), weight, { offsets: ids(1) })).toThrow("offsets start at 1");
    expect(() => embeddingBag(ids(0, 1), weight, { offsets: ids(0, 3) })).toThrow("index 3 is out of range for size 3");
    expect(() => embeddingBag(ids(0), weight, { offsets: ids(0), perSampleWeights: rand(1) })).toThrow(
      "mode mean: expected the shape of ids [1], and mode sum",
    );
    expect(() => embeddingBag(ids(0).reshape([1, 1]), weight, { includeLastOffset: true })).toThrow(
      "includeLastOffset needs offsets",
    );
  });
});
