/** Asking: questions about images go to anything that answers, one after another. */
import type { ChatMessage, ChatOptions } from "../../src/generate/index.ts";
import { decodeImage, type Image } from "../../src/image/index.ts";
import type { FileSource } from "../../src/io/index.ts";

export interface Question {
  readonly question_id: string | number;
  readonly text: string;
  /** File names; none for a question about text alone. */
  readonly images: readonly string[];
  /** Asked in the conversation of the question before it, whose images it is about. */
  readonly follows?: boolean;
}

/** One line of an answers file, as LLaVA's evaluation writes it. */
export interface Answer {
  question_id: string | number;
  /** The question. */
  prompt: string;
  /** The answer. */
  text: string;
  model_id: string;
}

/**
 * What answers a conversation: a model, a service, a person. A last message of the assistant's is the beginning of the
 * answer: what follows it is wanted.
 */
export type Answerer = (
  messages: readonly ChatMessage[],
  options?: { maxNewTokens?: number },
) => Promise<string> | string;

/** A second question to the same answer: the model goes on from what it said and `prompt`. */
export interface SecondPass {
  /** Whether this answer needs it. */
  needed(answer: string, question: Question): boolean;
  /** What stands behind the answer. */
  readonly prompt: string;
  readonly maxNewTokens: number;
  /** The whole answer. */
  join(answer: string, rest: string): string;
}

export interface AskOptions {
  /** Not needed where all questions are answered already (`done`). */
  answer?: Answerer;
  /** Answers of an earlier run: these questions are not asked again. */
  done?: readonly Answer[];
  secondPass?: SecondPass;
  signal?: AbortSignal;
  /** Where the image files are; not needed for questions without images. */
  images?: FileSource;
  /** Default `decodeImage`. */
  decode?: (bytes: Uint8Array) => Promise<Image>;
  model_id: string;
  /** Gets each answer as it comes, to save or to show. */
  onAnswer?: (answer: Answer, index: number) => void | Promise<void>;
}

/** A model's `chat` as an `Answerer`: the whole answer, without white space around it. */
export function answererOf(
  model: { chat(messages: readonly ChatMessage[], options?: ChatOptions): AsyncIterable<string> },
  options?: ChatOptions,
): Answerer {
  return async (messages, more) => {
    let text = "";
    for await (const piece of model.chat(messages, { ...options, ...more })) text += piece;
    return text.trim();
  };
}

/**
 * Answers to all questions in their order.
 * @throws naming the question whose images cannot be read or answered, or whose earlier answer was to another text.
 */
export async function ask(questions: readonly Question[], options: AskOptions): Promise<Answer[]> {
  const { images, decode = decodeImage, model_id, onAnswer, signal } = options;
  const done = new Map((options.done ?? []).map((answer) => [String(answer.question_id), answer]));
  const answers: Answer[] = [];
  let messages: ChatMessage[] = [];
  for (const [i, question] of questions.entries()) {
    signal?.throwIfAborted();
    const { question_id, text: prompt } = question;
    const known = done.get(String(question_id));
    try {
      if (question.follows && i === 0) throw new Error("it follows no other question");
      if (known && known.prompt !== prompt)
        throw new Error(`the answer there is to another question, "${known.prompt.slice(0, 60)}"`);
      if (known && !questions[i + 1]?.follows) {
        answers.push(known);
        continue; // nobody needs its images
      }
      const shown: Image[] = [];
      for (const name of question.follows ? [] : question.images) {
        if (!images) throw new Error(`it needs the image ${name}, and there is no folder of images`);
        shown.push(await decode(await images.read(name)));
      }
      const asked: ChatMessage = { role: "user", content: [...shown, prompt] };
      messages = question.follows ? [...messages, asked] : [asked];
      const text = known?.text ?? (await answerTo(messages, question, options));
      messages.push({ role: "assistant", content: text });
      answers.push(known ?? { question_id, prompt, text, model_id });
    } catch (error) {
      throw new Error(`question ${question_id}: ${(error as Error).message}`, { cause: error });
    }
    if (!known) await onAnswer?.(answers[i], i);
  }
  return answers;
}

async function answerTo(messages: readonly ChatMessage[], question: Question, options: AskOptions): Promise<string> {
  const { answer, secondPass: second } = options;
  if (!answer) throw new Error("it has no answer");
  const text = await answer(messages);
  if (!second?.needed(text, question)) return text;
  const { prompt, maxNewTokens } = second;
  return second.join(
    text,
    await answer([...messages, { role: "assistant", content: text + prompt }], { maxNewTokens }),
  );
}
