import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { trainBPE } from "../../src/text/bpe.ts";
import { Tokenizer, type TokenizerJson } from "../../src/text/tokenizer.ts";
import { llama2Json } from "../support/llama2-tokens.ts";
import { goldenPath, readJson } from "./goldens.ts";

const corpus: [string, number][] = [
  ["What is this? It's a red apple.", 20],
  ["这是什么？红苹果", 20],
  ["How many things are there? 3", 10],
  ["图中有几个东西？", 10],
  ["a waving hand: medium-light skin tone", 5],
  ["挥手：中等浅肤色", 5],
];
const special = ["<pad>", "<bos>", "<eos>", "<usr>", "<ast>", "<image>"];
const json = trainBPE(corpus, { vocabSize: 400, specialTokens: special });
const tokenizer = new Tokenizer(json);

describe("byte-level BPE", () => {
  it("learns merges from the corpus and fills the vocabulary in order", () => {
    const ids = Object.values(json.model.vocab).sort((a, b) => a - b);
    expect(ids).toEqual(ids.map((_, i) => i));
    expect(tokenizer.size).toBeLessThanOrEqual(400);
    expect(tokenizer.encode("红苹果").length).toBe(1);
    expect(tokenizer.encode("How many things").length).toBeLessThan(5);
  });

  it("keeps special tokens whole, also inside text", () => {
    expect(tokenizer.encode("<bos><image>a<usr>")).toEqual([1, 5, ...tokenizer.encode("a"), 3]);
    expect(tokenizer.decode([1, ...tokenizer.encode("a b"), 2])).toBe("a b");
    expect(tokenizer.decode([1, 2], { skipSpecialTokens: false })).toBe("<bos><eos>");
  });

  it("gives every text back", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: "grapheme", maxLength: 40 }), fc.stringMatching(/^[ a-z'红苹果0-9?？\n]{0,40}$/)),
        (text) => {
          if (!special.some((s) => text.includes(s))) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
        },
      ),
      { numRuns: 300, seed: 7 },
    );
  });

  it("streams text without cutting a character in half", () => {
    const ids = tokenizer.encode("🙂漢 é");
    const stream = tokenizer.stream();
    const pieces = ids.map((id) => stream.push(id));
    expect(ids.length).toBeGreaterThan(4);
    expect(pieces.join("")).toBe("🙂漢 é");
    expect(pieces.join("")).not.toContain("\ufffd");
  });

  it("takes time in proportion to a long word", () => {
    const seconds = (count: number): number => {
      const before = process.cpuUsage();
      expect(tokenizer.decode(tokenizer.encode("红苹果".repeat(count))).length).toBe(3 * count);
      return process.cpuUsage(before).user;
    };
    seconds(1000);
    expect(seconds(16_000) / seconds(2000)).toBeLessThan(24); // 64 if it were quadratic
  });

  it("rejects a vocabulary smaller than its bytes, unknown parts and foreign ids", () => {
    expect(() => trainBPE(corpus, { vocabSize: 200 })).toThrow(/vocabSize is 200/);
    expect(() => new Tokenizer({ ...json, normalizer: { type: "Nonsense" } })).toThrow(/Nonsense/);
    expect(() => new Tokenizer({ model: { type: "WordLevel", vocab: {}, merges: [] } })).toThrow(/BPE/);
    expect(() => tokenizer.decode([5000])).toThrow(/id 5000 is outside/);
  });
});

interface GoldenString {
  text: string;
  [tokenizer: string]:
    | string
    | { input_ids: number[]; sentencepiece_ids: number[]; sentencepiece_decoded: string; decoded_skip_special: string };
}
const golden = goldenPath("tokenizer", "case.json");
const tiny = goldenPath("conversation", "llava", "tokenizer", "tokenizer.json");

describe.skipIf(!golden || !tiny)("SentencePiece BPE", () => {
  const { strings } = golden ? readJson<{ strings: GoldenString[] }>(golden) : { strings: [] };
  for (const name of ["tiny", "llama2"]) {
    it(`has the ids of the reference (${name})`, () => {
      const sp = new Tokenizer(name === "tiny" ? readJson<TokenizerJson>(tiny!) : llama2Json());
      for (const string of strings) {
        const want = string[name] as Exclude<GoldenString[string], string>;
        expect(sp.encode(string.text), string.text).toEqual(want.input_ids);
        if (!/<\/?s>|<unk>/.test(string.text))
          expect(sp.decode(want.sentencepiece_ids), string.text).toBe(want.sentencepiece_decoded);
      }
      expect(strings.length).toBeGreaterThan(5);
    });
  }
});
