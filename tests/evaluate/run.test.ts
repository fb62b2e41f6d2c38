import { describe, expect, test } from "vitest";
import type { Answerer } from "../../models/evaluate/answer.ts";
import { evaluateBench, evaluateCaptions, evaluateOwl, evaluateScienceQA } from "../../models/evaluate/run.ts";
import type { ChatMessage } from "../../src/generate/chat.ts";
import { type FileSource, memoryFiles } from "../../src/io/source.ts";
import { png } from "../support/tiny-world.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const lines = (list: readonly unknown[]) => list.map((line) => `${JSON.stringify(line)}\n`).join("");
const files = (contents: Record<string, string | Uint8Array>) =>
  memoryFiles(new Map(Object.entries(contents).map(([name, c]) => [name, typeof c === "string" ? bytes(c) : c])));
const read = async (source: FileSource, name: string) => new TextDecoder().decode(await source.read(name));
const records = async (source: FileSource, name: string) =>
  (await read(source, name))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line)); // prettier-ignore
/** The texts of a message. */
const said = ({ content }: ChatMessage) =>
  [content]
    .flat()
    .filter((part) => typeof part === "string")
    .join(""); // prettier-ignore

const problem = (answer: number, image: string | null) => ({
  question: "Which?",
  choices: ["ice", "steam"],
  answer,
  hint: "",
  image,
  subject: "natural science",
  grade: "grade2",
  lecture: "L.",
  solution: "E.",
  caption: "a kettle",
});
const science = files({
  "problems.json": JSON.stringify({
    1: problem(0, "image.png"),
    2: problem(1, null),
    3: problem(1, null),
    4: problem(0, null),
  }),
  "pid_splits.json": JSON.stringify({ test: ["1", "2", "3"], val: ["4"] }),
});
const images = files({ "1/image.png": png("red"), "a.png": png("red"), "b.png": png("blue") });

describe("ScienceQA", () => {
  test("asks, scores, and keeps answers and results", async () => {
    const output = memoryFiles();
    const seen: string[] = [];
    const answer: Answerer = ([{ content }]) => (
      seen.push(said({ role: "user", content })), seen.length === 3 ? "hm" : "The answer is A."
    );
    const { scores, unparsed } = await evaluateScienceQA(science, {
      answer,
      images,
      output,
      model_id: "m",
      direct: true,
    });
    expect([scores.all.right, scores.all.count, unparsed]).toEqual([1, 3, ["3"]]);
    expect(seen[0]).toBe(
      "Which?\nContext: N/A\nOptions: (A) ice (B) steam\nAnswer with the option's letter from the given choices directly.",
    );
    expect((await records(output, "answers.jsonl")).map(({ question_id, text }) => [question_id, text])).toEqual([
      ["1", "The answer is A."],
      ["2", "The answer is A."],
      ["3", "hm"],
    ]);
    expect(JSON.parse(await read(output, "results.json"))).toMatchObject({
      task: "scienceqa",
      model_id: "m",
      split: "test",
      format: "QCM-LEA",
      scores: { all: { right: 1, count: 3 } },
      unparsed: ["3"],
    });
  });

  test("text alone: captions in place of images, none is read", async () => {
    const seen: string[] = [];
    const answer: Answerer = ([message]) => (seen.push(said(message)), "B. steam");
    const options = { answer, output: memoryFiles(), model_id: "m", textOnly: true, limit: 2 };
    const { scores } = await evaluateScienceQA(science, options);
    expect(seen[0]).toContain("Context: a kettle");
    expect([scores.all.right, scores.all.count]).toEqual([1, 2]);
  });

  test("the answer prompter continues the reasoning, always or if it has no letter", async () => {
    const run = async (answerPrompter?: "always" | "missing") => {
      const asked: { text: string; tokens?: number }[] = [];
      const answer: Answerer = (messages, options) => {
        const last = messages[messages.length - 1];
        if (last.role === "user") return last.content.length === 2 ? "Heat. The answer is A." : "Heat moves."; // with its image, without
        asked.push({ text: said(last), tokens: options?.maxNewTokens });
        return "B.";
      };
      const output = memoryFiles();
      const { scores } = await evaluateScienceQA(science, { answer, images, output, model_id: "m", answerPrompter });
      return {
        asked,
        right: scores.all.right,
        texts: (await records(output, "answers.jsonl")).map(({ text }) => text),
      };
    };
    expect(await run()).toMatchObject({ asked: [], right: 1 });
    const always = await run("always");
    expect(always.asked.map(({ text }) => text)).toEqual([
      "Heat. The answer is A. ###\nANSWER:",
      "Heat moves. ###\nANSWER:",
      "Heat moves. ###\nANSWER:",
    ]);
    expect(always.asked[0].tokens).toBe(64);
    expect(always.texts[0]).toBe("Heat. The answer is A.\n The answer is B."); // the first letter counts, as there
    expect(always.right).toBe(3);
    const missing = await run("missing");
    expect([missing.asked.length, missing.right]).toEqual([2, 3]);
    expect(missing.texts).toEqual(["Heat. The answer is A.", ...always.texts.slice(1)]);
  });

  test("goes on where it was interrupted, and refuses answers of another model or question", async () => {
    const output = memoryFiles();
    let asked = 0;
    const broken: Answerer = () => {
      if (++asked === 3) throw new Error("power cut");
      return "The answer is B.";
    };
    const options = { images, output, model_id: "m" };
    await expect(evaluateScienceQA(science, { ...options, answer: broken })).rejects.toThrow("question 3: power cut");
    expect((await records(output, "answers.jsonl")).length).toBe(2);
    const progress: number[] = [];
    const { scores } = await evaluateScienceQA(science, {
      ...options,
      resume: true,
      answer: () => (asked++, "The answer is B."),
      onProgress: ({ done }) => progress.push(done),
    });
    expect([asked, scores.all.right, progress]).toEqual([4, 2, [2, 3]]);
    await expect(evaluateScienceQA(science, { ...options, model_id: "other", resume: true })).rejects.toThrow(
      "evaluation of other: there is an answer of m",
    );
    await expect(evaluateScienceQA(science, { ...options, resume: true, direct: true })).rejects.toThrow(
      "the answer there is to another question",
    );
    await expect(evaluateScienceQA(science, { ...options, split: "val" })).rejects.toThrow(
      "question 4: it has no answer",
    );
  });
});

