import { describe, expect, it } from "vitest";
import { Batcher, conversationBatch, ROW_LENGTH, TILE_TOKENS } from "../../examples/demo/batches.ts";
import { drawPicture, randomPose, still, TILE, TILE_FLOATS } from "../../examples/demo/draw.ts";
import { family, mainColour } from "../../examples/demo/emoji.ts";
import { evaluationItems } from "../../examples/demo/evaluate.ts";
import {
  BOS,
  EOS,
  emptyRows,
  IGNORE,
  IMAGE,
  imagePlaces,
  packRow,
  TextIds,
  trainTokenizer,
  USR,
} from "../../examples/demo/pack.ts";
import { Random } from "../../examples/demo/random.ts";
import { Splits } from "../../examples/demo/splits.ts";
import { SceneSampler, turnsOf } from "../../examples/demo/tasks.ts";
import { colours } from "../../examples/demo/words.ts";
import { inventedSet } from "../support/invented-emoji.ts";

const set = inventedSet();
const splits = new Splits(set);
const texts = new TextIds(trainTokenizer(Batcher.corpus(splits), 600));

describe("splits", () => {
  const seen = new Set(splits.train.map(({ emoji, vendor }) => `${set.emoji[emoji].family} ${vendor}`));
  const seenFamilies = new Set(splits.train.map(({ emoji }) => set.emoji[emoji].family));
  const seenTones = new Set(splits.train.map(({ emoji }) => `${set.emoji[emoji].family} ${set.emoji[emoji].tone}`));

  it("A: the family was seen, but never as this vendor draws it", () => {
    const held = [...splits.otherVendor("test"), ...splits.otherVendor("validation")];
    expect(held.length).toBeGreaterThan(10);
    for (const { emoji, vendor } of held) {
      expect(seenFamilies).toContain(set.emoji[emoji].family);
      expect(seen).not.toContain(`${set.emoji[emoji].family} ${vendor}`);
    }
  });

  it("B: nothing of the family was seen", () => {
    const held = [
      ...splits.unseen("test", false),
      ...splits.unseen("test", true),
      ...splits.unseen("validation", false),
    ];
    expect(held.length).toBeGreaterThan(10);
    for (const { emoji } of held) {
      expect(seenFamilies).not.toContain(set.emoji[emoji].family);
      expect(splits.named(set.emoji[emoji])).toBe(false);
    }
  });

  it("D: the base was seen, never with this tone", () => {
    const held = [...splits.unseenTone("test"), ...splits.unseenTone("validation")];
    expect(held.length).toBeGreaterThan(5);
    for (const { emoji } of held) {
      const e = set.emoji[emoji];
      expect(seenFamilies).toContain(e.family);
      expect(seenTones).not.toContain(`${e.family} ${e.tone}`);
    }
  });

  it("C: training composites never show an emoji at its barred position, test composites always do", () => {
    const sampler = new SceneSampler(splits);
    const random = new Random(3);
    for (let i = 0; i < 300; i++) {
      const [train, test] = [sampler.composite(random), sampler.unseenComposite(random)];
      train.cells.forEach((cell, p) => cell && expect(splits.barredPosition(set.emoji[cell.emoji])).not.toBe(p));
      test.cells.forEach((cell, p) => cell && expect(splits.barredPosition(set.emoji[cell.emoji])).toBe(p));
      expect(test.cells.some(Boolean)).toBe(true);
    }
  });

  it("validation and test parts share no picture, and every table row has both languages", () => {
    const key = (p: { emoji: number; vendor: number }): string => `${set.emoji[p.emoji].family}`;
    for (const of of [
      (part: "test" | "validation") => splits.otherVendor(part),
      (part: "test" | "validation") => splits.unseen(part, false),
    ]) {
      const test = new Set(of("test").map(key));
      for (const p of of("validation")) expect(test).not.toContain(key(p));
    }
    const items = evaluationItems(splits, "test");
    for (const row of new Set(items.map((item) => item.row))) {
      const own = items.filter((item) => item.row === row);
      expect(own.filter(({ turn }) => turn.language === 0).length).toBe(
        own.filter(({ turn }) => turn.language === 1).length,
      );
    }
    expect(evaluationItems(splits, "test")).toEqual(items);
  });

  it("puts variants of one thing into one family", () => {
    expect(family("woman health worker", 25)).toBe(family("health worker", 25));
    expect(family("three o’clock", 58)).toBe(family("seven-thirty", 58));
    expect(family("red apple", 42)).toBe(family("green apple", 42));
    expect(family("banana", 42)).not.toBe(family("lemon", 42));
  });
});

