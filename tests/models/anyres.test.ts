import { beforeAll, describe, expect, test } from "vitest";
import { Llava } from "../../models/llava.ts";
import { Processor } from "../../src/generate/chat.ts";
import { anyresRows, anyresTiles, bestResolution, type Size, tileGrid } from "../../src/image/anyres.ts";
import { resize } from "../../src/image/resize.ts";
import { cat, manualSeed, rand, type Tensor, tensor } from "../../src/index.ts";
import { saveCheckpoint } from "../../src/io/index.ts";
import { jsonBytes, memoryFiles, writeFile } from "../../src/io/source.ts";
import { IMAGE_TOKEN_INDEX } from "../../src/text/conversation.ts";
import { Tokenizer, type TokenizerJson } from "../../src/text/tokenizer.ts";
import { openBackend } from "../support/backend.ts";
import { IMAGE, tinyConfig } from "../support/tiny-llava.ts";
import { goldenPath, readJson } from "./goldens.ts";

const published: Size[] = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];

test("the resolution that keeps most pixels and wastes least", () => {
  expect(bestResolution([500, 500], published)).toEqual([672, 672]);
  expect(bestResolution([300, 1000], published)).toEqual([336, 1008]);
  expect(bestResolution([1000, 300], published)).toEqual([1008, 336]);
  expect(bestResolution([200, 400], published)).toEqual([336, 672]);
  expect(bestResolution([100, 100], published)).toEqual([336, 672]); // all keep it whole: the first of the smallest
  expect(tileGrid([1000, 300], published, 336)).toEqual([3, 1]);
  expect(() => bestResolution([1, 1], [])).toThrow("image_grid_pinpoints is empty");
  expect(() => tileGrid([1000, 300], published, 100)).toThrow("tiles of 100 pixels do not divide");
});

/** The reference's steps one by one: view, permute, flatten, unpad, newline, flatten. */
function packed([height, width]: Size, [gridRows, gridColumns]: Size, side: number): number[] {
  const id = (tile: number, y: number, x: number) => (tile * side + y) * side + x;
  let rows: number[][] = [];
  for (let gy = 0; gy < gridRows; gy++)
    for (let y = 0; y < side; y++) {
      const row: number[] = [];
      for (let gx = 0; gx < gridColumns; gx++)
        for (let x = 0; x < side; x++) row.push(id(1 + gy * gridColumns + gx, y, x));
      rows.push(row);
    }
  const [currentHeight, currentWidth] = [rows.length, rows[0].length];
  if (width / height > currentWidth / currentHeight) {
    const scale = currentWidth / width;
    const pad = Math.floor((currentHeight - Math.trunc(Number((height * scale).toFixed(7)))) / 2);
    rows = rows.slice(pad, currentHeight - pad);
  } else {
    const scale = currentHeight / height;
    const pad = Math.floor((currentWidth - Math.trunc(Number((width * scale).toFixed(7)))) / 2);
    rows = rows.map((row) => row.slice(pad, currentWidth - pad));
  }
  const base = Array.from({ length: side * side }, (_, i) => i);
  return [...base, ...rows.flatMap((row) => [...row, -1])];
}

test("tokens in the order of the reference's views and permutes, for many shapes", () => {
  let unpadded = 0;
  for (let height = 30; height < 2000; height = Math.ceil(height * 1.31))
    for (let width = 30; width < 2000; width = Math.ceil(width * 1.37)) {
      const layout = { pinpoints: published, tile: 336, side: 24, merge: "spatial_unpad" } as const;
      const rows = anyresRows([height, width], layout);
      const grid = tileGrid([height, width], published, 336);
      expect(rows, `${height} x ${width}`).toEqual(packed([height, width], grid, 24));
      if (rows.length < 576 + 24 * grid[0] * (24 * grid[1] + 1)) unpadded++;
      const spatial = anyresRows([height, width], { ...layout, merge: "spatial" });
      expect(spatial.length).toBe(576 * (1 + grid[0] * grid[1]));
      expect(new Set(spatial).size).toBe(spatial.length);
    }
  expect(unpadded).toBeGreaterThan(20);
});

