import { describe, expect, test } from "vitest";
import { LlamaForCausalLM } from "../../models/llama.ts";
import { generate, textPrompt } from "../../src/generate/generate.ts";
import * as sg from "../../src/index.ts";
import {
  cat,
  crossEntropy,
  embedding,
  full,
  grad,
  layerNorm,
  manualSeed,
  rand,
  rmsNorm,
  scaledDotProductAttention,
  type Tensor,
  tensor,
  writeAt,
  zeros,
} from "../../src/index.ts";
import { AdamW, quantize, quantizedLinear } from "../../src/nn/index.ts";
import { int8Words, readInt8, writeInt8At } from "../../src/ops/int8.ts";
import { init } from "../../src/runtime/engine.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { random } from "../support/tensors.ts";

const LIMIT = 1 << 16; // bytes a binding
const small = { backend: "webgpu", limits: { maxStorageBufferBindingSize: LIMIT } } as const;

const values = (seed: number, shape: number[]): Tensor => random(shape, seed);
const ids = (n: number, below: number, shape = [n]): Tensor =>
  tensor(
    Int32Array.from({ length: n }, (_, i) => (i * 7919 + 13) % below),
    { shape },
  );

/** Graphs that a device with small bindings and the f64 interpreter both compute. */
const cases: Record<string, () => Tensor[]> = {
  elementwise: () => [
    values(1, [300, 201])
      .mul(values(2, [201]))
      .add(1)
      .tanh(),
  ],
  "a row longer than a binding": () => [
    values(1, [3, 20_001])
      .mul(2)
      .add(values(2, [3, 1])),
  ],
  "an index into the whole": () => {
    manualSeed(5);
    return [rand(150, 301)];
  },
  "a transposed copy": () => [
    values(1, [301, 150])
      .t()
      .add(values(2, [150, 301])),
  ],
  "parts of views": () => [
    values(1, [200, 300])
      .slice([
        [3, 190, 2],
        [5, 299],
      ])
      .flip([0, 1])
      .exp(),
    values(2, [40, 30, 50]).permute([2, 0, 1]).reshape([2000, 30]).mul(3),
  ],
  halves: () => {
    const table = values(3, [900, 62]).half();
    return [
      values(1, [200, 301]).half().mul(2).add(1),
      values(2, [300, 200]).half().t().mul(3),
      embedding(ids(20, 900), table),
      values(4, [5, 62]).half().matmul(table.t()),
    ].map((t) => t.float());
  },
  cat: () => [cat([values(1, [100, 201]), values(2, [150, 201]), values(3, [60, 201])], 0)],
  "reductions along any dim": () => {
    const x = values(1, [30, 20, 70]);
    return [
      x.square().sum(),
      x.sum(0),
      x.amax(1),
      x.mean(2),
      x.sum([0, 2]),
      x.amin([0, 1]),
      x.slice([[], [], [0, 3]]).prod(2),
    ];
  },
  "positions of extrema": () => {
    const x = values(1, [40, 900]);
    return [x.argmax(1), x.argmin(0), x.argmax()].map((t) => t.float());
  },
  "sums over transposed parts": () => [values(1, [300, 150]).t().mul(2).sum(0), values(1, [300, 150]).t().sum(1)],
  "products, every operand large": () => [
    values(1, [40, 30]).matmul(values(2, [30, 900])),
    values(1, [40, 30]).matmul(values(2, [900, 30]).t()),
    values(1, [8, 900]).matmul(values(2, [900, 40])),
    values(1, [900, 40])
      .t()
      .matmul(values(2, [900, 30])),
    values(1, [900, 40]).matmul(values(2, [40, 50])),
    values(1, [20, 30, 40]).matmul(values(2, [20, 40, 50])),
    values(1, [1, 40]).matmul(values(2, [900, 40]).t()),
  ],
  "products of few long rows": () => [
    values(1, [8, 4500]).matmul(values(2, [4500, 3])),
    values(1, [1, 3, 4500]).matmul(values(2, [64, 4500]).t()),
  ],
  "products of many rows with packed weights": () => {
    const [x, g] = [values(1, [50, 96]).requiresGrad_(), values(3, [50, 800])];
    const q = quantize(values(2, [800, 96]), [800, 96], { format: "int4" });
    const y = quantizedLinear(x, q);
    return [y.detach(), grad(y, [x], { gradOutput: g })[0].detach()];
  },
  "products with packed weights": () => {
    const [x, g] = [values(1, [5, 96]).requiresGrad_(), values(3, [5, 800])];
    const q = quantize(values(2, [800, 96]), [800, 96], { format: "int8" });
    const y = quantizedLinear(x, q);
    return [y.detach(), grad(y, [x], { gradOutput: g })[0].detach()];
  },
  "attention of many samples": () => {
    const [q, k, v] = [1, 2, 3].map((seed) => values(seed, [12, 4, 24, 16]).requiresGrad_());
    const y = scaledDotProductAttention(q, k, v, { isCausal: true });
    return [y, ...grad(y, [q, k, v], { gradOutput: values(4, [12, 4, 24, 16]) })].map((t) => t.detach());
  },
  "attention of many heads": () => {
    const [q, k, v] = [8, 4, 4].map((heads, seed) => values(seed, [1, heads, 90, 60]).requiresGrad_());
    const mask = values(5, [8, 90, 90]).gt(-0.5);
    const y = scaledDotProductAttention(q, k, v, { mask });
    const tokens = values(6, [1, 70, 8 * 60]).requiresGrad_(); // results lie as it does
    const split = (t: Tensor) => t.reshape([1, 70, 8, 60]).transpose(1, 2);
    const z = scaledDotProductAttention(split(tokens), split(tokens.mul(2)), split(tokens.neg()), { isCausal: true });
    return [
      y,
      ...grad(y, [q, k, v], { gradOutput: values(4, [1, 8, 90, 60]) }),
      z,
      ...grad(z, [tokens], { gradOutput: values(7, [1, 8, 70, 60]) }),
    ].map((t) => t.detach());
  },
  // Of a few heads whose slab of rows fits a binding, of one that does not, and of halves and int8.
  "a cache of keys and values": () =>
    [
      { heads: 6, rows: 300, dim: 24 },
      { heads: 2, rows: 901, dim: 20 },
    ].flatMap(({ heads, rows, dim }) =>
      (["f32", "f16", "int8"] as const).flatMap((dtype) => {
        const write = dtype === "int8" ? writeInt8At : writeAt;
        const empty = () =>
          dtype === "int8"
            ? full([2, heads, rows, int8Words(dim)], 0, { dtype: "u32" })
            : zeros([2, heads, rows, dim], { dtype });
        const starts = tensor(Int32Array.of(rows - 40, 130));
        const [k, v] = [1, 2].map((seed) =>
          write(
            write(empty(), values(seed, [2, heads, 40, dim]), tensor(Int32Array.of(0, 17))),
            values(seed + 2, [2, heads, 40, dim]),
            starts,
          ),
        );
        return [1, 40].map((T) =>
          scaledDotProductAttention(values(6, [2, 2 * heads, T, dim]), k, v, {
            isCausal: true,
            align: "bottom-right",
            lengths: starts.add(40),
          }),
        );
      }),
    ),
  // Rows that are too many for a binding, in order or as a permuted view.
  "many rows into a cache": () =>
    [
      [1, 1, 700, 40],
      [2, 3, 301, 20],
    ].flatMap(([B, H, t, D]) =>
      (["f32", "f16", "int8"] as const).flatMap((dtype) => {
        const empty = (): Tensor =>
          dtype === "int8" ? full([B, H, 720, int8Words(D)], 0, { dtype: "u32" }) : full([B, H, 720, D], 2, { dtype });
        const write = dtype === "int8" ? writeInt8At : writeAt;
        const rows = [values(1, [B, H, t, D]), values(2, [B, t, H, D]).transpose(1, 2)];
        return rows.map((value) => {
          const cache = write(empty(), value, tensor(Int32Array.from({ length: B }, (_, b) => 3 + 16 * b)));
          return dtype === "int8" ? readInt8(cache, D) : cache.to("f32");
        });
      }),
    ),
  "rows by index": () => {
    const table = values(1, [900, 31]);
    return [
      embedding(ids(60, 900, [3, 20]), table),
      table.gather(0, ids(62, 900, [2, 31])),
      values(2, [40, 900]).gather(1, ids(40, 900, [40, 1])),
      table.indexAdd(0, ids(70, 900), values(3, [70, 31])),
      table.scatterAdd(0, ids(62, 900, [2, 31]), values(3, [2, 31])),
    ];
  },
  "writes at positions": () => {
    const table = values(1, [900, 31]);
    const [at, source] = [ids(30_000, 900, [1000, 30]), values(2, [1000, 30])];
    return [
      table.atSet([ids(70, 900)], values(3, [70, 31])),
      table.atSet([ids(30_000, 900), ids(30_000, 31)], values(4, [30_000])),
      table.atSet(
        [
          [5, 880, 3],
          [null, -1],
        ],
        2,
      ),
      table.scatter(0, at, source),
      table.scatterAdd(0, at, source),
      table.scatterReduce(0, at, source, "amax"),
      table.scatterReduce(0, at.slice([[0, 30]]), source, "prod"),
      values(5, [31, 900]).scatterReduce(1, at.slice([[0, 700]]).t(), source.t(), "amin", { includeSelf: false }),
      values(6, [1000, 40]).scatterReduce(1, at.mod(40), source, "mean"),
      table.indexFill(0, ids(70, 900), 3),
      sg.tril(table, -3).diagonal({ offset: -4 }),
      sg.pad(table, [2, 3, 4, 5], { mode: "reflect" }),
      table.at(ids(700, 900), ids(700, 31)),
    ];
  },
  "rows by themselves": () => {
    const x = values(1, [60, 500]);
    return [
      x.softmax(-1),
      x.logSoftmax(-1),
      x.cumsum(-1),
      x.topk(3).values,
      layerNorm(x, values(2, [500]), values(3, [500])),
      rmsNorm(values(1, [5, 12, 500]), values(2, [500])),
      crossEntropy(x, ids(60, 500), { reduction: "none" }),
    ];
  },
  gradients: () => {
    const [w, x, scale] = [values(1, [900, 31]), values(2, [40, 31]), values(3, [31])].map((t) => t.requiresGrad_());
    const logits = rmsNorm(x.add(embedding(ids(40, 900), w)), scale).matmul(w.t());
    crossEntropy(logits, ids(40, 900)).backward();
    return [w.grad!, x.grad!, scale.grad!];
  },
};

