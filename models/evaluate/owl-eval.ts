/** OwlEval (X-PLUG/mPLUG-Owl, arXiv 2304.14178): 82 questions on 50 images. People grade the answers A to D. */

import { readRecords } from "../../src/data/index.ts";
import type { FileSource } from "../../src/io/index.ts";
import type { Answer, Question } from "./answer.ts";

/** One line of questions.jsonl. */
export interface OwlQuestion {
  image: string;
  question_id: number;
  question: string;
  /** Letters of the abilities it tests, as "a,b,e". */
  ability?: string;
  /** "single_turn", "multi_turn"; older files say `type` and "single", "multi". */
  category?: readonly string[];
  type?: readonly string[];
}

/** One line of an answers file. */
export interface OwlAnswer {
  image: string;
  question_id: number;
  question: string;
  answer: string;
  model_id: string;
}

/** Checks questions. @throws naming a line without image, question_id or question, or with an id for the second time. */
export async function readOwlQuestions(source: FileSource, name = "questions.jsonl"): Promise<OwlQuestion[]> {
  const seen = new Set<number>();
  return (await readRecords(source, name)).map(({ value, where }) => {
    const question = value as OwlQuestion;
    for (const [key, type] of [
      ["image", "string"],
      ["question", "string"],
      ["question_id", "number"],
    ] as const)
      if (typeof question?.[key] !== type) throw new Error(`${where}: ${key} must be a ${type}`);
    if (seen.has(question.question_id)) throw new Error(`${where}: a second question ${question.question_id}`);
    seen.add(question.question_id);
    return question;
  });
}

/** The questions for `ask`. The multi-turn questions of an image are one conversation, in order. */
export function owlQuestions(questions: readonly OwlQuestion[]): Question[] {
  const turns = ({ category, type }: OwlQuestion): boolean =>
    (category ?? type ?? []).some((name) => name.includes("multi"));
  return questions.map((question, i) => {
    const before = questions[i - 1];
    const follows = i > 0 && before.image === question.image && turns(before) && turns(question);
    return { question_id: question.question_id, text: question.question, images: [question.image], follows };
  });
}

/** Answers of `ask` as records of an answers file. */
export function owlAnswers(questions: readonly OwlQuestion[], answers: readonly Answer[]): OwlAnswer[] {
  const byId = new Map(questions.map((question) => [question.question_id, question]));
  return answers.map(({ question_id, text, model_id }) => {
    const question = byId.get(Number(question_id));
    if (!question) throw new Error(`OwlEval: an answer to question ${question_id}, which is not there`);
    return {
      image: question.image,
      question_id: question.question_id,
      question: question.question,
      answer: text,
      model_id,
    };
  });
}

/** The grades and their meanings. */
export const owlGrades = {
  A: "right and satisfying",
  B: "acceptable, with small flaws",
  C: "on the question, with serious errors",
  D: "irrelevant or no answer",
} as const;
export type OwlGrade = keyof typeof owlGrades;

/** One line of the file that the page saves. */
export interface OwlGraded {
  question_id: number;
  model_id: string;
  grade: OwlGrade;
}

/** Counts of each grade by model. @throws on a grade other than A to D, or a pair graded twice. */
export function owlTable(graded: readonly OwlGraded[]): Record<string, Record<OwlGrade, number>> {
  const table: Record<string, Record<OwlGrade, number>> = {};
  const seen = new Set<string>();
  for (const { question_id, model_id, grade } of graded) {
    const where = `OwlEval: question ${question_id}, ${model_id}`;
    if (!Object.hasOwn(owlGrades, grade)) throw new Error(`${where}: grade ${grade} is none of A, B, C, D`);
    const key = JSON.stringify([question_id, model_id]);
    if (seen.has(key)) throw new Error(`${where}: graded twice`);
    seen.add(key);
    table[model_id] ??= { A: 0, B: 0, C: 0, D: 0 };
    table[model_id][grade]++;
  }
  return table;
}
