import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { positionsOf } from "../../models/batch.ts";
import { augment, mayFlip } from "../../models/training/augment.ts";
import { collate } from "../../models/training/collate.ts";
import { lossCurve } from "../../models/training/curve.ts";
import { checkFiles, type EncoderOptions, encodeSample, readSamples } from "../../models/training/data.ts";
import { FeatureCache } from "../../models/training/images.ts";
import { epochSteps, pack } from "../../models/training/sampler.ts";
import { root } from "../../scripts/environment.mjs";
import { randomOf } from "../../src/data/random.ts";
import { init } from "../../src/index.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";

const files = (content: Record<string, string>) =>
  memoryFiles(new Map(Object.entries(content).map(([name, text]) => [name, new TextEncoder().encode(text)])));
const turn = (from: string, value: string) => ({ from, value });
const talk = (answer: string) => [turn("human", "<image>\nWhat?"), turn("gpt", answer)];
const json = readFileSync(join(root, "tests/goldens/conversation/llava/tokenizer/tokenizer.json"), "utf8");
const encoder: EncoderOptions = {
  tokenizer: new Tokenizer(JSON.parse(json)),
  version: "v1",
  imageToken: -200,
  tokensOf: () => 4,
  maxLength: 128,
};

describe("reading", () => {
  test("lists and lines, with and without images", async () => {
    const source = files({
      "a.json": JSON.stringify([
        { id: 1, image: "x.png", conversations: talk("yes") },
        { conversations: [turn("human", "Hi"), turn("gpt", "Ho")] },
      ]),
      "b.jsonl": `{"image": ["x.png"], "text": "Human: <image>\\nHuman: What?\\nAI: yes", "task_type": "llava_sft"}\n\n{"text": "Human: Hi\\nAI: Ho"}\n`,
    });
    const list = await readSamples(source, "a.json");
    expect(list.map(({ where, images }) => [where, images])).toEqual([
      ["memory/a.json, sample 0 (id 1)", ["x.png"]],
      ["memory/a.json, sample 1", []],
    ]);
    const lines = await readSamples(source, "b.jsonl");
    expect(lines.map(({ where, images }) => [where, images])).toEqual([
      ["memory/b.jsonl:1", ["x.png"]],
      ["memory/b.jsonl:3", []],
    ]);
  });

  test.each([
    ["a.json", "[{", "memory/a.json: not valid JSON"],
    ["a.json", "{}", "memory/a.json: a JSON list of samples expected"],
    ["a.json", "[]", "memory/a.json has no samples"],
    ["a.jsonl", '{"text": "Human: a\\nAI: b"}\n{"text": ', "memory/a.jsonl:2: not valid JSON"],
    ["a.json", '[{"id": "x7"}]', "memory/a.json, sample 0 (id x7): expected conversations"],
    [
      "a.json",
      '[{"conversations": [{"from": "user", "value": "a"}]}]',
      'sample 0: turn 0 is {"from":"user","value":"a"}',
    ],
    ["a.json", '[{"image": 3, "conversations": []}]', "sample 0: image must be a file name"],
    [
      "a.json",
      '[{"image": "a.png", "conversations": [{"from": "human", "value": "a"}]}]',
      "1 image(s) but 0 <image> in the text",
    ],
    ["a.json", '[{"conversations": [{"from": "human", "value": "<image>"}]}]', "0 image(s) but 1 <image> in the text"],
  ])("%s with %s is an error that names the place", async (name, text, message) => {
    await expect(readSamples(files({ [name]: text }), name)).rejects.toThrow(message);
  });

  test("missing image files are named with their samples", async () => {
    const source = files({
      "a.json": JSON.stringify(["x", "y", "x"].map((n, id) => ({ id, image: `${n}.png`, conversations: talk("a") }))),
      "y.png": "",
    });
    await expect(checkFiles(await readSamples(source, "a.json"), source)).rejects.toThrow(
      "1 image file(s) are not in memory: memory/a.json, sample 0 (id 0): x.png",
    );
  });
});

