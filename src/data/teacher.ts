/**
 * Training samples written by a teacher model that reads text alone (arXiv 2304.08485, section 3). It gets an image as
 * captions and boxes, and writes a conversation, a description or a question that needs reasoning.
 */

import { type ConversationJson, type ConversationOptions, conversation, detailInstructions } from "./conversations.ts";
import { randomOf } from "./random.ts";

/** Captions and boxes of an image. */
export interface Scene {
  captions: readonly string[];
  /** Left, top, right, bottom, as fractions of width and height. */
  boxes?: readonly { label: string; box: readonly [number, number, number, number] }[];
}

export type InstructionKind = "conversation" | "detail" | "reasoning";

/** A message to the teacher, in the roles of chat services. */
export interface TeacherMessage {
  role: "system" | "user" | "assistant";
  content: string;
}
export type Teacher = (messages: readonly TeacherMessage[]) => Promise<string> | string;

export interface TeacherOptions extends Pick<ConversationOptions, "id" | "images" | "imageAt" | "seed"> {
  kind: InstructionKind;
  teacher: Teacher;
  /** Examples for the teacher: scenes with good replies. */
  examples?: readonly { scene: Scene; reply: string }[];
  /** System message for the teacher. Default: that of the kind in `teacherPrompts`. */
  system?: string;
}

/** A scene as text: its captions, then one line per box, coordinates with three digits. */
export function sceneText({ captions, boxes = [] }: Scene): string {
  const lines = boxes.map(({ label, box }) => `${label}: [${box.map((x) => x.toFixed(3)).join(", ")}]`);
  return [captions.join("\n"), lines.join("\n")].filter(Boolean).join("\n\n");
}

/** Messages for the teacher: system message, examples, the scene. */
export function teacherMessages(scene: Scene, { kind, examples = [], system }: TeacherOptions): TeacherMessage[] {
  return [
    { role: "system", content: system ?? teacherPrompts[kind] },
    ...examples.flatMap(({ scene, reply }): TeacherMessage[] => [
      { role: "user", content: sceneText(scene) },
      { role: "assistant", content: reply },
    ]),
    { role: "user", content: sceneText(scene) },
  ];
}

/**
 * Asks the teacher and returns its reply as a training sample. A description gets an instruction drawn from
 * `detailInstructions`.
 * @throws naming the sample if the reply has no question with an answer.
 */
export async function teach(scene: Scene, options: TeacherOptions): Promise<ConversationJson> {
  const { id, images, imageAt = "random", kind, seed = 0 } = options;
  const reply = await options.teacher(teacherMessages(scene, options));
  if (kind !== "detail") return conversation({ id, images, imageAt, seed, rounds: parseRounds(reply, id) });
  const draw = randomOf(seed, ...new TextEncoder().encode(id))();
  const question = detailInstructions[Math.floor(draw * detailInstructions.length)];
  return conversation({ id, images, imageAt, seed, rounds: [[question, reply.trim()]] });
}

/** Rounds of "Question:" and "Answer:", each on one or more lines. Lines of "=" between them are skipped. */
export function parseRounds(reply: string, id: string): [question: string, answer: string][] {
  const pieces = reply.replace(/^[ \t]*={3,}[ \t]*$/gm, "").split(/^[ \t]*(Question|Answer):/m);
  if (pieces[0].trim())
    throw new Error(`${id}: the reply begins with "${pieces[0].trim().slice(0, 40)}", not Question:`);
  const rounds: [string, string][] = [];
  for (let i = 1; i < pieces.length; i += 4) {
    const [question, text, answer, reply] = [pieces[i], pieces[i + 1]?.trim(), pieces[i + 2], pieces[i + 3]?.trim()];
    if (question !== "Question" || answer !== "Answer" || !text || !reply)
      throw new Error(`${id}: round ${rounds.length} of the reply is not a Question: with an Answer:`);
    rounds.push([text, reply]);
  }
  if (rounds.length === 0) throw new Error(`${id}: the reply has no Question: and Answer:`);
  return rounds;
}

const given =
  "You get captions of one picture and the boxes of its objects: left, top, right and bottom as parts of its width and height. " +
  "Write as if you saw the picture itself, and never mention captions, boxes or coordinates. Say only what they make certain. ";
const form = 'Begin each question with "Question:" and each answer with "Answer:", on lines of their own.';

/** System messages for the teacher, by kind of sample. */
export const teacherPrompts: Readonly<Record<InstructionKind, string>> = {
  conversation: `${given}Write a conversation of several rounds between a person who asks about the picture and an assistant who sees it: about kinds, numbers, actions and places of objects and how they relate, then about what lies behind them. ${form}`,
  detail: `${given}Write one detailed description of the whole scene, and nothing else.`,
  reasoning: `${given}Write one question whose answer cannot be read off the picture but takes several steps of reasoning from it, and a full answer that gives the steps. ${form}`,
};
