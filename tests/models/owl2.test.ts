import { beforeAll, describe, expect, test } from "vitest";
import { MplugOwl2, type MplugOwl2Config } from "../../models/owl2.ts";
import { generate } from "../../src/generate/generate.ts";
import { manualSeed, rand, type Tensor, tensor } from "../../src/index.ts";
import { openCheckpoint } from "../../src/io/index.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { setParameter } from "../../src/nn/index.ts";
import { openBackend } from "../support/backend.ts";
import { uniform } from "../support/f64.ts";
import {
  add,
  attention,
  layerNorm,
  linear,
  type Matrix,
  mul,
  rmsNorm,
  rotate,
  rows,
  silu,
  softmax,
  type Weights,
} from "../support/plain.ts";
import { tinyOwl2 } from "../support/tiny-owl2.ts";

const config: MplugOwl2Config = { ...tinyOwl2, vocab_size: 20, rms_norm_eps: 1e-5, eos_token_id: 2 };
const IMAGE = -200;
const ids = (...list: number[][]) => tensor(list, { dtype: "i32" });

/** Sines and cosines of positions, [sin | cos] (the reference's get_1d_sincos_pos_embed_from_grid). */
const sinCos = (positions: number[], dim: number): Matrix =>
  positions.map((p) => {
    const angles = Array.from({ length: dim / 2 }, (_, j) => p / 10000 ** (j / (dim / 2)));
    return [...angles.map(Math.sin), ...angles.map(Math.cos)];
  });

/** The abstractor on the vision tower's states (golden case mplug-owl has the tower itself). */
function abstractor(w: Weights, features: Matrix): Matrix {
  const at = "visual_abstractor.encoder.layers";
  const cells = Array.from({ length: 9 }, (_, i) => i);
  const horizontal = sinCos(
    cells.map((i) => i % 3),
    8,
  ); // the width's grid comes first
  const vertical = sinCos(
    cells.map((i) => Math.floor(i / 3)),
    8,
  );
  const queryPlaces = sinCos([0, 1, 2, 3, 4], 16);
  const places = [
    ...queryPlaces,
    new Array<number>(16).fill(0),
    ...horizontal.map((row, i) => [...row, ...vertical[i]]),
  ];
  let x = rows(w["visual_abstractor.query_embeds"]);
  for (let i = 0; i < 2; i++) {
    const name = `${at}.${i}.crossattention`;
    const q = layerNorm(w, `${name}.norm1`, x, 1e-5);
    const source = [...q, ...layerNorm(w, `${name}.normk`, features, 1e-5)];
    const mixed = attention(
      linear(w, `${name}.attention.query`, add(q, queryPlaces)),
      linear(w, `${name}.attention.key`, add(source, places)),
      linear(w, `${name}.attention.value`, source),
      ...([2, 2, false] as const),
    );
    const y = add(q, linear(w, `${name}.output.out_proj`, mixed));
    const h = layerNorm(w, `${name}.output.norm2`, y, 1e-5);
    const mlp = `${name}.output.mlp`;
    const inner = layerNorm(w, `${mlp}.ffn_ln`, mul(silu(linear(w, `${mlp}.w1`, h)), linear(w, `${mlp}.w3`, h)), 1e-6);
    x = add(y, linear(w, `${mlp}.w2`, inner));
  }
  return [...linear(w, "visual_abstractor.visual_fc", x), ...rows(w["visual_abstractor.vit_eos"])];
}

/** Logits of the decoder; `image` says which rows are image features. */
function decoder(w: Weights, embeds: Matrix, image: readonly boolean[]): Matrix {
  /** Rows through the layer of their modality. */
  const ways = (run: (name: string, x: Matrix) => Matrix, name: string, x: Matrix) => {
    const [text, visual] = [0, 1].map((way) => run(`${name}.multiway.${way}`, x));
    return x.map((_, i) => (image[i] ? visual[i] : text[i]));
  };
  const project = (name: string, x: Matrix) => linear(w, name, x);
  const norm = (name: string, x: Matrix) => rmsNorm(w, name, x, 1e-5);
  let x = embeds;
  for (let i = 0; i < 2; i++) {
    const name = `language_model.model.layers.${i}`;
    const h = ways(norm, `${name}.input_layernorm`, x);
    const q = rotate(linear(w, `${name}.self_attn.q_proj`, h), 4);
    const k = rotate(ways(project, `${name}.self_attn.k_proj`, h), 2);
    const v = ways(project, `${name}.self_attn.v_proj`, h);
    x = add(x, linear(w, `${name}.self_attn.o_proj`, attention(q, k, v, 4, 2, true)));
    const m = ways(norm, `${name}.post_attention_layernorm`, x);
    const gate = silu(linear(w, `${name}.mlp.gate_proj`, m));
    x = add(x, linear(w, `${name}.mlp.down_proj`, mul(gate, linear(w, `${name}.mlp.up_proj`, m))));
  }
  return linear(w, "language_model.lm_head", norm("language_model.model.norm", x));
}

/** Logits of one sample whose placeholder is IMAGE. */
function reference(w: Weights, sample: readonly number[], features: Matrix): Matrix {
  const words = rows(w["language_model.model.embed_tokens.weight"]);
  const tokens = sample.includes(IMAGE) ? abstractor(w, features) : [];
  const embeds = sample.flatMap((id) => (id === IMAGE ? tokens : [words[id]]));
  const image = sample.flatMap((id) => (id === IMAGE ? tokens.map(() => true) : [false]));
  return decoder(w, embeds, image);
}

