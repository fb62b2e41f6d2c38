/** Asking: questions about images go to anything that answers, one after another. */
import type { FileSource } from "../../src/io/index.ts";
import type { ChatMessage, ChatOptions } from "../chat.ts";
import { decodeImage } from "../decode.ts";
import type { Image } from "../image.ts";

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

/** What answers a conversation: a model, a service, a person. */
export type Answerer = (messages: readonly ChatMessage[]) => Promise<string> | string;

export interface AskOptions {
  answer: Answerer;
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
  return async (messages) => {
    let text = "";
    for await (const piece of model.chat(messages, options)) text += piece;
    return text.trim();
  };
}

/** Answers to all questions in their order. @throws naming the question whose images cannot be read or answered. */
export async function ask(questions: readonly Question[], options: AskOptions): Promise<Answer[]> {
  const { answer, images, decode = decodeImage, model_id, onAnswer } = options;
  const answers: Answer[] = [];
  let messages: ChatMessage[] = [];
  for (const [i, question] of questions.entries()) {
    const { question_id, text: prompt } = question;
    try {
      if (question.follows && i === 0) throw new Error("it follows no other question");
      const shown: Image[] = [];
      for (const name of question.follows ? [] : question.images) {
        if (!images) throw new Error(`it needs the image ${name}, and there is no folder of images`);
        shown.push(await decode(await images.read(name)));
      }
      const asked: ChatMessage = { role: "user", content: [...shown, prompt] };
      messages = question.follows ? [...messages, asked] : [asked];
      const text = await answer(messages);
      messages.push({ role: "assistant", content: text });
      answers.push({ question_id, prompt, text, model_id });
    } catch (error) {
      throw new Error(`question ${question_id}: ${(error as Error).message}`, { cause: error });
    }
    await onAnswer?.(answers[i], i);
  }
  return answers;
}
