import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { wordAttention } from "../../examples/demo/attention.ts";
import { Batcher, conversationBatch, ROW_LENGTH, TILE_TOKENS } from "../../examples/demo/batches.ts";
import { Chat, readPng, tilesToPng, toTiles } from "../../examples/demo/chat.ts";
import { saveCheckpoint } from "../../examples/demo/checkpoint.ts";
import { evaluate, exactMatches } from "../../examples/demo/evaluate.ts";
import { createModel, forwardFlops, llavaConfig } from "../../examples/demo/model.ts";
import { TextIds, trainTokenizer } from "../../examples/demo/pack.ts";
import { Random } from "../../examples/demo/random.ts";
import { beats, lossCurve, renderReport } from "../../examples/demo/report.ts";
import { tilesOf } from "../../examples/demo/showcase.ts";
import { Splits } from "../../examples/demo/splits.ts";
import { Trainer } from "../../examples/demo/stages.ts";
import { type Scene, turnsOf } from "../../examples/demo/tasks.ts";
import type { Llava } from "../../models/index.ts";
import { generate } from "../../src/generate/index.ts";
import { init } from "../../src/index.ts";
import { inventedSet } from "../support/invented-emoji.ts";

const set = inventedSet(64);
const splits = new Splits(set);
const texts = new TextIds(trainTokenizer(Batcher.corpus(splits), 400));
const size = {
  visionDim: 32,
  visionLayers: 1,
  textDim: 32,
  textLayers: 1,
  textInner: 64,
  vocabulary: texts.tokenizer.size,
};
const folder = mkdtempSync(join(tmpdir(), "shadegrad-demo-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the demo's model", () => {
  let model: Llava;
  const steps: string[] = [];

  beforeAll(async () => {
    await init();
    model = createModel(size, 1);
    const recipe = {
      vision: { steps: 30, lr: 3e-3, batch: 8 },
      text: { steps: 4, lr: 3e-3, batch: 4 },
      projector: { steps: 4, lr: 3e-3 },
      joint: { steps: 40, lr: 4e-3 },
      singles: 8,
      composites: 4,
      compositeShare: 0.4,
    };
    const trainer = new Trainer(model, new Batcher(splits, texts, new Random(1)), recipe, 1, (stage, p) =>
      steps.push(`${stage} ${p.step} ${p.flops > 0} ${p.tokens + p.images > 0}`),
    );
    const tower = await model.vision_tower.parameters()[0].data();
    const heads = await trainer.vision();
    expect(mean(heads.losses.slice(-5))).toBeLessThan(0.9 * heads.losses[0]);
    const seen = await model.vision_tower.parameters()[0].data();
    expect(seen).not.toEqual(tower);
    await trainer.text();
    const words = await model.language_model.model.embed_tokens.weight.data();
    await trainer.projector();
    expect(await model.language_model.model.embed_tokens.weight.data()).toEqual(words); // stage 1: frozen
    const joint = await trainer.joint();
    expect(mean(joint.losses.slice(-5))).toBeLessThan(0.75 * joint.losses[0]);
    expect(await model.vision_tower.parameters()[0].data()).toEqual(seen); // stages 1 and 2: frozen
    expect(await model.language_model.model.embed_tokens.weight.data()).not.toEqual(words);
  });

  it("reports every step of every stage with its work", () => {
    expect(steps.length).toBe(30 + 4 + 4 + 40);
    expect(steps.every((s) => s.endsWith("true true"))).toBe(true);
  });

  const scene: Scene = { cells: [splits.train[0]], ground: 2 };
  const composite: Scene = { cells: [splits.train[1], null, splits.train[5], splits.train[9]], ground: 4 };

  it("answers a packed turn exactly when greedy generation gives that answer alone", async () => {
    const chat = new Chat(model, texts);
    let checked = 0;
    for (const [of, kind] of [
      [scene, "single"],
      [composite, "composite"],
    ] as const) {
      const tiles = tilesOf(splits, of);
      const asked = turnsOf(of, splits).slice(0, 6);
      const prompt = chat.prompt(asked.map(({ question }) => ({ tiles, question })));
      const said = await generate(model.language_model, prompt, { maxNewTokens: 16 });
      const text = said.map((ids) => texts.tokenizer.decode(ids));
      // What it says must count as right if it ended by itself and is spelt as the tokenizer spells it; anything else must not.
      const plain = said.map((ids, i) => ids.length < 16 && String(texts.of(text[i])) === String(ids));
      for (const [answers, want] of [
        [text, true],
        [text.map((t) => `${t}x`), false],
      ] as const) {
        const turns = asked.map((turn, i) => ({ ...turn, answer: answers[i] })).filter((_, i) => plain[i]);
        if (turns.length === 0) continue;
        const batch = conversationBatch([of], [turns], set, texts, ROW_LENGTH[kind]);
        const right = await exactMatches(model, batch);
        checked += right.length;
        expect(right).toEqual(right.map(() => want));
      }
    }
    expect(checked).toBeGreaterThan(3);
  });

  it("scores every row between none and all, with its baselines", async () => {
    const scores = await evaluate(model, splits, texts, "validation");
    expect(scores.length).toBeGreaterThan(6);
    for (const { n, right, blank, majority } of scores) {
      for (const i of [0, 1]) for (const x of [right[i], blank[i], majority[i]]) expect(x >= 0 && x <= n[i]).toBe(true);
      expect(Math.min(...majority)).toBeGreaterThan(0);
    }
  });

  it("gives the same answers from its checkpoint, and streams what it generates at once", async () => {
    await saveCheckpoint(folder, model, texts.tokenizer);
    const [before, after] = [new Chat(model, texts), await Chat.open(folder)];
    const tiles = tilesOf(splits, composite);
    const question = "How many things are there?";
    expect(await after.answers([{ tiles, question }])).toEqual(await before.answers([{ tiles, question }]));
    let text = "";
    for await (const piece of after.stream(tiles, ` ${question} `)) text += piece;
    expect([text]).toEqual(await after.answers([{ tiles, question }]));
  });

  it("gives words attention that is a share of one", async () => {
    const words = await wordAttention(
      new Chat(model, texts),
      tilesOf(splits, composite),
      "What is at the top left?",
      "thing1",
    );
    expect(words.map(({ word }) => word).join("")).toBe("thing1");
    for (const { weights } of words) {
      expect(weights.length).toBe(4 * TILE_TOKENS);
      const share = weights.reduce((a, b) => a + b, 0);
      expect(share > 0 && share < 1).toBe(true);
    }
  });

  it("refuses what is no question, no picture and no checkpoint", async () => {
    const chat = new Chat(model, texts);
    expect(() => chat.stream(tilesOf(splits, scene), "  ")).toThrow(/question is empty/);
    expect(() => chat.stream(tilesOf(splits, scene), "why ".repeat(200))).toThrow(/at most 64 fit/);
    expect(() => readPng(join(folder, "none.png"))).toThrow(/there is no file/);
    writeFileSync(join(folder, "text.png"), "this is text");
    expect(() => readPng(join(folder, "text.png"))).toThrow(/not a PNG image/);
    writeFileSync(join(folder, "half.png"), tilesToPng(tilesOf(splits, scene)).subarray(0, 60));
    expect(() => readPng(join(folder, "half.png"))).toThrow(/damaged PNG/);
    await expect(Chat.open(join(folder, "nowhere"))).rejects.toThrow(/no checkpoint of the demo/);
  });
});

describe("pictures from files", () => {
  it("come back as the same tiles", () => {
    for (const cells of [[splits.train[0]], [splits.train[1], null, splits.train[5], splits.train[9]]]) {
      const tiles = tilesOf(splits, { cells, ground: 3 });
      writeFileSync(join(folder, "x.png"), tilesToPng(tiles, 4));
      const read = toTiles(readPng(join(folder, "x.png")));
      expect(read.count).toBe(cells.length);
      const worst = Math.max(...read.pixels.map((v, i) => Math.abs(v - tiles.pixels[i])));
      expect(worst).toBeLessThan(0.9); // the filter softens edges a little
    }
  });

  it("are squared, and set on white where they are transparent", () => {
    const png = new PNG({ width: 40, height: 20 });
    writeFileSync(join(folder, "clear.png"), PNG.sync.write(png));
    const { count, pixels } = toTiles(readPng(join(folder, "clear.png")));
    expect(count).toBe(1);
    expect(pixels.every((v) => v === 2)).toBe(true);
  });
});

describe("the report", () => {
  const score = {
    row: "A <category>",
    n: [100, 100] as [number, number],
    right: [60, 58] as [number, number],
    blank: [20, 20] as [number, number],
    majority: [25, 25] as [number, number],
  };

  it("calls better only what is beyond chance in both languages", () => {
    expect(beats(score)).toBe(true);
    expect(beats({ ...score, right: [60, 30] })).toBe(false);
    expect(beats({ ...score, n: [10, 10], right: [4, 4], blank: [2, 2], majority: [2, 2] })).toBe(false);
  });

  it("is one file with everything in it", () => {
    const stage = {
      name: "stage 0",
      steps: 500,
      seconds: 10,
      flops: 1e12,
      trained: 1000,
      losses: Array.from({ length: 500 }, (_, i) => 5 / (1 + i / 50)),
    };
    const tiles = tilesOf(splits, { cells: [splits.train[0]], ground: 1 });
    const shown = [
      {
        row: "A",
        tiles,
        turns: [{ question: "What?", expected: "<b>", answer: "<b>", blank: "no" }],
        attention: { question: "What?", words: [{ word: "thing", weights: [0.1, 0.2, 0.1, 0.1, 0.3] }] },
      },
    ];
    const html = renderReport({ title: "A & B", facts: [["seed", "1"]], stages: [stage], scores: [score], shown });
    expect(html).toContain("A &#38; B");
    expect(html).not.toContain("<b>x");
    expect(html.match(/data:image\/png;base64/g)?.length).toBe(2);
    expect(html).not.toMatch(/(src|href)="http/);
    expect(lossCurve(stage)).toMatch(/5\.00 → 0\.4/);
  });
});

describe("work", () => {
  it("is counted as the feasibility study counts it", () => {
    const flops = forwardFlops(
      llavaConfig({ visionDim: 64, visionLayers: 2, textDim: 96, textLayers: 2, textInner: 192, vocabulary: 1024 }),
    );
    expect(flops.tile / 1e6).toBeCloseTo(4.7, 0);
    expect(
      createModel({ visionDim: 64, visionLayers: 2, textDim: 96, textLayers: 2, textInner: 192, vocabulary: 1024 }, 1)
        .parameters()
        .reduce((n, p) => n + p.numel, 0),
    ).toBe(443_712);
  });
});

const mean = (list: number[]): number => list.reduce((a, b) => a + b, 0) / list.length;
