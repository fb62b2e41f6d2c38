import { describe, expect, test } from "vitest";
import { type JudgeOptions, judgeAnswers, parseScores, relativeScores } from "../../models/evaluate/relative-score.ts";

const questions = [
  { question_id: 0, image: "a.jpg", category: "conv", text: "What?" },
  { question_id: 1, image: "a.jpg", category: "detail", text: "Describe." },
  { question_id: 2, image: "b.jpg", category: "conv", text: "Why?" },
];
const answers = (name: string) => questions.map(({ question_id }) => ({ question_id, text: `${name} ${question_id}` }));
const options: JudgeOptions = {
  questions,
  contexts: [
    { image: "a.jpg", caption: ["one", "two"] },
    { image: "b.jpg", caption: "three" },
  ],
  reference: answers("reference"),
  answers: answers("model"),
  judge: () => "8 6\nReasons.",
  rules: { llava_bench_conv: { role: "Helper", prompt: "Judge." }, detail: { role: "Helper", prompt: "Judge it." } },
};

test("the judge reads context, question, both answers and the rule", async () => {
  const prompts: string[] = [];
  const reviews = await judgeAnswers({ ...options, judge: (prompt) => (prompts.push(prompt), "8, 6") });
  expect(prompts[0]).toBe(
    "[Context]\none\ntwo\n\n[Question]\nWhat?\n\n[Helper 1]\nreference 0\n\n[End of Helper 1]\n\n" +
      "[Helper 2]\nmodel 0\n\n[End of Helper 2]\n\n[System]\nJudge.\n\n",
  );
  expect(prompts.length).toBe(3);
  expect(reviews[1]).toEqual({ question_id: 1, category: "detail", content: "8, 6", tuple: [8, 6] });
});

test("the published rules have two of a category: the prefix says which", async () => {
  const rules = {
    conv: { role: "Helper", prompt: "With boxes." },
    llava_bench_conv: { role: "Helper", prompt: "In the wild." },
  };
  for (const [rulePrefix, prompt] of [
    [undefined, "In the wild."],
    ["", "With boxes."],
  ] as const) {
    const prompts: string[] = [];
    const judge = (text: string) => (prompts.push(text), "5 5");
    await judgeAnswers({ ...options, questions: [questions[0]], rules, rulePrefix, judge });
    expect(prompts[0]).toContain(`[System]\n${prompt}\n`);
  }
});

test("relative scores are ratios of means, by category and over all", async () => {
  const scores = ["8 4", "10 5", "4 8"];
  const reviews = await judgeAnswers({ ...options, judge: () => scores.shift()! });
  expect(relativeScores(reviews)).toEqual({
    conv: { relative: 100, reference: 6, model: 6, count: 2 }, // (4 + 8) / (8 + 4), not the mean of 50 and 200
    detail: { relative: 50, reference: 10, model: 5, count: 1 },
    all: { relative: expect.closeTo((100 * 17) / 22, 10), reference: 22 / 3, model: 17 / 3, count: 3 },
  });
  expect(() => relativeScores([])).toThrow("no reviews");
});

test("both orders cancel a judge that favours the first place", async () => {
  const reviews = await judgeAnswers({ ...options, judge: () => "9 7", bothOrders: true });
  expect(reviews.map(({ tuple }) => tuple)).toEqual([
    [8, 8],
    [8, 8],
    [8, 8],
  ]);
});

test("asks again for scores, then names the question; earlier reviews are kept", async () => {
  const replies = ["Well,", "11 3", "7 7"];
  const saved: unknown[] = [];
  const [first] = await judgeAnswers({ ...options, questions: [questions[0]], judge: () => replies.shift()! });
  expect(first.tuple).toEqual([7, 7]);
  const judge = (prompt: string) => (prompt.includes("model 2") ? "no scores" : "5 5");
  await expect(
    judgeAnswers({ ...options, judge, done: [first], onReview: (r) => void saved.push(r.question_id) }),
  ).rejects.toThrow('question 2: no two scores from 1 to 10 in the first line of 3 reviews, the last: "no scores"');
  expect(saved).toEqual([1]);
});

test("what is missing shows before anything is judged", async () => {
  let judged = 0;
  const judge = () => (judged++, "5 5");
  const run = (part: Partial<JudgeOptions>) => judgeAnswers({ ...options, judge, ...part });
  await expect(run({ answers: [] })).rejects.toThrow("question 0: the model's answer is missing");
  await expect(run({ contexts: options.contexts.slice(0, 1) })).rejects.toThrow(
    "question 2: the context of image b.jpg",
  );
  await expect(run({ rules: { conv: options.rules!.detail } })).rejects.toThrow("question 1: the rule of detail");
  expect(judged).toBe(0);
});

describe("scores of a review", () => {
  test.each([
    ["8 9\nwhy", [8, 9]],
    ["8.5, 9", [8.5, 9]],
    ["\n7  10\n", [7, 10]],
    ["Scores: 8 9", undefined],
    ["8", undefined],
    ["8 9 7", undefined],
    ["0 5", undefined],
    ["85", undefined],
    ["", undefined],
  ])("%j", (review, scores) => expect(parseScores(review)).toEqual(scores));
});
