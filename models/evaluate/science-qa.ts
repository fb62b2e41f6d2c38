/**
 * ScienceQA (arXiv 2209.09513): multiple-choice questions, some with an image, with a lecture and a solution. Samples and
 * scoring follow haotian-liu/LLaVA (scripts/convert_sqa_to_llava.py, llava/eval/eval_science_qa.py).
 */

import type { ConversationJson } from "../../src/data/index.ts";
import { type FileSource, readJson } from "../../src/io/index.ts";
import { IMAGE_TOKEN } from "../../src/text/index.ts";
import type { Answer, Question, SecondPass } from "./answer.ts";

/** One entry of problems.json. */
export interface ScienceProblem {
  question: string;
  choices: string[];
  /** Index of the right choice. */
  answer: number;
  /** Context of the question, or "". */
  hint: string;
  /** File name in the folder of the problem, or null. */
  image: string | null;
  /** "natural science", "social science" or "language science". */
  subject: string;
  /** "grade1" to "grade12". */
  grade: string;
  lecture: string;
  solution: string;
  /** A caption of the image, for models that read text alone. */
  caption?: string;
}

/**
 * Contents of a sample in order: Q question, C context, M choices, A answer, L lecture, E solution. "QCM-ALE" answers first,
 * "QCM-LEA" reasons first; "QCM-LEPA" reasons first, with the headings that LLaVA trains with.
 */
export type ScienceFormat =
  `${"QCM" | "CQM"}-${"A" | "AL" | "AE" | "ALE" | "AEL" | "LA" | "EA" | "LEA" | "ELA" | "LEPA"}`;

const LETTERS = ["A", "B", "C", "D", "E"] as const;

/** The problems of a split by their ids, from a folder with problems.json and pid_splits.json. */
export async function readScienceQA(source: FileSource, split: string): Promise<Map<string, ScienceProblem>> {
  const splits: Record<string, string[]> = await readJson(source, "pid_splits.json");
  if (!splits[split])
    throw new Error(`${source.location}/pid_splits.json has no split ${split}: ${Object.keys(splits).join(", ")}`);
  const problems: Record<string, ScienceProblem> = await readJson(source, "problems.json");
  return new Map(
    splits[split].map((id) => [id, checkProblem(problems[id], `${source.location}/problems.json: ${id}`)]),
  );
}

function checkProblem(problem: ScienceProblem | undefined, where: string): ScienceProblem {
  if (!problem) throw new Error(`${where} is missing`);
  const { choices, answer } = problem;
  if (!Array.isArray(choices) || choices.length < 1 || choices.length > LETTERS.length)
    throw new Error(`${where}: 1 to ${LETTERS.length} choices expected, got ${JSON.stringify(choices)}`);
  if (!(answer in choices)) throw new Error(`${where}: the answer ${answer} is none of its ${choices.length} choices`);
  return problem;
}

/** Question and answer in a format. With `caption`, the context contains the image's caption. */
export function scienceText(
  problem: ScienceProblem,
  format: ScienceFormat,
  { caption = false } = {},
): { question: string; answer: string } {
  const { hint, lecture, solution } = problem;
  const context = [hint, caption ? problem.caption : ""].filter(Boolean).join(" ").trim() || "N/A";
  const options = problem.choices.map((choice, i) => `(${LETTERS[i]}) ${choice}`).join(" ");
  // LLaVA strips the heading of a question at the beginning.
  const question = format.startsWith("Q")
    ? `${problem.question}\nContext: ${context}\nOptions: ${options}`
    : `Context: ${context}\nQuestion: ${problem.question}\nOptions: ${options}`;
  const output = format.slice(format.indexOf("-") + 1);
  const letter = LETTERS[problem.answer];
  const reasons = [...output].flatMap((part) => (part === "L" ? [lecture] : part === "E" ? [solution] : []));
  const reasoning = reasons.filter((text) => text.trim()).join(" ");
  const result = `The answer is ${letter}.`;
  const answer =
    output === "LEPA"
      ? `${lecture.trim() && `LECTURE: ${lecture}\n`}${solution.trim() && `SOLUTION: ${solution}\n`}###\nANSWER: ${letter}.`
      : !reasoning
        ? result
        : output.startsWith("A")
          ? `${result} BECAUSE: ${reasoning}`
          : `${reasoning} ${result}`;
  return { question: tidy(question), answer: tidy(answer) };
}

const tidy = (text: string): string => text.replaceAll("  ", " ").trim();

const imageOf = (id: string, { image }: ScienceProblem): string | undefined => (image ? `${id}/${image}` : undefined);