describe("encoding", () => {
  const sample = (answer: string) => ({
    where: "data.json, sample 3",
    images: ["x.png"],
    turns: talk(answer) as never,
  });

  test("counts the positions of images and learns answers alone", () => {
    const { ids, labels, length, cut } = encodeSample(sample("a cat"), encoder);
    expect(length).toBe(ids.length - 1 + 4);
    expect(cut).toBe(false);
    const learned = [...ids].filter((_, i) => labels[i] !== -100);
    expect(encoder.tokenizer.decode(learned)).toBe("a cat");
    expect([...labels].filter((l) => l !== -100)).toEqual(learned);
  });

  test("cuts long samples, and refuses those with nothing left to learn, by name", () => {
    const long = encodeSample(sample("word ".repeat(200)), encoder);
    expect([long.length, long.cut]).toEqual([128, true]);
    const short = encodeSample(sample("a cat"), encoder).length;
    expect(() => encodeSample(sample("a cat"), { ...encoder, maxLength: short - 8 })).toThrow(
      `data.json, sample 3: all labels are -100: nothing of its answers is within model_max_length ${short - 8}`,
    );
    expect(() => encodeSample(sample(""), encoder)).toThrow(
      "data.json, sample 3: all labels are -100: its answers are empty",
    );
    expect(() => encodeSample(sample("a"), { ...encoder, tokensOf: () => 200 })).toThrow(
      "data.json, sample 3: an image of 200 positions lies beyond model_max_length 128",
    );
  });

  test("two images in one turn, of which a template keeps one, are refused by name", () => {
    const two = {
      where: "data.json, sample 5",
      images: ["x.png", "y.png"],
      turns: [turn("human", "<image><image>\nWhat?"), turn("gpt", "a")] as never,
    };
    expect(() => encodeSample(two, encoder)).toThrow(
      "data.json, sample 5: the template v1 keeps 1 of its 2 images: one per message",
    );
  });

  test("packed rows: segments of their own, restarted positions, no label across a border", async () => {
    await init({ backend: "reference" });
    const [a, b] = [encodeSample(sample("one"), encoder), encodeSample(sample("two three"), encoder)];
    const { inputIds, segments, labels, padTo } = collate([[a, b], [a]], 128);
    const width = a.ids.length + b.ids.length;
    expect(inputIds.shape).toEqual([2, width]);
    expect(padTo).toBeGreaterThanOrEqual(a.length + b.length);
    const s = Int32Array.from(await segments!.data());
    expect([...s.subarray(0, width)]).toEqual([...a.ids].map(() => 1).concat([...b.ids].map(() => 2)));
    expect([...s.subarray(width)]).toEqual([...a.ids].map(() => 0).concat([...b.ids].map(() => -1)));
    expect(positionsOf(s, width)[a.ids.length]).toBe(0);
    expect((await labels.data())[a.ids.length]).toBe(-100);
  });
});

describe("the sampler", () => {
  const sizes = (n: number, seed = 1) => {
    const random = randomOf(seed);
    return Array.from({ length: n }, () => ({ length: 5 + Math.floor(random() * 60), hasImage: random() < 0.6 }));
  };

  test("every sample is in an epoch once, whatever the options", () => {
    fc.assert(
      fc.property(
        fc.record({
          n: fc.integer({ min: 1, max: 60 }),
          micro: fc.integer({ min: 1, max: 4 }),
          times: fc.integer({ min: 1, max: 4 }),
          grouped: fc.boolean(),
          packed: fc.boolean(),
          epoch: fc.nat(5),
        }),
        ({ n, micro, times, grouped, packed, epoch }) => {
          const all = sizes(n);
          const options = { batch: micro * times, micro, seed: 3, grouped, packTo: packed ? 70 : undefined };
          const steps = epochSteps(all, epoch, options);
          expect(steps.flat(3).sort((a, b) => a - b)).toEqual(all.map((_, i) => i));
          expect(steps.length).toBe(epochSteps(all, 0, options).length);
          for (const rows of steps.flat()) {
            expect(rows.length).toBeLessThanOrEqual(micro);
            for (const row of rows) expect(row.reduce((sum, id) => sum + all[id].length, 0)).toBeLessThanOrEqual(70);
          }
          expect(epochSteps(all, epoch, options)).toEqual(steps);
        },
      ),
    );
  });

  test("grouped: all steps but the last have one modality, and lengths fall within one", () => {
    const all = sizes(100);
    const steps = epochSteps(all, 0, { batch: 8, micro: 2, seed: 1, grouped: true });
    const mixed = steps.filter((step) => new Set(step.flat(2).map((id) => all[id].hasImage)).size > 1);
    expect(mixed.length).toBeLessThanOrEqual(1);
    for (const step of steps) {
      const lengths = step.flat(2).map((id) => all[id].length);
      expect(lengths).toEqual([...lengths].sort((a, b) => b - a));
    }
    expect(epochSteps(all, 1, { batch: 8, micro: 2, seed: 1, grouped: true })).not.toEqual(steps);
  });

  test("packing fills rows, longest first", () => {
    const all = [30, 10, 25, 5, 40].map((length) => ({ length, hasImage: false }));
    expect(pack([0, 1, 2, 3, 4], all, 45)).toEqual([[4, 3], [0, 1], [2]]);
    expect(() => pack([4], all, 39)).toThrow("sample 4 is 40 long, a row 39");
  });
});

