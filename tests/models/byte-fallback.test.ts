/** Bytes of SentencePiece vocabularies, as Hugging Face decodes them, and `add_prefix_space`. */
import { describe, expect, test } from "vitest";
import { type PieceModel, sentencePieceJson } from "../../src/text/sentencepiece.ts";
import { byteToken, Tokenizer } from "../../src/text/tokenizer.ts";

const bytes = Array.from({ length: 256 }, (_, i) => ({ text: byteToken(i), score: 0, type: 6 }));
const pieces = [
  { text: "<unk>", score: 0, type: 2 },
  { text: "<s>", score: 0, type: 3 },
  { text: "</s>", score: 0, type: 3 },
  ...bytes,
  ...["▁", "a", "b", "▁a"].map((text, i) => ({ text, score: -i, type: 1 })),
];
const model: PieceModel = {
  kind: "bpe",
  pieces,
  dummyPrefix: true,
  removeExtraSpaces: false,
  charsMap: new Uint8Array(),
};
const of = (config: { add_prefix_space?: boolean } = {}): Tokenizer =>
  new Tokenizer(sentencePieceJson(model, config), config);

describe("byte fallback", () => {
  const tokenizer = of();
  const [a] = ["a"].map((t) => tokenizer.tokenToId(t)!);
  const byte = (...list: number[]): number[] => list.map((b) => tokenizer.tokenToId(byteToken(b))!);

  test.each([
    ["a whole character", [...byte(0xe4, 0xbd, 0xa0)], "你"],
    ["a cut character", [...byte(0xe4, 0xbd)], "��"],
    ["one broken byte breaks its run", [...byte(0xe4, 0xbd, 0xa0, 0xff)], "����"],
    ["runs end at other tokens", [...byte(0xff), a, ...byte(0xc3, 0xa9)], "�aé"],
  ])("%s", (_, ids, want) => {
    expect(tokenizer.decode(ids)).toBe(want);
    const stream = tokenizer.stream();
    expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(want);
  });
});

test("add_prefix_space: false leaves the space away, in both directions", () => {
  const [usual, without] = [of(), of({ add_prefix_space: false })];
  const ids = (t: Tokenizer): string[] => t.encode("a", { addSpecialTokens: false }).map((id) => t.idToToken(id));
  expect([ids(usual), ids(without)]).toEqual([["▁a"], ["a"]]);
  expect(without.decode(without.encode(" a"))).toBe(" a");
  expect(usual.decode(usual.encode("a"))).toBe("a");
});
