/** Whole evaluations: reads questions from files, saves answers as they are given, writes scores to results.json. */

import { briefInstructions, readRecords, writeRecords } from "../../src/data/index.ts";
import { type FileSource, jsonBytes, readJson, writeFile } from "../../src/io/index.ts";
import { type Answer, type AskOptions, ask, type Question } from "./answer.ts";
import { type CaptionScores, captionScores } from "./captions.ts";
import {
  type OwlAnswer,
  type OwlGrade,
  type OwlGraded,
  owlAnswers,
  owlQuestions,
  owlTable,
  readOwlQuestions,
} from "./owl-eval.ts";
import { type OwlPageOptions, owlPage } from "./owl-page.ts";
import { type JudgeOptions, judgeAnswers, type RelativeScore, type Review, relativeScores } from "./relative-score.ts";
import {
  readScienceQA,
  type ScienceFormat,
  type ScienceScores,
  scienceQuestions,
  scienceScores,
  scienceSecondPass,
} from "./science-qa.ts";

export interface EvaluationOptions extends Omit<AskOptions, "onAnswer" | "secondPass"> {
  /** Folder for answers.jsonl and results.json. */
  output: FileSource;
  /** Keep the answers and reviews in `output`. Default false: ask all questions again. */
  resume?: boolean;
  /** Number of questions to ask, from the first on. Scores are of these. */
  limit?: number;
  /** Called with the number of answers so far, and of all questions. */
  onProgress?: (progress: { what: "answers" | "reviews"; done: number; total: number }) => void;
}

const ANSWERS = "answers.jsonl";
const REVIEWS = "reviews.jsonl";
/** Most milliseconds of work that a power cut loses. */
const SAVE_EVERY_MS = 10_000;

/** Records of an earlier run in the file `name`. */
async function recordsOf<T>(output: FileSource, name: string, resume = false): Promise<T[]> {
  if (!resume || (await output.size(name)) === undefined) return [];
  return (await readRecords(output, name)).map(({ value }) => value as T);
}

/** A file of records that grows. It is written whole every few seconds and at the end, so a reader never sees half a line. */
class Lines<T> {
  #saved = performance.now();

  constructor(
    readonly output: FileSource,
    readonly name: string,
    readonly lines: T[],
  ) {}

