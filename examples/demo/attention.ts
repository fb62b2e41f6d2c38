/** Attention of each word of an answer over the tokens of the picture. */

import { imageAttention } from "../../models/evaluate/index.ts";
import { tensor } from "../../src/index.ts";
import type { Chat, Tiles } from "./chat.ts";
import { BOS, IMAGE } from "./pack.ts";
import { pixelTensor } from "./stages.ts";

export interface WordAttention {
  word: string;
  /** Mean over layers and heads, for each token of the picture: five per tile (2 x 2 positions, then the mean). */
  weights: number[];
}

/** Attention of the positions that predict `answer`, token by token. */
export async function wordAttention(
  { model, texts }: Chat,
  tiles: Tiles,
  question: string,
  answer: string,
): Promise<WordAttention[]> {
  const words = texts.of(answer);
  const ids = [BOS, IMAGE, ...texts.prompt(question), ...words];
  const { weights } = await imageAttention(model, {
    inputIds: tensor([ids], { dtype: "i32" }),
    pixelValues: pixelTensor(tiles.pixels),
    tilesPerImage: tiles.count,
  });
  const predicting = weights.slice(-words.length - 1, -1); // the position before each word
  return predicting.map((own, w) => ({ word: texts.tokenizer.decode([words[w]]), weights: [...own] }));
}
