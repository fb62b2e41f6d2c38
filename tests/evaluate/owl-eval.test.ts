import { describe, expect, test } from "vitest";
import { ask } from "../../models/evaluate/answer.ts";
import { owlAnswers, owlQuestions, owlTable, readOwlQuestions } from "../../models/evaluate/owl-eval.ts";
import { owlPage } from "../../models/evaluate/owl-page.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { png } from "../support/tiny-world.ts";

const lines = [
  { image: "1.png", question_id: 1, question: "Funny?", category: ["single_turn"] },
  { image: "4.png", question_id: 2, question: "Any text?", category: ["single_turn", "multi_turn"] },
  { image: "4.png", question_id: 3, question: "Why <b>that</b>?", category: ["multi_turn"] },
  { image: "4.png", question_id: 4, question: "And then?", type: ["multi"] },
  { image: "5.png", question_id: 5, question: "Where?", category: ["multi_turn"] },
  { image: "5.png", question_id: 6, question: "Alone?", category: ["single_turn"] },
];
const bytes = (text: string) => new TextEncoder().encode(text);
const folder = () =>
  memoryFiles(
    new Map<string, Uint8Array>([
      ["questions.jsonl", bytes(lines.map((line) => JSON.stringify(line)).join("\n"))],
      ["1.png", png("red")],
      ["4.png", png("green")],
      ["5.png", png("blue")],
    ]),
  );

test("the questions of an image are one conversation where they say so", async () => {
  const source = folder();
  const questions = await readOwlQuestions(source);
  const seen: string[] = [];
  const shown = (content: unknown): string =>
    [content]
      .flat()
      .map((part) => (typeof part === "string" ? part : `[${[...(part as { data: Uint8Array }).data.slice(0, 3)]}]`))
      .join(" ");
  const answers = await ask(owlQuestions(questions), {
    answer: (messages) => {
      seen.push(messages.map(({ role, content }) => `${role[0]}: ${shown(content)}`).join(" | "));
      return `answer ${seen.length}`;
    },
    images: source,
    model_id: "m",
  });
  expect(seen).toEqual([
    "u: [220,30,30] Funny?",
    "u: [30,200,40] Any text?",
    "u: [30,200,40] Any text? | a: answer 2 | u: Why <b>that</b>?",
    "u: [30,200,40] Any text? | a: answer 2 | u: Why <b>that</b>? | a: answer 3 | u: And then?",
    "u: [30,40,220] Where?",
    "u: [30,40,220] Alone?",
  ]);
  expect(owlAnswers(questions, answers)[2]).toEqual({
    image: "4.png",
    question_id: 3,
    question: "Why <b>that</b>?",
    answer: "answer 3",
    model_id: "m",
  });
});

test("reading and asking name what is wrong", async () => {
  const read = (text: string) => readOwlQuestions(memoryFiles(new Map([["questions.jsonl", bytes(text)]])));
  await expect(read(`${JSON.stringify(lines[0])}\n{"image": "1.png", "question": "x"}`)).rejects.toThrow(
    "questions.jsonl:2: question_id must be a number",
  );
  await expect(read(`${JSON.stringify(lines[0])}\n${JSON.stringify(lines[0])}`)).rejects.toThrow(
    ":2: a second question 1",
  );
  const options = { answer: () => "x", model_id: "m" };
  const question = { question_id: 8, text: "?", images: ["none.png"] };
  await expect(ask([question], options)).rejects.toThrow(
    "question 8: it needs the image none.png, and there is no folder",
  );
  await expect(ask([question], { ...options, images: folder() })).rejects.toThrow(
    "question 8: memory: there is no file",
  );
  await expect(ask([{ ...question, follows: true }], options)).rejects.toThrow(
    "question 8: it follows no other question",
  );
});

