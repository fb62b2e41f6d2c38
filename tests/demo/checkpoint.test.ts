import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { Chat, readPng, toTiles } from "../../examples/demo/chat.ts";
import type { Score } from "../../examples/demo/evaluate.ts";
import { beats } from "../../examples/demo/report.ts";
import { Llava } from "../../models/index.ts";
import { init } from "../../src/index.ts";

const folder = "examples/demo/checkpoint";
const samples = "examples/demo/samples";

/** Answers that the shipped weights must give to the shipped pictures, both of the test splits. */
const expected: Record<string, [question: string, answer: string][]> = {
  "single.png": [
    ["What is this?", "pineapple"],
    ["图里是什么？", "菠萝"],
    ["What kind of thing is it?", "food"],
    ["背景是什么颜色？", "蓝色"],
  ],
  "composite.png": [
    ["How many things are there?", "3"],
    ["图里有几个东西？", "3"],
    ["What is at the bottom left?", "lemon"],
    ["右下角是什么？", "灯笼椒"],
    ["What colour is the thing at the bottom right?", "green"],
    ["右上角的属于哪一类？", "食物"],
  ],
};

describe("the checkpoint that ships", () => {
  let chat: Chat;
  beforeAll(async () => {
    await init();
    chat = await Chat.open(folder);
  });

  it("is small, and has what its folder needs", () => {
    const files = readdirSync(folder);
    for (const file of [
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
      "preprocessor_config.json",
      "results.json",
    ])
      expect(files).toContain(file);
    expect(files.reduce((n, file) => n + statSync(`${folder}/${file}`).size, 0)).toBeLessThan(8e6);
    expect(chat.model).toBeInstanceOf(Llava);
  });

  it.each(Object.entries(expected))("answers about %s in both languages", async (file, asked) => {
    const tiles = toTiles(readPng(`${samples}/${file}`));
    expect(await chat.answers(asked.map(([question]) => ({ tiles, question })))).toEqual(
      asked.map(([, answer]) => answer),
    );
  });

  it("has results that name every row once, and the README's table shows them", () => {
    const { scores } = JSON.parse(readFileSync(`${folder}/results.json`, "utf8")) as { scores: Score[] };
    expect(new Set(scores.map(({ row }) => row)).size).toBe(scores.length);
    expect(scores.filter(beats).length).toBeGreaterThan(9);
    expect(existsSync("examples/demo/README.md")).toBe(true);
    const readme = readFileSync("examples/demo/README.md", "utf8");
    for (const { row, n, right } of scores) {
      const share = right.map((r, i) => Math.round((100 * r) / n[i])).join("/");
      expect(readme, row).toMatch(new RegExp(`${row.replace(/[()+]/g, "\\$&")} \\|[^\\n]*\\| ${share} \\|`));
    }
  });
});
