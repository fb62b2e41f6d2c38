/**
 * LLaVA-Bench's relative score (arXiv 2304.08485, section 5.1; llava/eval of haotian-liu/LLaVA). A judge reads a description of the
 * image and scores two answers from 1 to 10. The result is the model's sum divided by the reference's.
 */
import type { Answer } from "./answer.ts";

/** One line of a questions file. */
export interface BenchQuestion {
  question_id: string | number;
  image: string;
  /** "conv", "detail" or "complex". */
  category: string;
  text: string;
}
/** One line of a context file: the description of an image for the judge. With boxes, use `sceneText` as the caption. */
export interface BenchContext {
  image: string;
  caption: string | readonly string[];
}
/** Instructions for the judge, by category, in the form of the published rule.json. */
export type Rules = Readonly<Record<string, { role: string; prompt: string }>>;

/** The judge: from a prompt to a review, whose first line has two scores. */
export type Judge = (prompt: string) => Promise<string> | string;

/** One line of a reviews file. */
export interface Review {
  question_id: string | number;
  category: string;
  /** Text of the judge. */
  content: string;
  /** Scores of the reference and of the model. */
  tuple: [reference: number, model: number];
}

export interface JudgeOptions {
  questions: readonly BenchQuestion[];
  contexts: readonly BenchContext[];
  /** Answers of the reference (in the paper GPT-4 with text alone) and of the model, one per question. */
  reference: readonly Pick<Answer, "question_id" | "text">[];
  answers: readonly Pick<Answer, "question_id" | "text">[];
  judge: Judge;
  /** Default `judgeRules`. Results compare to published ones only with the published rules and judge. */
  rules?: Rules;
  /**
   * Prefix of a category in the names of its rules, if there is such a rule: "llava_bench_" (default) for LLaVA-Bench
   * (In-the-Wild), "" for the paper's COCO questions, whose context has boxes.
   */
  rulePrefix?: string;
  /** Judge each pair in both orders and take the mean, because judges favour a position. Default false, as in the paper. */
  bothOrders?: boolean;
  /** Attempts to get a review with two scores. Default 3. */
  attempts?: number;
  /** Reviews of an earlier run. Their questions are not judged again. */
  done?: readonly Review[];
  /** Called with each review. */
  onReview?: (review: Review) => void | Promise<void>;
}

/** Returns reviews of all questions, in order. @throws naming a question without context, answer, rule or scores. */
export async function judgeAnswers(options: JudgeOptions): Promise<Review[]> {
  const {
    questions,
    contexts,
    rules = judgeRules,
    rulePrefix = "llava_bench_",
    bothOrders,
    done = [],
    onReview,
  } = options;
  const context = new Map(contexts.map(({ image, caption }) => [image, [caption].flat().join("\n")]));
  const [reference, answers] = [options.reference, options.answers].map(
    (list) => new Map(list.map(({ question_id, text }) => [String(question_id), text])),
  );
  const known = new Map(done.map((review) => [String(review.question_id), review]));
  const need = <T>(value: T | undefined, what: string, { question_id }: BenchQuestion): T => {
    if (value === undefined) throw new Error(`question ${question_id}: ${what} is missing`);
    return value;
  };
  // Missing entries are reported before the first judgement is paid for.
  const pairs = questions.map((question) => {
    const id = String(question.question_id);
    const { category } = question;
    return {
      question,
      id,
      caption: need(context.get(question.image), `the context of image ${question.image}`, question),
      first: need(reference.get(id), "the reference's answer", question),
      second: need(answers.get(id), "the model's answer", question),
      rule: need(rules[rulePrefix + category] ?? rules[category], `the rule of ${category}`, question),
    };
  });
  const reviews: Review[] = [];
  for (const { question, id, caption, first, second, rule } of pairs) {
    const { question_id, category, text } = question;
    let review = known.get(id);
    if (!review) {
      const ask = (a: string, b: string) => twoScores(judgePrompt(rule, caption, text, a, b), question_id, options);
      const { content, scores } = await ask(first, second);
      review = { question_id, category, content, tuple: scores };
      if (bothOrders) {
        const swapped = await ask(second, first);
        review.tuple = [(scores[0] + swapped.scores[1]) / 2, (scores[1] + swapped.scores[0]) / 2];
        review.content += `\n\n${swapped.content}`;
      }
      await onReview?.(review);
    }
    reviews.push(review);
  }
  return reviews;
}

/** The prompt of the judge. */
function judgePrompt(rule: Rules[string], context: string, question: string, a: string, b: string): string {
  const { role, prompt } = rule;
  const answer = (i: number, text: string): string => `[${role} ${i}]\n${text}\n\n[End of ${role} ${i}]\n\n`;
  return `[Context]\n${context}\n\n[Question]\n${question}\n\n${answer(1, a)}${answer(2, b)}[System]\n${prompt}\n\n`;
}

async function twoScores(prompt: string, id: string | number, { judge, attempts = 3 }: JudgeOptions) {
  let content = "";
  for (let i = 0; i < attempts; i++) {
    content = await judge(prompt);
    const scores = parseScores(content);
    if (scores) return { content, scores };
  }
  const line = content.split("\n")[0].slice(0, 80);
  throw new Error(
    `question ${id}: no two scores from 1 to 10 in the first line of ${attempts} reviews, the last: "${line}"`,
  );
}

/** The two scores in the first line of a review, separated by a space or a comma; undefined if it has no such form. */
export function parseScores(review: string): [number, number] | undefined {
  const found = /^\s*(\d+(?:\.\d+)?)(?:\s*,\s*|\s+)(\d+(?:\.\d+)?)\s*$/.exec(review.trimStart().split("\n")[0]);
  if (!found) return undefined;
  const scores: [number, number] = [Number(found[1]), Number(found[2])];
  return scores.every((score) => score >= 1 && score <= 10) ? scores : undefined;
}

export interface RelativeScore {
  /** 100 × mean score of the model / mean score of the reference. */
  relative: number;
  /** Mean scores, 1 to 10. */
  reference: number;
  model: number;
  count: number;
}

/** Relative scores of each category, and of "all" reviews. */
export function relativeScores(reviews: readonly Review[]): Record<string, RelativeScore> {
  if (reviews.length === 0) throw new Error("relativeScores: there are no reviews");
  const groups = new Map<string, Review[]>();
  for (const review of reviews)
    for (const name of [review.category, "all"]) groups.set(name, [...(groups.get(name) ?? []), review]);
  const score = (list: readonly Review[]): RelativeScore => {
    const [reference, model] = [0, 1].map((i) => list.reduce((sum, { tuple }) => sum + tuple[i], 0) / list.length);
    return { relative: (100 * model) / reference, reference, model, count: list.length };
  };
  return Object.fromEntries([...groups].map(([name, list]) => [name, score(list)]));
}

const judged = {
  role: "Assistant",
  prompt:
    "Two assistants answered the question above, which a person asked while looking at an image. You do not see the image: the context describes it.\n" +
    "Score each answer from 1 to 10 for how helpful, relevant, accurate and detailed it is; higher is better.\n" +
    "Write the scores of Assistant 1 and Assistant 2 on the first line, two numbers separated by a space and nothing else. " +
    "Give your reasons from the second line on. The order of the answers must not matter.",
};

/** Rules written for this project, equal for the three categories. */
export const judgeRules: Rules = { conv: judged, detail: judged, complex: judged };