const weightsOf = async (model: MplugOwl2): Promise<Weights> =>
  Object.fromEntries(
    await Promise.all(
      Object.entries(model.stateDict()).map(async ([name, t]) => [
        name,
        { shape: t.shape, data: (await t.data()).slice() },
      ]),
    ),
  );
const close = (got: ArrayLike<number>, want: Matrix, digits = 4) => {
  const flat = want.flat();
  expect(got.length).toBe(flat.length);
  flat.forEach((x, i) => expect(got[i], `at ${i}`).toBeCloseTo(x, digits));
};

describe("mPLUG-Owl2 against the equations in f64", () => {
  let model: MplugOwl2;
  let w: Weights;
  let pixelValues: Tensor;
  let features: Matrix;
  beforeAll(async () => {
    await openBackend();
    manualSeed(2);
    model = new MplugOwl2(config);
    Object.entries(model.stateDict()).forEach(([name, t], i) => {
      if (name.endsWith("pos_embed")) return;
      const near = /norm|_ln/.test(name) && name.endsWith("weight") ? 1 : 0;
      setParameter(t, {
        data: Float32Array.from(uniform(t.numel, near - 0.4, near + 0.4, i + 3)),
        shape: t.shape,
        dtype: "f32",
      });
    });
    w = await weightsOf(model);
    pixelValues = rand(1, 3, 12, 12).keep();
    features = rows({ shape: [10, 16], data: await model.visionFeatures(pixelValues).data() });
  });

  test("the abstractor with its positions", async () => {
    close(await model.imageFeatures(pixelValues).data(), abstractor(w, features), 5);
  });

  test("logits with an image, without one, and of both in one padded batch", async () => {
    const [seen, plain] = [
      [1, IMAGE, 4, 5],
      [1, 7, 8, 9, 10, 11],
    ];
    const want = [reference(w, seen, features), reference(w, plain, features)];
    close(await model.forward({ inputIds: ids(seen), pixelValues }).logits.data(), want[0]);
    close(await model.forward({ inputIds: ids(plain) }).logits.data(), want[1]);
    const { logits } = model.forward({
      inputIds: ids([...seen, 0, 0], plain),
      attentionMask: ids([1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]),
      pixelValues,
    });
    close(await logits.select(0, 0).narrow(0, 0, want[0].length).data(), want[0]);
    close(await logits.select(0, 1).narrow(0, 0, want[1].length).data(), want[1]);
  });

  test("loss, and gradients of both ways by differences of the reference", async () => {
    const sample = [1, IMAGE, 4, 5, 6];
    const labels = [-100, -100, 4, 5, 6];
    const lossOf = (weights: Weights) => {
      const logits = reference(weights, sample, features);
      return -[4, 5, 6].reduce((sum, id, i) => sum + Math.log(softmax(logits[6 + i])[id]), 0) / 3;
    };
    const loss = model.loss({ inputIds: ids(sample), labels: ids(labels), pixelValues });
    loss.backward();
    expect(await loss.item()).toBeCloseTo(lossOf(w), 4);
    const state = model.stateDict();
    const checked = [0, 1].flatMap((way) =>
      ["self_attn.k_proj", "self_attn.v_proj", "input_layernorm", "post_attention_layernorm"].map(
        (part) => `language_model.model.layers.0.${part}.multiway.${way}.weight`,
      ),
    );
    for (const name of [...checked, "visual_abstractor.query_embeds", "visual_abstractor.vit_eos"]) {
      const grad = await state[name].grad!.data();
      for (const i of [0, 13]) {
        const moved = [1e-4, -1e-4].map((step) => {
          const data = Float64Array.from(w[name].data);
          data[i] += step;
          return lossOf({ ...w, [name]: { shape: w[name].shape, data } });
        });
        expect(grad[i], `${name}[${i}]`).toBeCloseTo((moved[0] - moved[1]) / 2e-4, 4);
      }
    }
    expect(state["visual_abstractor.encoder.layers.0.crossattention.attention.k_pos_embed"].requiresGrad).toBe(false);
    for (const p of model.parameters()) p.grad = null;
  });

  test("greedy tokens: the image is read as image, new tokens as text", async () => {
    const sample = [1, IMAGE, 4, 5];
    const [got] = await generate(model.language_model, model.prompt({ inputIds: ids(sample), pixelValues }), {
      maxNewTokens: 5,
      eosTokenId: [],
    });
    const want: number[] = [];
    for (let i = 0; i < 5; i++) {
      const last = reference(w, [...sample, ...want], features).pop()!;
      want.push(last.indexOf(Math.max(...last)));
    }
    expect(got).toEqual(want);
  });

  test("a saved folder has the reference's names and loads as the same model", async () => {
    const files = memoryFiles();
    await model.savePretrained(files);
    const { tensors } = await openCheckpoint(files);
    for (const name of [
      "lm_head.weight",
      "model.embed_tokens.weight",
      "model.layers.1.self_attn.k_proj.multiway.1.weight",
      "model.layers.1.input_layernorm.multiway.0.weight",
      "model.vision_model.encoder.layers.0.self_attn.query_key_value.weight",
      "model.visual_abstractor.query_embeds",
      "model.visual_abstractor.encoder.layers.1.crossattention.attention.q_pos_embed",
    ])
      expect(tensors.names).toContain(name);
    const again = await MplugOwl2.fromPretrained(files);
    const input = { inputIds: ids([1, IMAGE, 4]), pixelValues };
    const [a, b] = await Promise.all([model, again].map((m) => m.forward(input).logits.data()));
    close(a, [Array.from(b)], 6);
  });
});