describe("tensors larger than a binding", () => {
  test.each(Object.keys(cases))("%s", async (name) => {
    await init({ backend: "reference" });
    const want: ArrayLike<number>[] = [];
    for (const t of cases[name]()) want.push(await t.data());
    await init(small);
    expect(currentDevice()!.info.maxBindingBytes).toBe(LIMIT);
    const got: ArrayLike<number>[] = [];
    for (const t of cases[name]()) got.push(await t.data());
    got.forEach((x, i) => {
      expect(x.length).toBe(want[i].length);
      const scale = Math.max(...Array.from(want[i], Math.abs));
      const error = Math.max(...Array.from(x, (v, k) => Math.abs(v - want[i][k])));
      expect(error / scale, `result ${i}`).toBeLessThan(name === "halves" ? 2e-3 : 3e-5);
    });
  });

  test("what cannot be split says so", async () => {
    await init(small);
    await expect(values(1, [1, 40_000]).softmax(-1).cumsum(-1).data()).rejects.toThrow(/scan: it binds 160000 bytes/);
    expect(await tensor([1, 2]).sum().item()).toBe(3);
  });
});

test.each(["f32", "int8"] as const)("a LLaMA with a large vocabulary trains and answers alike (%s)", async (states) => {
  const config = {
    vocab_size: 1000,
    hidden_size: 48,
    intermediate_size: 96,
    num_hidden_layers: 1,
    num_attention_heads: 3,
    num_key_value_heads: 3,
    eos_token_id: -1,
    tie_word_embeddings: false,
  };
  const run = async (options: Parameters<typeof init>[0]) => {
    await init(options);
    manualSeed(4);
    const model = new LlamaForCausalLM(config);
    const optimizer = new AdamW(model.parameters(), { lr: 3e-3, maxNorm: 1, states });
    const tokens = ids(64, 1000, [2, 32]);
    const losses: number[] = [];
    for (let step = 0; step < 4; step++) {
      const { logits } = model.forward({ inputIds: tokens });
      const loss = crossEntropy(logits.reshape([64, 1000]), ids(64, 1000));
      optimizer.zeroGrad();
      loss.backward();
      await optimizer.step();
      losses.push(await loss.item());
    }
    const prompt = textPrompt(model, [[5, 17, 31], [8]]);
    return { losses, said: await generate(model, prompt, { maxNewTokens: 8 }) };
  };
  const want = await run({ backend: "webgpu" });
  const got = await run(small);
  got.losses.forEach((loss, i) => expect(loss).toBeCloseTo(want.losses[i], 4));
  expect(got.losses[3]).toBeLessThan(got.losses[0]);
  expect(got.said).toEqual(want.said);
});

test("a prompt whose keys are larger than a binding is remembered", async () => {
  const config = { vocab_size: 100, hidden_size: 48, intermediate_size: 64, num_hidden_layers: 1, eos_token_id: -1 };
  const run = async (options: Parameters<typeof init>[0]) => {
    await init(options);
    manualSeed(6);
    const model = new LlamaForCausalLM({ ...config, num_attention_heads: 1, num_key_value_heads: 1 });
    const prompt = Array.from({ length: 400 }, (_, i) => (i * 37 + 11) % 100); // 400 keys of 48 numbers
    return generate(model, textPrompt(model, [prompt]), { maxNewTokens: 6 });
  };
  expect(await run(small)).toEqual(await run({ backend: "webgpu" }));
});
