/**
 * Conversations as rows of token ids: `<bos> <image>… (<usr> question <ast> answer <eos>)…`.
 * All rounds of a row share its image. Each is a segment that sees the image and itself, and starts at the same position. So a
 * row of seven rounds is equal to seven conversations of one round.
 */

import { Tokenizer, trainBPE } from "../../src/text/index.ts";
import type { Turn } from "./tasks.ts";

export const specialTokens = ["<pad>", "<bos>", "<eos>", "<usr>", "<ast>", "<image>"] as const;
export const [PAD, BOS, EOS, USR, AST, IMAGE] = specialTokens.map((_, id) => id);
export const IGNORE = -100;

/** Trains the tokenizer of the demo on `[text, count]` pairs. */
export function trainTokenizer(corpus: Iterable<readonly [string, number]>, vocabSize: number): Tokenizer {
  return new Tokenizer(trainBPE(corpus, { vocabSize, specialTokens }));
}

/** Token ids of texts, cached, because the demo asks the same questions again and again. */
export class TextIds {
  readonly #known = new Map<string, readonly number[]>();
  constructor(readonly tokenizer: Tokenizer) {}

  of(text: string): readonly number[] {
    let ids = this.#known.get(text);
    if (!ids) this.#known.set(text, (ids = this.tokenizer.encode(text)));
    return ids;
  }

  /** `<usr> question <ast>` */
  prompt(question: string): number[] {
    return [USR, ...this.of(question), AST];
  }
}

/** Rows of equal length, row-major [rows, length]. */
export interface Packed {
  rows: number;
  length: number;
  inputIds: Int32Array;
  /** The token id on answers and their end tokens, IGNORE elsewhere. */
  labels: Int32Array;
  positions: Int32Array;
  /** 0 = begin and image, 1, 2, … = rounds, -1 = padding. */
  segments: Int32Array;
}

export function emptyRows(rows: number, length: number): Packed {
  const make = (value: number): Int32Array => new Int32Array(rows * length).fill(value);
  return { rows, length, inputIds: make(PAD), labels: make(IGNORE), positions: make(0), segments: make(-1) };
}

/** The positions of an image in a row. */
export const imagePlaces = (tokens: number): number[] => new Array<number>(tokens).fill(IMAGE);

/** A round in a row, with the position of its labels. */
export interface Placed {
  turn: Turn;
  /** Flat index of the first answer token, and the number of labels (answer and end). */
  start: number;
  count: number;
}

/**
 * Fills row `row` with the common beginning (image positions, or words) and with all of `turns` that fit, in order. Others are
 * skipped. @returns the placed ones
 */
export function packRow(
  out: Packed,
  row: number,
  seen: readonly number[],
  turns: readonly Turn[],
  texts: TextIds,
): Placed[] {
  const base = row * out.length;
  const head = 1 + seen.length;
  for (let i = 0; i < head; i++) {
    out.inputIds[base + i] = i === 0 ? BOS : seen[i - 1];
    out.positions[base + i] = i;
    out.segments[base + i] = 0;
  }
  const placed: Placed[] = [];
  let at = head;
  for (const turn of turns) {
    const prompt = texts.prompt(turn.question);
    const answer = [...texts.of(turn.answer), EOS];
    const size = prompt.length + answer.length;
    if (at + size > out.length) continue;
    const start = base + at + prompt.length;
    [...prompt, ...answer].forEach((id, i) => {
      const p = base + at + i;
      out.inputIds[p] = id;
      out.positions[p] = head + i;
      out.segments[p] = placed.length + 1;
      if (p >= start) out.labels[p] = id;
    });
    placed.push({ turn, start, count: answer.length });
    at += size;
  }
  return placed;
}
