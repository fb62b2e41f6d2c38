import { beforeAll, describe, expect, test } from "vitest";
import { layOut, positionsOf } from "../../models/batch.ts";
import { completeConfig } from "../../models/checkpoints/llava.ts";
import { Llava } from "../../models/llava.ts";
import { cat, init, manualSeed, rand, type Tensor, tensor } from "../../src/index.ts";
import { openCheckpoint, saveCheckpoint } from "../../src/io/huggingface.ts";
import { memoryFiles, subfolder } from "../../src/io/source.ts";
import { IMAGE, tinyConfig } from "../support/tiny-llava.ts";

const config = tinyConfig({ text: { num_key_value_heads: 1, rms_norm_eps: 1e-5 } });
const ids = (...rows: number[][]) => tensor(rows, { dtype: "i32" });
const pixels = (n: number) => rand(n, 3, 4, 4);
const close = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a, (x, i) => expect(x).toBeCloseTo(b[i], 5));
const logitsAt = async (logits: Tensor, sample: number, position: number) =>
  (await logits.select(0, sample).select(0, position).data()).slice();

let model: Llava;
async function setUp(backend: "reference" | "webgpu"): Promise<void> {
  await init({ backend });
  manualSeed(3);
  model = new Llava(config);
}

describe.each(["webgpu", "reference"] as const)("images among words (%s)", (backend) => {
  beforeAll(() => setUp(backend));

  test("one placeholder, or one for each position, give the same sequence", async () => {
    const pixelValues = pixels(1);
    const short = model.forward({ inputIds: ids([1, IMAGE, 2, 3]), pixelValues });
    const long = model.forward({ inputIds: ids([1, IMAGE, IMAGE, IMAGE, IMAGE, 2, 3]), pixelValues });
    expect(short.logits.shape).toEqual([1, 7, 12]);
    close(await short.logits.data(), await long.logits.data());
  });

  test("padding on either side, other samples and text-only ones change nothing", async () => {
    const pixelValues = pixels(1);
    const alone = model.forward({ inputIds: ids([1, IMAGE, 2, 3]), pixelValues });
    const want = await logitsAt(alone.logits, 0, 6);
    const right = model.forward({
      inputIds: ids([4, 5, 6, 7, 8], [1, IMAGE, 2, 3, 0]),
      attentionMask: ids([1, 1, 1, 1, 1], [1, 1, 1, 1, 0]),
      pixelValues,
    });
    expect(right.logits.shape).toEqual([2, 7, 12]);
    close(await logitsAt(right.logits, 1, 6), want);
    const left = model.forward({
      inputIds: ids([1, IMAGE, 2, 3, 4], [0, 1, 5, 2, 3]),
      attentionMask: ids([1, 1, 1, 1, 1], [0, 1, 1, 1, 1]),
      pixelValues,
    });
    expect(left.logits.shape).toEqual([2, 8, 12]);
    expect([...(await left.attentionMask.data())].slice(8)).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
    close(await logitsAt(left.logits, 0, 6), want);
    const words = model.forward({ inputIds: ids([1, 5, 2, 3]) });
    close(await logitsAt(left.logits, 1, 7), await logitsAt(words.logits, 0, 3));
  });

  test("rounds packed after one image equal conversations of one round", async () => {
    const pixelValues = pixels(1);
    const packed = model.forward({
      inputIds: ids([1, IMAGE, 2, 3, 4, 5, 6, 7, 0]),
      segments: ids([0, 0, 1, 1, 2, 2, 2, 3, -1]),
      pixelValues,
    });
    expect([...(await packed.decoder.positions.data())]).toEqual([0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 5]);
    for (const [turn, at] of [
      [[2, 3], 6],
      [[4, 5, 6], 9],
      [[7], 10],
    ] as const) {
      const alone = model.forward({ inputIds: ids([1, IMAGE, ...turn]), pixelValues });
      close(await logitsAt(packed.logits, 0, at), await logitsAt(alone.logits, 0, 4 + turn.length));
    }
  });

  test("images in one common place are joined as images anywhere are", async () => {
    const [a, b] = [pixels(1), pixels(1)];
    const alone = [
      model.forward({ inputIds: ids([1, IMAGE, 2, 3]), pixelValues: a }),
      model.forward({ inputIds: ids([4, 5, IMAGE, 6]), pixelValues: b }),
    ];
    const want = [await logitsAt(alone[0].logits, 0, 6), await logitsAt(alone[1].logits, 0, 6)];
    const common = model.forward({ inputIds: ids([1, IMAGE, 2, 3], [1, IMAGE, 2, 3]), pixelValues: cat([b, a]) });
    close(await logitsAt(common.logits, 1, 6), want[0]);
    const apart = model.forward({ inputIds: ids([1, IMAGE, 2, 3], [4, 5, IMAGE, 6]), pixelValues: cat([a, b]) });
    close(await logitsAt(apart.logits, 0, 6), want[0]);
    close(await logitsAt(apart.logits, 1, 6), want[1]);
    const first = model.forward({ inputIds: ids([IMAGE, 2]), pixelValues: a }).logits;
    const last = model.forward({ inputIds: ids([IMAGE, 2], [2, IMAGE]), pixelValues: cat([a, b]) }).logits;
    close(await logitsAt(last, 0, 4), await logitsAt(first, 0, 4));
  });

  test("an image of several tiles is one run of their tokens, in order, with slots added", async () => {
    const tiled = new Llava({ ...config, projector_pixel_shuffle: 2, projector_mean_token: true, projector_slots: 8 });
    const pixelValues = pixels(4);
    const features = tiled.imageFeatures(pixelValues, 4);
    expect(features.shape).toEqual([1, 8, 16]);
    const single = tiled.imageFeatures(pixelValues.narrow(0, 1, 1));
    close(await features.narrow(1, 2, 2).data(), await single.data());
    const { logits } = tiled.forward({ inputIds: ids([1, IMAGE, 2]), pixelValues, tilesPerImage: 4 });
    expect(logits.shape).toEqual([1, 10, 12]);
    expect(() => tiled.imageFeatures(pixels(3), 2)).toThrow("3 tiles do not make images of 2");
  });

  test("the layers after the chosen one do not matter", async () => {
    const pixelValues = pixels(1);
    const before = await model.imageFeatures(pixelValues).data();
    const last = (model.vision_tower as any).vision_model.encoder.layers[1].mlp.fc1;
    const kept = last.weight;
    last.weight = kept.detach().add(1);
    close(await model.imageFeatures(pixelValues).data(), before);
    last.weight = kept;
  });

  test("a fixed length makes one shape of all batches", () => {
    const { logits } = model.forward({ inputIds: ids([1, IMAGE, 2]), pixelValues: pixels(1), padTo: 11 });
    expect(logits.shape).toEqual([1, 11, 12]);
  });
});