/** A training sample in LLaVA's JSON, with the image after the question. */
export function scienceSample(id: string, problem: ScienceProblem, format: ScienceFormat): ConversationJson {
  const { question, answer } = scienceText(problem, format);
  const image = imageOf(id, problem);
  return {
    id,
    ...(image && { image }),
    conversations: [
      { from: "human", value: image ? `${question}\n${IMAGE_TOKEN}` : question },
      { from: "gpt", value: answer },
    ],
  };
}

/**
 * The questions of problems, for `ask`. Without `images`, captions replace them if there are any. `direct` asks for a letter
 * alone, as LLaVA-1.5's evaluation does.
 */
export function scienceQuestions(
  problems: ReadonlyMap<string, ScienceProblem>,
  format: ScienceFormat,
  { images = true, direct = false } = {},
): Question[] {
  return [...problems].map(([id, problem]) => ({
    question_id: id,
    text: scienceText(problem, format, { caption: !images }).question + (direct ? `\n${DIRECT}` : ""),
    images: (images && imageOf(id, problem) && [imageOf(id, problem)!]) || [],
  }));
}

/** The words of LLaVA-1.5's training data and evaluation (--single-pred-prompt). */
const DIRECT = "Answer with the option's letter from the given choices directly.";

/**
 * LLaVA's answer prompter (llava/eval/model_vqa_science.py, --answer-prompter): the model continues its reasoning after "ANSWER:".
 * "always" is LLaVA's way; "missing" does so only if the reasoning names no letter.
 */
export const scienceSecondPass = (when: "always" | "missing"): SecondPass => ({
  needed: (answer) => when === "always" || scienceLetter(answer) === undefined,
  prompt: " ###\nANSWER:",
  maxNewTokens: 64,
  join: (reasoning, rest) => `${reasoning}\n The answer is ${rest}`,
});

/** The letter in an answer: alone, "B. …", "The answer is B", or "ANSWER: B" of LEPA; undefined if there is none. */
export function scienceLetter(text: string): string | undefined {
  const line = text.trim().replaceAll("\n", ". ");
  if ((LETTERS as readonly string[]).includes(line)) return line;
  const patterns = [/^([A-E])\. /, /The answer is ([A-E])\./, /The answer is ([A-E])/, /ANSWER: ([A-E])/];
  for (const pattern of patterns) {
    const found = pattern.exec(line);
    if (found) return found[1];
  }
  return undefined;
}

export interface ScienceScore {
  right: number;
  count: number;
  /** Percent; NaN if there are no such problems. */
  accuracy: number;
}
export interface ScienceScores {
  /** The columns of the paper's table: subject, kind of context (text, image, none), grade, and all. */
  scores: Record<"NAT" | "SOC" | "LAN" | "TXT" | "IMG" | "NO" | "G1-6" | "G7-12" | "all", ScienceScore>;
  /** Problems without an answer, and answers without a letter of their choices; both count as wrong. */
  missing: string[];
  unparsed: string[];
}

/** Accuracy of answers, by the classes of the paper. @throws on an answer to an unknown problem, or a second one. */
export function scienceScores(
  problems: ReadonlyMap<string, ScienceProblem>,
  answers: readonly Pick<Answer, "question_id" | "text">[],
): ScienceScores {
  const given = new Map<string, string>();
  for (const { question_id, text } of answers) {
    const id = String(question_id);
    if (!problems.has(id))
      throw new Error(`ScienceQA: an answer to ${id}, which is none of the ${problems.size} problems`);
    if (given.has(id)) throw new Error(`ScienceQA: two answers to ${id}`);
    given.set(id, text);
  }
  const [missing, unparsed]: string[][] = [[], []];
  const right = new Set<ScienceProblem>();
  for (const [id, problem] of problems) {
    const text = given.get(id);
    const place = text === undefined ? -1 : LETTERS.indexOf(scienceLetter(text) as (typeof LETTERS)[number]);
    if (text === undefined) missing.push(id);
    else if (!(place in problem.choices)) unparsed.push(id);
    if (place === problem.answer) right.add(problem);
  }
  const score = (of: (problem: ScienceProblem) => boolean): ScienceScore => {
    const part = [...problems.values()].filter(of);
    const n = part.filter((problem) => right.has(problem)).length;
    return { right: n, count: part.length, accuracy: (100 * n) / part.length };
  };
  const grade = ({ grade }: ScienceProblem): number => Number(grade.replace("grade", ""));
  const scores = {
    NAT: score(({ subject }) => subject === "natural science"),
    SOC: score(({ subject }) => subject === "social science"),
    LAN: score(({ subject }) => subject === "language science"),
    TXT: score(({ hint }) => hint !== ""),
    IMG: score(({ image }) => image !== null),
    NO: score(({ hint, image }) => hint === "" && image === null),
    "G1-6": score((problem) => grade(problem) <= 6),
    "G7-12": score((problem) => grade(problem) >= 7),
    all: score(() => true),
  };
  return { scores, missing, unparsed };
}
