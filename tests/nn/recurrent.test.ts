import { beforeAll, describe, expect, test } from "vitest";
import { GRU, GRUCell, LSTM, LSTMCell, RNN, RNNCell } from "../../src/nn/index.ts";
import { manualSeed, rand, randn, stack, zeros } from "../../src/ops/functional.ts";
import { gru, lstm, rnn } from "../../src/ops/recurrent.ts";
import { init } from "../../src/runtime/engine.ts";
import { explain } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

beforeAll(async () => {
  await init({ backend: "reference" });
  manualSeed(5);
});

describe("recurrent layers", () => {
  test("a layer is its cell, step by step", async () => {
    const [layer, cell] = [new LSTM(3, 4), new LSTMCell(3, 4)];
    const state = layer.stateDict();
    cell.loadStateDict(Object.fromEntries(Object.entries(state).map(([name, p]) => [name.replace("_l0", ""), p])));
    const x = randn(5, 2, 3);
    const [out, [hn, cn]] = layer.forward(x);
    let [h, c] = cell.forward(x.select(0, 0));
    const steps = [h];
    for (let t = 1; t < 5; t++) {
      [h, c] = cell.forward(x.select(0, t), [h, c]);
      steps.push(h);
    }
    const distance = (a: typeof h, b: typeof h) => a.sub(b).abs().max().item();
    expect(await distance(out, stack(steps))).toBeLessThan(1e-6);
    expect(await distance(hn, h.unsqueeze(0))).toBeLessThan(1e-6);
    expect(await distance(cn, c.unsqueeze(0))).toBeLessThan(1e-6);
  });

  test("only the last state is used: its gradient alone goes back", async () => {
    for (const layer of [new LSTM(2, 3), new GRU(2, 3), new RNN(2, 3)]) {
      const x = randn(4, 1, 2).requiresGrad_();
      const [, last] = layer.forward(x);
      const hn = Array.isArray(last) ? last[1] : last; // of the LSTM the cell state
      hn.square().sum().backward();
      expect(layer.parameters().every((p) => p.grad)).toBe(true);
      expect((await x.grad!.abs().sum([1, 2]).tolist()) as number[]).not.toContain(0);
    }
  });

  test("halves stay halves", async () => {
    const [out] = new GRU(2, 3).to("f16").forward(randn(2, 1, 2).half());
    expect(out.dtype).toBe("f16");
    expect((await out.data()).every(Number.isFinite)).toBe(true);
  });

  test("a batch of 0 gives no outputs and gradients of 0", async () => {
    const layer = new LSTM(2, 3);
    const [out] = layer.forward(zeros(4, 0, 2));
    expect(out.shape).toEqual([4, 0, 3]);
    out.sum().backward();
    expect(await layer.parameters()[0].grad!.abs().max().item()).toBe(0);
  });

  test("dropout acts between layers, in training alone", async () => {
    const layer = new RNN(2, 3, { numLayers: 2, dropout: 0.9 });
    const x = randn(3, 1, 2);
    const out = async () => [...(await layer.forward(x)[0].data())];
    expect(await out()).not.toEqual(await out());
    layer.eval();
    expect(await out()).toEqual(await out());
  });

  test("bad arguments are errors at the call", () => {
    expect(() => new LSTM(2, 0)).toThrow("LSTM: hiddenSize must be a positive integer, got 0");
    expect(() => new LSTM(2, 3, { layers: 2 } as never)).toThrow("LSTM: unknown option layers");
    expect(() => new LSTM(2, 3, { projSize: 3 })).toThrow("LSTM: projSize must be below hiddenSize 3, got 3");
    expect(() => new GRU(2, 3, { projSize: 2 } as never)).toThrow("GRU: unknown option projSize");
    expect(() => new GRU(2, 3, { dropout: 1.5 })).toThrow("GRU: dropout must be in [0, 1), got 1.5");
    expect(() => new RNN(2, 3, { nonlinearity: "gelu" as never })).toThrow('RNN: unknown nonlinearity "gelu"');
    expect(() => new GRU(2, 3).forward(rand(4, 1, 3))).toThrow(
      "GRU: expected [T, N, I] or [T, I] with I = 2, got [4,1,3]",
    );
    expect(() => new GRU(2, 3).forward(rand(4, 1, 2), rand(1, 2, 3))).toThrow(
      "GRU: expected an initial state [1,1,3], got [1,2,3]",
    );
    expect(() => new GRU(2, 3).forward(zeros(0, 1, 2))).toThrow("GRU: expected at least one step, got [0,1,2]");
    expect(() => new RNNCell(2, 3).forward(rand(4, 3))).toThrow("RNNCell: expected [N, 2] or [2], got [4,3]");
    expect(() => new GRUCell(2, 3).forward(rand(4, 2), rand(4, 2))).toThrow(
      "GRUCell: expected a state [4,3], got [4,2]",
    );
    const forward = { reverse: false };
    expect(() => gru(rand(2, 1, 6), rand(1, 2), rand(5, 2), undefined, forward)).toThrow(
      "gru: inputs [2,1,6], h0 [1,2] and weight [5,2] do not fit",
    );
    expect(() => gru(rand(2, 1, 6), rand(1, 2), rand(6, 2), rand(5), forward)).toThrow(
      "gru: bias must be [6], got [5]",
    );
    expect(() => lstm(rand(2, 1, 8), rand(1, 1), rand(1, 2), rand(8, 1), rand(2, 2), forward)).toThrow(
      "lstm: c0 [1,2] and projection [2,2] do not fit",
    );
    expect(() => rnn(rand(2, 1, 2), rand(2, 2), rand(2, 2), { ...forward, nonlinearity: "tanh" })).toThrow(
      "rnn: inputs",
    );
  });
});

describe("on the device", () => {
  beforeAll(() => init({ backend: "webgpu" }));

  test("a step of an LSTM is a product and two elementwise kernels; of its gradient, two kernels", async () => {
    const layer = new LSTM(16, 32);
    const kernels = async (T: number) => {
      const x = rand(T, 1, 16);
      const [out] = layer.forward(x);
      for (const p of layer.parameters()) p.grad = null;
      const count = async (...wanted: Tensor[]) => {
        const lines = (await explain(...wanted)).trim().split("\n");
        return lines.filter((line) => !line.includes("pad")).length; // pads join the steps, 8 at a time
      };
      const forward = await count(out);
      out.sum().backward();
      const both = await count(out, ...layer.parameters().map((p) => p.grad!));
      return { forward, both };
    };
    const [short, long] = [await kernels(9), await kernels(17)];
    expect(long.forward - short.forward).toBeLessThanOrEqual(8 * 3);
    expect(long.both - short.both).toBeLessThanOrEqual(8 * 5 + 2); // and two more joins
  });
});