describe("augmentation", () => {
  const image = { width: 8, height: 6, channels: 3, data: Uint8Array.from({ length: 144 }, (_, i) => i) };
  const off = { crop: null, flip: false, jitter: 0 };

  test("off changes nothing; a flip mirrors; the same numbers give the same image", () => {
    expect(augment(image, off, 4, randomOf(1))).toEqual(image);
    const flipped = augment(image, { ...off, flip: true }, 4, () => 0.2);
    expect([...flipped.data.subarray(0, 3)]).toEqual([21, 22, 23]);
    expect(augment(flipped, { ...off, flip: true }, 4, () => 0.2).data).toEqual(image.data);
    const all = { crop: [0.5, 1] as const, flip: true, jitter: 0.4 };
    const changed = augment(image, all, 4, randomOf(1, 2));
    expect([changed.width, changed.height]).toEqual([4, 4]);
    expect(augment(image, all, 4, randomOf(1, 2))).toEqual(changed);
    expect(augment(image, all, 4, randomOf(1, 3))).not.toEqual(changed);
  });

  test("jitter by 0.5: brightness, contrast about the mean, saturation about the grey", () => {
    const flat = { width: 1, height: 1, channels: 3, data: Uint8Array.of(100, 50, 0) };
    // factors 1.5, 1, 1 of one pixel whose luma is 0.299 * 150 + 0.587 * 75 = 88.875
    let call = 0;
    const random = () => [1, 0.5, 0.5][call++];
    expect([...augment(flat, { ...off, jitter: 0.5 }, 1, random).data]).toEqual([150, 75, 0]);
  });

  test("samples that speak of sides or text are not mirrored", () => {
    const of = (value: string) => mayFlip({ where: "", images: [], turns: [{ from: "human", value }] });
    expect([
      of("What is on the left?"),
      of("图的右边是什么？"),
      of("Read the sign."),
      of("What animal is it?"),
    ]).toEqual([false, false, false, true]);
  });
});

describe("cached features", () => {
  test("each image goes through the tower once; memory has a limit; a disk outlives it", async () => {
    await init({ backend: "reference" });
    const disk = memoryFiles();
    const made = (budget: number, keep: boolean) =>
      new FeatureCache({
        compute: (x) => x.mul(2).reshape([x.shape[0], 1, 4]),
        pixelShape: [1, 2, 2],
        featureShape: [1, 4],
        chunk: 3,
        budget,
        disk: keep ? disk : undefined,
      });
    const pixels: Record<string, Float32Array> = { a: Float32Array.of(1, 2, 3, 4), "b/c": Float32Array.of(5, 6, 7, 8) };
    const ask = async (cache: FeatureCache, ...names: string[]) => [
      ...(await (await cache.get(names, async (i) => pixels[names[i]])).data()),
    ];
    const cache = made(1e6, true);
    expect(await ask(cache, "a", "b/c", "a")).toEqual([2, 4, 6, 8, 10, 12, 14, 16, 2, 4, 6, 8]);
    expect(await ask(cache, "b/c")).toEqual([10, 12, 14, 16]);
    expect([cache.computed, cache.served, cache.bytes]).toEqual([2, 1, 32]);
    const small = made(16, false);
    await ask(small, "a");
    await ask(small, "b/c"); // a goes
    await ask(small, "a");
    expect([small.computed, small.bytes]).toEqual([3, 16]);
    const doubled = { pixelShape: [1, 2, 2], featureShape: [1, 4], chunk: 3, budget: 0, disk };
    const other = new FeatureCache({ ...doubled, compute: (x) => x.mul(3).reshape([x.shape[0], 1, 4]) });
    await expect(ask(other, "a")).rejects.toThrow("memory has features of another tower: remove it");
    const from = new FeatureCache({
      ...doubled,
      compute: (x) => x.mul(2).reshape([x.shape[0], 1, 4]),
      about: { folder: "b" },
    });
    await expect(ask(from, "a")).rejects.toThrow('features of images of {}, not {"folder":"b"}');
    const later = made(0, true);
    expect(await ask(later, "b/c")).toEqual([10, 12, 14, 16]);
    expect([later.computed, later.bytes]).toEqual([0, 0]);
  });
});

test("the loss curve is an SVG of all finite losses and the evaluations", () => {
  const svg = lossCurve([3, 2, Number.NaN, 1], [{ step: 4, values: { loss: 1.5 } }], "a < b");
  expect(svg).toMatch(/^<svg [^>]*>[\s\S]*<\/svg>\n$/);
  expect(svg.match(/<circle/g)?.length).toBe(1);
  expect(svg).toContain("a &#60; b");
  expect(svg).not.toContain("NaN");
});