  async add(line: T): Promise<void> {
    this.lines.push(line);
    if (performance.now() - this.#saved > SAVE_EVERY_MS) await this.save();
  }

  async save(): Promise<void> {
    await writeRecords(this.output, this.name, this.lines);
    this.#saved = performance.now();
  }
}

/** Asks the questions without an answer. Answers before an error are saved too. */
async function answersTo(
  questions: readonly Question[],
  options: EvaluationOptions & Pick<AskOptions, "secondPass">,
): Promise<Answer[]> {
  const { output, resume, onProgress } = options;
  const wanted = new Set(questions.map(({ question_id }) => String(question_id)));
  const known = [...(options.done ?? []), ...(await recordsOf<Answer>(output, ANSWERS, resume))];
  const other = known.find((answer) => answer.model_id !== options.model_id);
  if (other)
    throw new Error(
      `evaluation of ${options.model_id}: there is an answer of ${other.model_id} (question ${other.question_id})`,
    );
  const done = known.filter(({ question_id }) => wanted.has(String(question_id)));
  const lines = new Lines(output, ANSWERS, [...done]);
  const total = questions.length;
  onProgress?.({ what: "answers", done: done.length, total });
  try {
    return await ask(questions, {
      ...options,
      done,
      onAnswer: async (answer) => {
        await lines.add(answer);
        onProgress?.({ what: "answers", done: lines.lines.length, total });
      },
    });
  } finally {
    await lines.save();
  }
}

/** The first `limit` ones. */
const firstOf = <T>(list: readonly T[], { limit = Infinity }: EvaluationOptions): T[] => {
  if (!(limit >= 1)) throw new RangeError(`evaluation: limit must be at least 1, got ${limit}`);
  return list.slice(0, limit);
};

async function saveResults<T extends object>(output: FileSource, task: string, about: object, results: T): Promise<T> {
  await writeFile(output, "results.json", [jsonBytes({ task, ...about, ...results })]);
  return results;
}

export interface ScienceEvaluationOptions extends EvaluationOptions {
  /** "test" (default), "val", "minival", … of pid_splits.json. */
  split?: string;
  /** Default "QCM-LEA", reasoning first. "QCM-ALE" answers first. */
  format?: ScienceFormat;
  /** Use captions instead of images. */
  textOnly?: boolean;
  /** Ask for the letter alone. */
  direct?: boolean;
  /** LLaVA's second pass for the letter; see `scienceSecondPass`. */
  answerPrompter?: "always" | "missing";
}

/** ScienceQA from a folder with problems.json and pid_splits.json; `images` has a folder for each problem. */
export async function evaluateScienceQA(data: FileSource, options: ScienceEvaluationOptions): Promise<ScienceScores> {
  const { split = "test", format = "QCM-LEA", textOnly = false, direct = false, answerPrompter, model_id } = options;
  const problems = new Map(firstOf([...(await readScienceQA(data, split))], options));
  const questions = scienceQuestions(problems, format, { images: !textOnly, direct });
  const secondPass = answerPrompter && scienceSecondPass(answerPrompter);
  const answers = await answersTo(questions, { ...options, secondPass });
  const about = { model_id, split, format, textOnly, direct, answerPrompter };
  return saveResults(options.output, "scienceqa", about, scienceScores(problems, answers));
}

/** A picture with reference captions. */
export interface CaptionPicture {
  id: string | number;
  image: string;
  captions: readonly string[];
}

/**
 * Captions against reference captions. The file is a list (or lines) of `{ image, captions }` (or `caption`), or COCO's
 * annotations with `images` and `annotations`.
 */
export async function evaluateCaptions(
  data: FileSource,
  name: string,
  { prompt = briefInstructions[0], ...options }: EvaluationOptions & { prompt?: string },
): Promise<CaptionScores & { count: number }> {
  const pictures = firstOf(await readPictures(data, name), options);
  const questions = pictures.map(({ id, image }) => ({ question_id: id, text: prompt, images: [image] }));
  const answers = await answersTo(questions, options);
  const scores = captionScores(
    answers.map(({ text }) => text),
    pictures.map(({ captions }) => captions),
  );
  const about = { model_id: options.model_id, prompt };
  return saveResults(options.output, "captions", about, { ...scores, count: pictures.length });
}

/** Checks pictures. @throws naming the index of one without image or captions. */
async function readPictures(data: FileSource, name: string): Promise<CaptionPicture[]> {
  const where = `${data.location}/${name}`;
  const coco = /\.jsonl$/.test(name) ? undefined : await readJson(data, name);
  if (!coco?.annotations) {
    return (await readRecords(data, name)).map(({ value, where }, i) => {
      const { id = i, image, captions, caption } = (value ?? {}) as Record<string, any>;
      return checkPicture({ id, image, captions: [captions ?? caption ?? []].flat() }, where);
    });
  }
  const captions = new Map<unknown, string[]>();
  for (const { image_id, caption } of coco.annotations)
    captions.set(image_id, [...(captions.get(image_id) ?? []), caption]);
  return (coco.images as { id: number; file_name: string }[]).map(({ id, file_name }) =>
    checkPicture({ id, image: file_name, captions: captions.get(id) ?? [] }, `${where}: image ${id}`),
  );
}

function checkPicture(picture: CaptionPicture, where: string): CaptionPicture {
  const { image, captions } = picture;
  if (typeof image !== "string") throw new Error(`${where}: image must be a file name`);
  if (captions.length === 0 || !captions.every((caption) => typeof caption === "string"))
    throw new Error(`${where}: captions must be strings, at least one`);
  return picture;
}

export interface OwlEvaluationOptions extends EvaluationOptions {
  /** Answers of other models, for comparison. */
  compare?: readonly OwlAnswer[];
  /** Grades from the page. */
  grades?: readonly OwlGraded[];
  page?: OwlPageOptions;
}

/** OwlEval from a folder with questions.jsonl: owleval.jsonl for exchange, page.html for people to grade. */
export async function evaluateOwl(
  data: FileSource,
  { compare = [], grades, page, ...options }: OwlEvaluationOptions,
): Promise<{ count: number; models: string[]; grades?: Record<string, Record<OwlGrade, number>> }> {
  const { output, model_id } = options;
  const questions = firstOf(await readOwlQuestions(data), options);
  const own = owlAnswers(questions, await answersTo(owlQuestions(questions), options));
  const ids = new Set(questions.map(({ question_id }) => question_id));
  const all = [...own, ...compare.filter(({ question_id }) => ids.has(question_id))];
  await writeRecords(output, "owleval.jsonl", own);
  await writeFile(output, "page.html", [new TextEncoder().encode(owlPage(questions, all, page))]);
  const models = [...new Set(all.map((answer) => answer.model_id))];
  const table = grades && owlTable(grades);
  return saveResults(output, "owleval", { model_id }, { count: questions.length, models, grades: table });
}

/** LLaVA-Bench: a judge compares the model's answers with a reference's. Reviews are saved to reviews.jsonl. */
export async function evaluateBench(
  options: EvaluationOptions & Omit<JudgeOptions, "answers" | "done" | "onReview">,
): Promise<{ scores: Record<string, RelativeScore> }> {
  const { output, resume, model_id, onProgress } = options;
  const questions = firstOf(options.questions, options);
  const answers = await answersTo(
    questions.map(({ question_id, text, image }) => ({ question_id, text, images: [image] })),
    options,
  );
  const ids = new Set(questions.map(({ question_id }) => String(question_id)));
  const done = (await recordsOf<Review>(output, REVIEWS, resume)).filter(({ question_id }) =>
    ids.has(String(question_id)),
  );
  const lines = new Lines(output, REVIEWS, [...done]);
  try {
    const reviews = await judgeAnswers({
      ...options,
      questions,
      answers,
      done,
      onReview: async (review) => {
        await lines.add(review);
        onProgress?.({ what: "reviews", done: lines.lines.length, total: questions.length });
      },
    });
    return saveResults(
      output,
      "llava-bench",
      { model_id, count: questions.length },
      { scores: relativeScores(reviews) },
    );
  } finally {
    await lines.save();
  }
}