test("tiles are cut from the image, scaled to fit and centred on black", () => {
  const noise = (width: number, height: number) => ({
    width,
    height,
    channels: 3,
    data: Uint8Array.from({ length: width * height * 3 }, (_, i) => 1 + ((i * 7919) % 251)),
  });
  const image = noise(50, 21);
  const tiles = anyresTiles(
    image,
    [
      [8, 16],
      [16, 8],
      [16, 16],
    ] as const,
    8,
  );
  expect(tiles.length).toBe(3);
  expect([...tiles[0].data]).toEqual([...resize(image, 8, 8, "bicubic").data]);
  const fitted = resize(image, 16, Math.ceil(21 * (16 / 50)), "bicubic"); // 16 x 7 on 16 x 8
  for (let y = 0; y < 8; y++)
    for (let x = 0; x < 16; x++)
      for (let c = 0; c < 3; c++)
        expect(tiles[1 + (x >> 3)].data[(y * 8 + (x & 7)) * 3 + c]).toBe(
          y < fitted.height ? fitted.data[(y * 16 + x) * 3 + c] : 0,
        );
});

const config = tinyConfig({
  image_grid_pinpoints: [
    [4, 8],
    [8, 4],
    [8, 8],
  ],
});
const ids = (...rows: number[][]) => tensor(rows, { dtype: "i32" });
const close = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).toBe(b.length);
  Array.from(a, (x, i) => expect(x).toBeCloseTo(b[i], 5));
};