describe("the page", () => {
  const answer = (model_id: string, i: number, text = `${model_id} says ${i}`) => ({
    ...lines[i],
    answer: text,
    model_id,
  });
  const answers = ["alpha", "beta", "gamma"].flatMap((model) => lines.map((_, i) => answer(model, i)));
  const radios = (page: string): string[] =>
    [...page.matchAll(/type="radio" name="([^"]+)" value="A"/g)].map((m) => m[1]);

  test("has one column a model at each question, in a fixed shuffled order, and hides the names", () => {
    const page = owlPage(lines, answers);
    const names = radios(page);
    expect([...names].sort()).toEqual(lines.flatMap((line) => [0, 1, 2].map((m) => `${line.question_id}/${m}`)).sort());
    expect(names).not.toEqual([...names].sort());
    expect(names).toEqual(radios(owlPage(lines, answers)));
    expect(names).not.toEqual(radios(owlPage(lines, answers, { seed: 1 })));
    expect(page).not.toContain("<h3>alpha");
    expect(page).toContain('src="cases/1.png"');
  });

  test("shows names and the given order when it is not blind", () => {
    const page = owlPage(lines, answers, { blind: false, image: (name) => `https://x.test/${name}?a&b` });
    expect(radios(page)).toEqual([...radios(page)].sort());
    expect(page).toContain("<h3>alpha</h3>");
    expect(page).toContain('src="https://x.test/1.png?a&amp;b"');
  });

  test("lets no text of a model or question become markup or script", () => {
    const evil = `</script><script>alert("x")</script>'&`;
    const page = owlPage([lines[2]], [{ ...lines[2], answer: evil, model_id: evil }], { title: evil, blind: false });
    expect(page.match(/<script>/g)).toHaveLength(1);
    expect(page.match(/<\/script>/g)).toHaveLength(1);
    expect(page).toContain("Why &lt;b&gt;that&lt;/b&gt;?");
    expect(page).toContain("&lt;/script&gt;&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#39;&amp;");
  });

  test("keeps grades, counts them and saves them as lines that owlTable reads", async () => {
    const script = /<script>([\s\S]*)<\/script>/.exec(
      owlPage(
        lines.slice(0, 2),
        answers.filter((a) => a.question_id < 3),
      ),
    )![1];
    const inputs = [
      { name: "1/0", value: "A", checked: false },
      { name: "1/0", value: "B", checked: false },
      { name: "2/2", value: "D", checked: false },
    ].map((input) => ({
      ...input,
      change: () => {},
      addEventListener: (_: string, f: () => void) => (inputs[i(input)].change = f),
    }));
    const i = (input: { name: string; value: string }) =>
      inputs.findIndex((x) => x.name === input.name && x.value === input.value);
    const count = { textContent: "" };
    const save = { click: () => {}, addEventListener: (_: string, f: () => void) => (save.click = f) };
    const link = { href: "", download: "", click: () => {} };
    const document = {
      querySelectorAll: () => inputs,
      getElementById: (id: string) => (id === "count" ? count : save),
      createElement: () => link,
    };
    const stored = new Map<string, string>();
    const localStorage = {
      getItem: (k: string) => stored.get(k) ?? null,
      setItem: (k: string, v: string) => stored.set(k, v),
    };
    let blob = new Blob([]);
    const URL = { createObjectURL: (b: Blob) => ((blob = b), "blob:") };
    const run = () =>
      new Function("document", "localStorage", "URL", "Blob", script)(document, localStorage, URL, Blob);
    run();
    for (const k of [0, 1, 2]) inputs[k].change();
    expect(count.textContent).toBe(2);
    run(); // the page opened again
    expect(inputs.map((input) => input.checked)).toEqual([false, true, true]);
    save.click();
    const graded = (await blob.text())
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(graded).toEqual([
      { question_id: 1, model_id: "alpha", grade: "B" },
      { question_id: 2, model_id: "gamma", grade: "D" },
    ]);
    expect(owlTable(graded)).toEqual({ alpha: { A: 0, B: 1, C: 0, D: 0 }, gamma: { A: 0, B: 0, C: 0, D: 1 } });
    expect(() => owlTable([graded[0], graded[0]])).toThrow("question 1, alpha: graded twice");
    expect(() => owlTable([{ ...graded[0], grade: "E" }])).toThrow("grade E is none of A, B, C, D");
  });

  test("names answers that are missing, twice, or to no question", () => {
    expect(() => owlPage(lines, [])).toThrow("there are no answers");
    expect(() => owlPage(lines, answers.slice(1))).toThrow("alpha has no answer to question 1");
    expect(() => owlPage(lines, [...answers, answers[0]])).toThrow("alpha answers question 1 twice");
    expect(() => owlPage(lines.slice(1), answers)).toThrow("alpha answers question 1, which is not there");
  });
});