describe("captions", () => {
  const pictures = [
    { image: "a.png", captions: ["A dog runs in the park.", "a dog"] },
    { image: "b.png", caption: "two cats" },
  ];
  const coco = {
    images: [
      { id: 7, file_name: "a.png" },
      { id: 8, file_name: "b.png" },
    ],
    annotations: [
      { image_id: 7, caption: "A dog runs in the park." },
      { image_id: 8, caption: "two cats" },
      { image_id: 7, caption: "a dog" },
    ],
  }; // prettier-ignore
  const data = files({
    "list.json": JSON.stringify(pictures),
    "lines.jsonl": lines(pictures),
    "coco.json": JSON.stringify(coco),
    "bare.json": JSON.stringify([{ image: "a.png" }]),
  });
  const answers = ["a dog runs in the park", "a cat"];

  test.each(["list.json", "lines.jsonl", "coco.json"])("%s", async (name) => {
    const output = memoryFiles();
    let next = 0;
    const asked: string[] = [];
    const answer: Answerer = ([message]) => (asked.push(said(message)), answers[next++]);
    const scores = await evaluateCaptions(data, name, { answer, images, output, model_id: "m", prompt: "Say it." });
    expect(asked).toEqual(["Say it.", "Say it."]);
    expect(scores.exactMatch).toBe(0.5); // the figures of captions.test.ts
    expect(scores.bleu4).toBeCloseTo(0.889, 3);
    expect(scores.cider).toBeCloseTo(3.013, 3);
    expect(JSON.parse(await read(output, "results.json"))).toMatchObject({
      task: "captions",
      count: 2,
      prompt: "Say it.",
    });
  });

  test("a picture without captions is named", async () => {
    const options = { output: memoryFiles(), model_id: "m" };
    await expect(evaluateCaptions(data, "bare.json", options)).rejects.toThrow(
      "memory/bare.json, sample 0: captions must be strings",
    );
  });
});

test("OwlEval: several rounds per image, a page with another model, grades counted", async () => {
  const questions = [
    { image: "a.png", question_id: 1, question: "What?", category: ["multi_turn"] },
    { image: "a.png", question_id: 2, question: "Why?", category: ["multi_turn"] },
    { image: "b.png", question_id: 3, question: "Who?", category: ["single_turn"] },
  ];
  const output = memoryFiles();
  const turns: number[] = [];
  const answer: Answerer = (messages) => (turns.push(messages.length), `answer ${turns.length}`);
  const other = questions.map(({ question, ...q }) => ({ ...q, question, answer: "other", model_id: "rival" }));
  const grades = [
    { question_id: 1, model_id: "m", grade: "A" as const },
    { question_id: 1, model_id: "rival", grade: "C" as const },
  ];
  const done = await evaluateOwl(files({ "questions.jsonl": lines(questions) }), {
    ...{ answer, images, output, model_id: "m", compare: other, grades },
    page: { image: (name) => `../cases/${name}` },
  });
  expect(turns).toEqual([1, 3, 1]);
  expect(done.models).toEqual(["m", "rival"]);
  expect(done.grades).toMatchObject({ m: { A: 1, B: 0 }, rival: { C: 1 } });
  expect((await records(output, "owleval.jsonl"))[1]).toEqual({
    ...{ image: "a.png", question_id: 2, question: "Why?", answer: "answer 2", model_id: "m" },
  });
  const page = await read(output, "page.html");
  expect(page).toContain('src="../cases/a.png"');
  expect(page).toContain("answer 3");
});

test("LLaVA-Bench: answers are asked, judged and scored; reviews are kept", async () => {
  const output = memoryFiles();
  const questions = ["conv", "detail"].map((category, question_id) => ({
    question_id,
    image: "a.png",
    category,
    text: "What?",
  }));
  let judged = 0;
  const options = {
    ...{ answer: () => "A cat.", images, output, model_id: "m", questions },
    contexts: [{ image: "a.png", caption: "A dog." }],
    reference: questions.map(({ question_id }) => ({ question_id, text: "A dog." })),
    judge: (prompt: string) => (expect(prompt).toContain("A cat."), `8 ${2 + 2 * judged++}`),
  };
  const { scores } = await evaluateBench(options);
  expect([scores.conv.relative, scores.detail.relative, scores.all.relative]).toEqual([25, 50, 37.5]);
  expect((await records(output, "reviews.jsonl")).length).toBe(2);
  await evaluateBench({ ...options, resume: true });
  expect(judged).toBe(2);
});