describe("loss", () => {
  beforeAll(() => setUp("reference"));

  test("is the mean over labels of the full logits, images apart", async () => {
    const input = { inputIds: ids([1, IMAGE, 2, 3, 4]), labels: ids([-100, -100, -100, 3, 4]), pixelValues: pixels(1) };
    const { logits } = model.forward(input);
    const log = logits.logSoftmax(-1);
    const want = -((await log.data())[5 * 12 + 3] + (await log.data())[6 * 12 + 4]) / 2;
    expect(await model.loss(input).item()).toBeCloseTo(want, 5);
  });

  test("reaches projector, words and tower", () => {
    model.loss({ inputIds: ids([1, IMAGE, 2, 3]), labels: ids([-100, -100, 2, 3]), pixelValues: pixels(1) }).backward();
    const graded = [...model.namedParameters()].filter(([, p]) => p.grad).map(([name]) => name);
    expect(graded).toContain("multi_modal_projector.linear_1.weight");
    expect(graded).toContain("language_model.model.embed_tokens.weight");
    expect(graded).toContain("vision_tower.vision_model.embeddings.class_embedding");
    expect(graded.some((name) => name.includes("encoder.layers.1.") || name.includes("post_layernorm"))).toBe(false);
    model.parameters().forEach((p) => (p.grad = null));
  });
});

describe("bad input is named", () => {
  const run = (input: Parameters<Llava["forward"]>[0]) => () => model.forward(input);
  test.each([
    [
      "an image token without an image",
      () => run({ inputIds: ids([1, IMAGE, 2]) }),
      "sample 0 has 1 image token(s), but no image is given",
    ],
    [
      "too many images",
      () => run({ inputIds: ids([1, 2], [1, IMAGE]), pixelValues: pixels(3) }),
      "3 image(s) need 3 image token(s) (or 12, one for each position), the batch has 1: sample 0 has 0, sample 1 has 1",
    ],
    [
      "an id outside the vocabulary",
      () => run({ inputIds: ids([1, 2], [3, 12]) }),
      "token id 12 in sample 1 is outside the vocabulary of 12",
    ],
    [
      "a mask of another shape",
      () => run({ inputIds: ids([1, 2]), attentionMask: ids([1, 1, 1]) }),
      "attentionMask has shape [1,3], inputIds [1,2]",
    ],
    [
      "pixels of another size",
      () => run({ inputIds: ids([IMAGE]), pixelValues: rand(1, 3, 8, 8) }),
      "pixels have shape [1,3,8,8], expected [N,3,4,4]",
    ],
    [
      "ids that are not on the host",
      () => run({ inputIds: ids([1, 2]).add(1) }),
      "inputIds must be a matrix [B,T] given from the host",
    ],
    [
      "a batch of padding",
      () => run({ inputIds: ids([1, 2]), attentionMask: ids([0, 0]) }),
      "the batch has no tokens, only padding",
    ],
    [
      "a length too short",
      () => run({ inputIds: ids([1, 2, 3]), padTo: 2 }),
      "a sample is 3 tokens long with its images, it does not fit 2",
    ],
    [
      "no label at all",
      () => () => model.loss({ inputIds: ids([1, 2]), labels: ids([-100, -100]) }),
      "all labels of sample 0 of [1,2] are -100",
    ],
    [
      "a sample without a label, among others",
      () => () => model.loss({ inputIds: ids([1, 2], [3, 4]), labels: ids([-100, 2], [4, -100]) }),
      "all labels of sample 1 of [2,2] are -100",
    ],
    [
      "a label outside the vocabulary",
      () => () => model.loss({ inputIds: ids([1, 2]), labels: ids([-100, 12]) }),
      "label 12 of sample 0 at 1 is outside the vocabulary of 12",
    ],
  ])("%s", (_, make, message) => expect(make()).toThrow(message));

  test("a run of image tokens cut between samples", () => {
    const split = { counts: [2, 2], isImage: (id: number) => id === IMAGE, segments: new Int32Array(8) };
    expect(() => layOut(ids([1, IMAGE, IMAGE, IMAGE], [1, 2, 3, IMAGE]), split)).toThrow(
      "sample 0 ends within image 1: 1 of its 2 positions have an image token",
    );
  });
});

