/** Training samples from captions and from questions and answers, in LLaVA's JSON. */

import { IMAGE_TOKEN, type Turn } from "../text/index.ts";
import { randomOf } from "./random.ts";

/** One sample of LLaVA's JSON lists; `readSamples` reads it. */
export interface ConversationJson {
  id: string;
  /** File name, or names in the order of their image tokens. */
  image?: string | string[];
  conversations: Turn[];
}

export interface ConversationOptions {
  id: string;
  /** Image files. Without any, the sample is text alone. */
  images?: readonly string[];
  /** Question and answer of each round, in order. */
  rounds: readonly (readonly [question: string, answer: string])[];
  /** Position of the images in the first question; "random" as in LLaVA's paper. Default "first". */
  imageAt?: "first" | "last" | "random";
  /** Seed of "random", together with the id. Default 0. */
  seed?: number;
}

/** A sample whose first question has the images. @throws naming the sample if it has no rounds, or an empty one. */
export function conversation(options: ConversationOptions): ConversationJson {
  const { id, images = [], rounds, imageAt = "first", seed = 0 } = options;
  const fail = (what: string): never => {
    throw new Error(`conversation ${id}: ${what}`);
  };
  if (rounds.length === 0) fail("no rounds");
  const last = imageAt === "random" ? randomOf(seed, hash(id))() < 0.5 : imageAt === "last";
  const marks = images.map(() => IMAGE_TOKEN);
  const conversations = rounds.flatMap(([question, answer], i): Turn[] => {
    if (!question.trim() || !answer.trim()) fail(`round ${i} has an empty ${question.trim() ? "answer" : "question"}`);
    if ((question + answer).includes(IMAGE_TOKEN))
      fail(`round ${i} has ${IMAGE_TOKEN} in its text: give images instead`);
    const value = i > 0 ? question : (last ? [question, ...marks] : [...marks, question]).join("\n");
    return [
      { from: "human", value },
      { from: "gpt", value: answer },
    ];
  });
  return { id, ...(images.length && { image: images.length === 1 ? images[0] : [...images] }), conversations };
}

export interface CaptionOptions {
  /** One is drawn for each caption. Default `briefInstructions`. */
  instructions?: readonly string[];
  imageAt?: ConversationOptions["imageAt"];
  /** Seed of instruction and position, together with the id. A sample does not depend on others. Default 0. */
  seed?: number;
}

/** A caption as the answer to an instruction drawn at random: a sample of the first stage. */
export function captionInstruction(
  { id, image, caption }: { id: string; image: string; caption: string },
  options: CaptionOptions = {},
): ConversationJson {
  const { instructions = briefInstructions, imageAt = "random", seed = 0 } = options;
  if (instructions.length === 0) throw new Error("captionInstruction: the list of instructions is empty");
  const instruction = instructions[Math.floor(randomOf(seed, hash(id), 1)() * instructions.length)];
  return conversation({ id, images: [image], rounds: [[instruction, caption]], imageAt, seed });
}

/** Instructions for short captions. */
export const briefInstructions: readonly string[] = [
  "Describe this image briefly.",
  "What does the picture show? Keep it short.",
  "Write a short caption for this image.",
  "Summarise the photo in one sentence.",
  "Say in a few words what can be seen.",
  "Give a one-line description of the image.",
  "What is the main content of this picture?",
  "Name what is shown here, concisely.",
  "How would you caption this photo?",
  "State the essentials of this image.",
];

/** Instructions for long descriptions. */
export const detailInstructions: readonly string[] = [
  "Describe this image in detail.",
  "What is happening in this picture? Be thorough.",
  "Write a full description of everything that can be seen.",
  "Go through the photo and explain each part of it.",
  "Give a long and careful account of the image.",
  "Describe the scene, its objects and how they relate.",
  "Tell me all that you notice in this picture.",
  "Look closely and report every detail of this image.",
];

/** FNV-1a hash of a string, equal on every platform. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}