describe("pictures", () => {
  it("names the colour that covers most, and none where nothing does", () => {
    const paint = (f: (i: number) => number[]): Uint8Array =>
      Uint8Array.from(Array.from({ length: 64 }, (_, i) => f(i)).flat());
    const name = (rgba: Uint8Array): string => colours[mainColour(rgba)]?.[0];
    expect(name(paint(() => [230, 30, 30, 255]))).toBe("red");
    expect(name(paint(() => [40, 90, 220, 255]))).toBe("blue");
    expect(name(paint((i) => (i % 2 ? [250, 250, 250, 255] : [0, 0, 0, 0])))).toBe("white");
    expect(
      name(
        paint(
          (i) =>
            [
              [230, 30, 30, 255],
              [40, 90, 220, 255],
              [60, 180, 60, 255],
            ][i % 3],
        ),
      ),
    ).toBeUndefined();
  });

  it("draws a still picture as the mean of four stored pixels over the ground, and poses stay near it", () => {
    const out = new Float32Array(TILE_FLOATS);
    drawPicture(out, 0, set, { emoji: 0, vendor: 0 }, [255, 255, 255], still);
    const [x, y] = [16, 16];
    const p = (row: number, column: number): number => (row * 64 + column) * 4;
    let want = 0;
    for (const at of [p(32, 32), p(32, 33), p(33, 32), p(33, 33)])
      want += (set.pixels[at] + 255 * (1 - set.pixels[at + 3] / 255)) / 4;
    expect(out[y * TILE + x]).toBeCloseTo((want / 255 - 0.5) / 0.25, 4);
    const random = new Random(5);
    for (let i = 0; i < 50; i++) {
      drawPicture(out, 0, set, { emoji: i, vendor: 1 }, [20, 20, 20], randomPose(random, i % 8, i % 2 === 0));
      expect(out.every((v) => v >= -2 && v <= 2)).toBe(true);
    }
  });
});

describe("rows", () => {
  it("let every round see the image and itself, restart positions after the image, have labels on answers alone", () => {
    const scene = new SceneSampler(splits).single(new Random(9));
    const rows = emptyRows(1, ROW_LENGTH.single);
    const placed = packRow(rows, 0, imagePlaces(TILE_TOKENS), turnsOf(scene, splits), texts);
    expect(placed.length).toBeGreaterThan(2);
    expect([...rows.inputIds.slice(0, 7)]).toEqual([BOS, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, USR]);
    for (let i = 0; i < rows.length; i++) {
      if (rows.inputIds[i] === USR) expect(rows.positions[i]).toBe(1 + TILE_TOKENS);
      else if (rows.segments[i] > 0) expect(rows.positions[i]).toBe(rows.positions[i - 1] + 1);
    }
    const learned = placed.map(({ turn, start, count }) => {
      expect(rows.labels[start + count - 1]).toBe(EOS);
      return texts.tokenizer.decode([...rows.labels.slice(start, start + count - 1)]) === turn.answer;
    });
    expect(learned.every(Boolean)).toBe(true);
    expect(rows.labels.filter((id) => id !== IGNORE).length).toBe(placed.reduce((n, { count }) => n + count, 0));
  });

  it("are the same for the same seed, and take a few milliseconds", () => {
    const make = (): number[] => {
      const batcher = new Batcher(splits, texts, new Random(11));
      const a = batcher.conversations("composite", 8);
      const b = batcher.heads(32);
      const c = batcher.text(8);
      return [
        ...a.inputIds,
        ...a.pixels.slice(0, 5000),
        ...b.pixels.slice(0, 5000),
        ...b.classes.category,
        ...c.labels,
      ];
    };
    expect(make()).toEqual(make());
    const batcher = new Batcher(splits, texts, new Random(1));
    for (let i = 0; i < 20; i++) batcher.conversations("single", 16);
    const before = process.cpuUsage();
    for (let i = 0; i < 20; i++) batcher.conversations("single", 16);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000 / 20).toBeLessThan(25);
  });

  it("say in both languages what stands where", () => {
    const sampler = new SceneSampler(splits);
    const scene = sampler.composite(new Random(2));
    const turns = turnsOf(scene, splits);
    const count = scene.cells.filter(Boolean).length;
    expect(turns.filter(({ task }) => task === "count").map(({ answer }) => answer)).toEqual([
      String(count),
      String(count),
    ]);
    expect(turns.filter(({ task }) => task === "categoryAt").length).toBe(2 * count);
    const batch = conversationBatch([scene], [turns], set, texts, ROW_LENGTH.composite);
    expect(batch.tiles).toBe(4);
    expect(batch.placed[0].length).toBeGreaterThan(3);
  });
});
