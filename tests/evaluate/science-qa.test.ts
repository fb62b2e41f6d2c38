import { describe, expect, test } from "vitest";
import {
  readScienceQA,
  type ScienceFormat,
  type ScienceProblem,
  scienceLetter,
  scienceQuestions,
  scienceSample,
  scienceScores,
  scienceText,
} from "../../models/evaluate/science-qa.ts";
import { memoryFiles } from "../../src/io/source.ts";

const problem: ScienceProblem = {
  question: "Which is warmer?",
  choices: ["ice", "steam"],
  answer: 1,
  hint: "",
  image: "image.png",
  subject: "natural science",
  grade: "grade6",
  lecture: "Heat moves.",
  solution: "Steam is hot.",
  caption: "a kettle",
};
const words = { ...problem, image: null, hint: "Think.", lecture: "", subject: "social science", grade: "grade7" };
const bare = { ...problem, image: null, answer: 0, subject: "language science", grade: "grade12" };
const problems = new Map([
  ["1", problem],
  ["2", words],
  ["3", bare],
]);

describe("samples", () => {
  const question = "Which is warmer?\nContext: N/A\nOptions: (A) ice (B) steam";
  test.each<[ScienceFormat, string]>([
    ["QCM-A", "The answer is B."],
    ["QCM-ALE", "The answer is B. BECAUSE: Heat moves. Steam is hot."],
    ["QCM-AEL", "The answer is B. BECAUSE: Steam is hot. Heat moves."],
    ["QCM-LEA", "Heat moves. Steam is hot. The answer is B."],
    ["QCM-EA", "Steam is hot. The answer is B."],
    ["QCM-LEPA", "LECTURE: Heat moves.\nSOLUTION: Steam is hot.\n###\nANSWER: B."],
  ])("%s", (format, answer) => expect(scienceText(problem, format)).toEqual({ question, answer }));

  test("without lecture, without reasons, with the caption", () => {
    expect(scienceText(words, "QCM-LEPA").answer).toBe("SOLUTION: Steam is hot.\n###\nANSWER: B.");
    expect(scienceText(words, "QCM-AL").answer).toBe("The answer is B.");
    expect(scienceText(words, "QCM-LA").answer).toBe("The answer is B.");
    const { question } = scienceText({ ...words, caption: "a kettle" }, "CQM-A", { caption: true });
    expect(question).toBe("Context: Think. a kettle\nQuestion: Which is warmer?\nOptions: (A) ice (B) steam");
  });

  test("become LLaVA's JSON, with and without an image", () => {
    expect(scienceSample("7", problem, "QCM-A")).toEqual({
      id: "7",
      image: "7/image.png",
      conversations: [
        { from: "human", value: `${question}\n<image>` },
        { from: "gpt", value: "The answer is B." },
      ],
    });
    expect(Object.keys(scienceSample("8", words, "QCM-A"))).toEqual(["id", "conversations"]);
  });

  test("become questions to ask", () => {
    const asked = scienceQuestions(problems, "QCM-LEA");
    expect(asked.map(({ question_id, images }) => [question_id, images])).toEqual([
      ["1", ["1/image.png"]],
      ["2", []],
      ["3", []],
    ]);
    const [first] = scienceQuestions(problems, "QCM-LEA", { images: false });
    expect([first.images, first.text.split("\n")[1]]).toEqual([[], "Context: a kettle"]);
  });
});

test.each([
  ["B", "B"],
  [" C\n", "C"],
  ["B. steam", "B"],
  ["A\nbecause", "A"],
  ["The answer is D. BECAUSE: The answer is A.", "D"],
  ["Heat moves.\nThe answer is E.", "E"],
  ["The answer is B", "B"],
  ["LECTURE: x\n###\nANSWER: C.", "C"],
  ["steam", undefined],
  ["F", undefined],
  ["Because of B", undefined],
])("reads the letter of %j", (text, letter) => expect(scienceLetter(text)).toBe(letter));

describe("scores", () => {
  const answer = (question_id: string | number, text: string) => ({ question_id, text });

  test("by subject, context and grade, with what could not be read", () => {
    const { scores, missing, unparsed } = scienceScores(problems, [
      answer(1, "The answer is B."),
      answer("2", "The answer is C."), // it has two choices
    ]);
    expect(scores.all).toEqual({ right: 1, count: 3, accuracy: 100 / 3 });
    const table = Object.entries(scores).map(([name, { right, count }]) => `${name} ${right}/${count}`);
    expect(table).toEqual([
      "NAT 1/1",
      "SOC 0/1",
      "LAN 0/1",
      "TXT 0/1",
      "IMG 1/1",
      "NO 0/1",
      "G1-6 1/1",
      "G7-12 0/2",
      "all 1/3",
    ]);
    expect([missing, unparsed]).toEqual([["3"], ["2"]]);
  });

  test("every format's own answer is right", () => {
    for (const output of ["A", "AL", "AE", "ALE", "AEL", "LA", "EA", "LEA", "ELA", "LEPA"] as const) {
      const own = [...problems].map(([id, p]) => answer(id, scienceText(p, `QCM-${output}`).answer));
      expect(scienceScores(problems, own).scores.all.accuracy, output).toBe(100);
    }
  });

  test("an answer to no problem, or a second one, is an error", () => {
    expect(() => scienceScores(problems, [answer(9, "A")])).toThrow(
      "ScienceQA: an answer to 9, which is none of the 3",
    );
    expect(() => scienceScores(problems, [answer(1, "A"), answer("1", "B")])).toThrow("ScienceQA: two answers to 1");
  });
});

test("reads a folder; what is wrong is named", async () => {
  const files = (problems: unknown) =>
    memoryFiles(
      new Map(
        Object.entries({ "problems.json": problems, "pid_splits.json": { test: ["5", "3"] } }).map(([name, value]) => [
          name,
          new TextEncoder().encode(JSON.stringify(value)),
        ]),
      ),
    );
  expect([...(await readScienceQA(files({ 3: problem, 5: words, 6: bare }), "test")).keys()]).toEqual(["5", "3"]);
  await expect(readScienceQA(files({}), "val")).rejects.toThrow("pid_splits.json has no split val: test");
  await expect(readScienceQA(files({ 3: problem }), "test")).rejects.toThrow("problems.json: 5 is missing");
  await expect(readScienceQA(files({ 3: problem, 5: { ...words, answer: 2 } }), "test")).rejects.toThrow(
    "5: the answer 2 is none of its 2 choices",
  );
});
