/** Asks questions about images, one after another, of anything that answers. */
import type { ChatMessage, ChatOptions } from "../../src/generate/index.ts";
import { decodeImage, type Image } from "../../src/image/index.ts";
import type { FileSource } from "../../src/io/index.ts";

export interface Question {
  readonly question_id: string | number;
  readonly text: string;
  /** File names; empty for a question about text alone. */
  readonly images: readonly string[];
  /** Continues the conversation of the previous question, about the same images. */
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
 * Anything that answers a conversation: a model, a service, a person. If the last message is by the assistant, it is the
 * beginning of the answer, and the rest is returned.
 */
export type Answerer = (
  messages: readonly ChatMessage[],
  options?: { maxNewTokens?: number },
) => Promise<string> | string;

/** A second pass for one answer: the model continues its answer, followed by `prompt`. */
export interface SecondPass {
  /** Whether an answer needs the second pass. */
  needed(answer: string, question: Question): boolean;
  /** Text after the answer, which the model continues. */
  readonly prompt: string;
  readonly maxNewTokens: number;
  /** The whole answer, from both passes. */
  join(answer: string, rest: string): string;
}

export interface AskOptions {
  /** Not needed if `done` has all answers. */
  answer?: Answerer;
  /** Answers of an earlier run. Their questions are not asked again. */
  done?: readonly Answer[];
  secondPass?: SecondPass;
  signal?: AbortSignal;
  /** Folder of the image files; not needed for questions without images. */
  images?: FileSource;
  /** Default `decodeImage`. */
  decode?: (bytes: Uint8Array) => Promise<Image>;
  model_id: string;
  /** Called with each answer. */
  onAnswer?: (answer: Answer, index: number) => void | Promise<void>;
}

/** An `Answerer` from a model's `chat`: the whole answer, trimmed. */
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
 * Returns the answers to all questions, in order.
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
        continue; // no open question needs its images
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