test("positions count the earlier tokens that a token sees", () => {
  expect([...positionsOf(Int32Array.of(0, 0, 0, 0, -1, 0, 0, 1, 1, 2, -1, -1, 0, 0), 7)]).toEqual([
    0, 1, 2, 3, 0, 4, 5, 0, 1, 0, 0, 1, 0, 1,
  ]);
});

describe("checkpoints", () => {
  const input = () => ({
    inputIds: ids([1, IMAGE, 2, 3]),
    pixelValues: tensor(
      Float32Array.from({ length: 48 }, (_, i) => Math.sin(i)),
      { shape: [1, 3, 4, 4] },
    ),
  });

  test("a saved model loads as the same model, in either Hugging Face layout", async () => {
    const files = memoryFiles();
    await model.savePretrained(files);
    const again = await Llava.fromPretrained(files);
    close(await again.forward(input()).logits.data(), await model.forward(input()).logits.data());

    const modern = Object.fromEntries(
      Object.entries(model.stateDict()).map(([name, t]) => [
        name.startsWith("language_model.lm_head")
          ? name.slice(15)
          : name.startsWith("language_model.model.")
            ? `model.language_model.${name.slice(21)}`
            : `model.${name}`,
        t,
      ]),
    );
    const newer = memoryFiles();
    await saveCheckpoint(newer, { ...config, model_type: "llava" }, modern);
    const third = await Llava.fromPretrained(newer);
    close(await third.forward(input()).logits.data(), await model.forward(input()).logits.data());
  });

  test("half precision halves the file and stays close", async () => {
    const [full, half] = [memoryFiles(), memoryFiles()];
    await model.savePretrained(full);
    await model.savePretrained(half, { float: "F16" });
    const [a, b] = [full, half].map((f) => f.files.get("model.safetensors")!.byteLength);
    expect(b).toBeLessThan(0.7 * a);
    const want = await model.forward(input()).logits.data();
    (await (await Llava.fromPretrained(half)).forward(input()).logits.data()).forEach((x, i) =>
      expect(Math.abs(x - want[i])).toBeLessThan(0.02),
    );
  });

  test("a published config in its short form means the reference's sizes", () => {
    const short = {
      model_type: "llava",
      image_token_id: 32000,
      text_config: { model_type: "llama", rms_norm_eps: 1e-5, vocab_size: 32064 },
      vision_config: { model_type: "clip_vision_model", hidden_size: 1024, image_size: 336, patch_size: 14 },
    };
    const { text_config: text, vision_config: vision, image_token_index: token } = completeConfig(short);
    expect(text).toMatchObject({
      hidden_size: 4096,
      intermediate_size: 11008,
      num_hidden_layers: 32,
      vocab_size: 32064,
    });
    expect(vision).toMatchObject({ hidden_size: 1024, num_hidden_layers: 12, image_size: 336 });
    expect(token).toBe(32000);
    expect(() => completeConfig({ ...short, vision_feature_layer: [-2, -5] })).toThrow(
      "vision_feature_layer [-2,-5] is not supported",
    );
  });

  test("weights that do not fit the config are all named", async () => {
    const files = memoryFiles();
    const state = model.stateDict();
    const { ["language_model.lm_head.weight"]: _, ...rest } = state;
    await saveCheckpoint(
      files,
      { ...config, model_type: "llava" },
      { ...rest, odd: tensor([1]), "multi_modal_projector.linear_1.bias": tensor([1, 2]) },
    );
    await expect(Llava.fromPretrained(files)).rejects.toThrow(
      "linear_1.bias has shape [2] in memory/model.safetensors, expected [16] by the config; unexpected odd [1] in memory/model.safetensors; missing language_model.lm_head.weight [12,16]",
    );
  });

  test("an original checkpoint without its tower says what to do", async () => {
    const files = memoryFiles();
    await saveCheckpoint(
      files,
      { model_type: "llava_llama", mm_vision_tower: "openai/clip", ...config.text_config },
      { w: tensor([1]) },
    );
    await expect(Llava.fromPretrained(files)).rejects.toThrow('the vision tower "openai/clip" is not here');
    expect(
      (await openCheckpoint(subfolder(memoryFiles(new Map([...files.files].map(([k, v]) => [`x/${k}`, v]))), "x")))
        .config.model_type,
    ).toBe("llava_llama");
  });
});
