import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { answererOf, ask } from "../../models/evaluate/answer.ts";
import { type ScienceProblem, scienceQuestions, scienceScores } from "../../models/evaluate/science-qa.ts";
import { Llava } from "../../models/llava.ts";
import { decodeImage } from "../../src/image/decode.ts";
import { folder } from "../../src/runtime/node.ts";
import { type Colour, imageOf, tinyWorld } from "../support/tiny-world.ts";

let world: string;
beforeAll(async () => (world = await tinyWorld()));
afterAll(() => rmSync(world, { recursive: true }));

const problem = (image: Colour | null): ScienceProblem => ({
  question: "Which colour is it?",
  choices: ["red", "green"],
  answer: 0,
  hint: "",
  image: image && `${image}.png`,
  subject: "natural science",
  grade: "grade1",
  lecture: "",
  solution: "",
});

test("a model answers problems with and without images, as its chat does", async () => {
  const model = await Llava.fromPretrained(join(world, "model"));
  const problems = new Map([
    ["nested", problem("red")], // the folder of its image
    ["words", problem(null)],
  ]);
  const generation = { maxNewTokens: 6, template: "v1" };
  const asked: unknown[] = [];
  const own = answererOf(model, generation);
  const answers = await ask(scienceQuestions(problems, "QCM-LEA"), {
    answer: (messages) => (asked.push(...messages.map(({ content }) => content)), own(messages)),
    images: folder(join(world, "images")),
    model_id: "tiny",
  });
  const question = "Which colour is it?\nContext: N/A\nOptions: (A) red (B) green";
  const red = await decodeImage(readFileSync(join(world, imageOf("red"))));
  for (const [i, content] of [[red, question], question].entries()) {
    let text = "";
    for await (const piece of model.chat([{ role: "user", content }], generation)) text += piece;
    expect(text.length).toBeGreaterThan(0);
    expect(answers[i].text).toBe(text.trim());
  }
  expect(asked).toEqual([[red, question], [question]]);
  expect(answers.map(({ question_id, prompt, model_id }) => [question_id, prompt, model_id])).toEqual([
    ["nested", question, "tiny"],
    ["words", question, "tiny"],
  ]);
  expect(scienceScores(problems, answers)).toMatchObject({ scores: { all: { count: 2 } }, missing: [] });
});