describe("LLaVA-NeXT", () => {
  let model: Llava;
  beforeAll(async () => {
    await openBackend();
    manualSeed(5);
    model = new Llava(config);
  });
  const sizes: Size[] = [
    [10, 30],
    [20, 21],
  ];

  test("image tokens are the tiles' features, row by row, each row ended by the newline", async () => {
    const pixelValues = rand(3 + 5, 3, 4, 4);
    const tokens = model.imageFeatures(pixelValues); // [8, 4, 16]
    const source = cat([tokens.reshape([32, 16]), model.image_newline!.reshape([1, 16])], 0);
    const place = (size: Size, grid: Size, first: number) =>
      packed(size, grid, 2).map((row) => (row < 0 ? 32 : first * 4 + row));
    const [a, b] = [place(sizes[0], [1, 2], 0), place(sizes[1], [2, 2], 3)];
    expect([a.length, b.length]).toEqual([4 + 2 * 5, 4 + 4 * 5]);
    const image = (rows: number[]) => source.indexSelect(0, tensor(Int32Array.from(rows)));
    const words = (list: number[]) => model.language_model.model.embed(ids(list)).reshape([list.length, 16]);
    const whole = cat([words([1]), image(a), words([2]), image(b), words([3, 4])], 0).unsqueeze(0);
    const want = await model.language_model.forward({ inputsEmbeds: whole }).logits.data();
    const short = model.forward({ inputIds: ids([1, IMAGE, 2, IMAGE, 3, 4]), pixelValues, imageSizes: sizes });
    close(await short.logits.data(), want);
    const run = (n: number) => new Array<number>(n).fill(IMAGE);
    const expanded = ids([1, ...run(a.length), 2, ...run(b.length), 3, 4]);
    close(await model.forward({ inputIds: expanded, pixelValues, imageSizes: sizes }).logits.data(), want);
    const rows = model.forward({ inputIds: ids([IMAGE, 2], [IMAGE, 3]), pixelValues, imageSizes: sizes });
    expect(rows.logits.shape).toEqual([2, b.length + 1, 12]);
  });

  test("the newline and the projector learn", async () => {
    const loss = model.loss({
      inputIds: ids([1, IMAGE, 2, 3]),
      labels: ids([-100, -100, 2, 3]),
      pixelValues: rand(3, 3, 4, 4),
      imageSizes: [sizes[0]],
    });
    loss.backward();
    const norm = await model.image_newline!.grad!.square().sum().item();
    expect(norm).toBeGreaterThan(0);
    for (const p of model.parameters()) p.grad = null;
  });

  test("what does not fit is named", () => {
    const pixelValues = rand(3, 3, 4, 4);
    const run = (input: object) => () => model.forward({ inputIds: ids([1, IMAGE]), pixelValues, ...input });
    expect(run({})).toThrow("needs imageSizes");
    expect(run({ imageSizes: [sizes[1]] })).toThrow("have 5 tiles, pixelValues 3");
  });

  test("folders in Hugging Face's layouts and in the original one give the same model", async () => {
    const input = {
      inputIds: ids([1, IMAGE_TOKEN_INDEX, 2]), // any LLaVA takes the original placeholder
      pixelValues: tensor(
        Float32Array.from({ length: 144 }, (_, i) => Math.sin(i)),
        { shape: [3, 3, 4, 4] },
      ),
      imageSizes: [sizes[0]],
    };
    const want = await model.forward(input).logits.data();
    const state = model.stateDict();
    expect(Object.keys(state)).toContain("image_newline");
    const files = memoryFiles();
    await model.savePretrained(files);
    close(await (await Llava.fromPretrained(files)).forward(input).logits.data(), want);

    const original = memoryFiles();
    const named = Object.entries(state).map(([name, t]) => [
      name
        .replace(/^language_model\./, "")
        .replace(/^multi_modal_projector\.linear_(\d)/, (_, n) => `model.mm_projector.${2 * (n - 1)}`)
        .replace(/^image_newline/, "model.image_newline")
        .replace(/^vision_tower\./, "model.vision_tower.vision_tower."),
      t,
    ]);
    const flat = {
      ...{ model_type: "llava_llama", ...config.text_config, mm_vision_tower: "tower", image_aspect_ratio: "anyres" },
      ...{ mm_projector_type: "mlp2x_gelu", mm_patch_merge_type: "spatial_unpad" },
      image_grid_pinpoints: "[(8, 4), (4, 8), (8, 8)]", // [width, height]
    };
    await saveCheckpoint(original, flat, Object.fromEntries(named));
    const towerState = Object.entries(state).filter(([name]) => name.startsWith("vision_tower."));
    const tower = Object.fromEntries(towerState.map(([name, t]) => [name.slice("vision_tower.".length), t]));
    const inner = memoryFiles();
    await saveCheckpoint(inner, { model_type: "clip_vision_model", ...config.vision_config }, tower);
    for (const [name, bytes] of inner.files) original.files.set(`tower/${name}`, bytes);
    const loaded = await Llava.fromPretrained(original);
    expect(loaded.config.image_grid_pinpoints).toEqual(config.image_grid_pinpoints);
    close(await loaded.forward(input).logits.data(), want);
  });

  const tiny = goldenPath("conversation", "llava", "tokenizer", "tokenizer.json");
  test.skipIf(!tiny)("the processor cuts images as preprocessor_config.json says", () => {
    const settings = { size: { shortest_edge: 4 }, crop_size: 4, image_grid_pinpoints: config.image_grid_pinpoints };
    const processor = new Processor(new Tokenizer(readJson<TokenizerJson>(tiny!)), settings);
    const image = { width: 30, height: 10, channels: 3, data: new Uint8Array(900) };
    const { pixelValues, imageSizes } = processor.encode([{ role: "user", content: [image, "what?"] }], "v1", IMAGE);
    expect(pixelValues!.shape).toEqual([3, 3, 4, 4]);
    expect(imageSizes).toEqual([[10, 30]]);
  });

  test.skipIf(!tiny)(
    "Chinese-LLaVA: a flat config of model_type llava has its image tokens in the vocabulary",
    async () => {
      const json = readJson<TokenizerJson>(tiny!);
      const size = new Tokenizer(json).size;
      const text = { ...config.text_config, vocab_size: size + 3, mm_vision_tower: "tower", mm_use_im_start_end: true };
      const source = new Llava({
        ...config,
        image_grid_pinpoints: undefined,
        mm_projector_type: "linear",
        text_config: text,
      });
      const files = memoryFiles();
      const named = Object.entries(source.stateDict()).map(([name, t]): [string, Tensor] => [
        name.replace(/^language_model\./, "").replace("multi_modal_projector.linear_1", "model.mm_projector"),
        t,
      ]);
      const [own, tower] = [false, true].map((inTower) =>
        Object.fromEntries(named.filter(([name]) => name.startsWith("vision_tower.") === inTower)),
      );
      await saveCheckpoint(files, { ...text, model_type: "llava" }, own);
      const inner = memoryFiles();
      const towerState = Object.fromEntries(Object.entries(tower).map(([name, t]) => [name.slice(13), t]));
      await saveCheckpoint(inner, { model_type: "clip_vision_model", ...config.vision_config }, towerState);
      for (const [name, bytes] of inner.files) files.files.set(`tower/${name}`, bytes);
      await writeFile(files, "tokenizer.json", [jsonBytes(json)]);
      const model = await Llava.fromPretrained(files);
      expect(model.config.image_token_index).toBe(size);
      const image = { width: 4, height: 4, channels: 3, data: new Uint8Array(48) };
      const input = model.processor!.encode([{ role: "user", content: [image, "这是什么?"] }], "chinese_llama2", size);
      const list = Array.from(await input.inputIds.data());
      const at = list.indexOf(size);
      expect(list.slice(at - 1, at + 2)).toEqual([size + 1, size, size + 2]);
      const patches = list.flatMap((id) => (id === size ? new Array<number>(4).fill(size) : [id])); // as its own code has it
      const [a, b] = [input, { ...input, inputIds: ids(patches) }].map((x) => model.forward(x).logits);
      close(await a.data(), await b.data());
    },
  );
});
