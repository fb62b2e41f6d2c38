import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { memoryFiles } from "../../src/io/source.ts";
import { loadTokenizer } from "../../src/text/folder.ts";
import { type Piece, parseSentencePiece, sentencePieceJson } from "../../src/text/sentencepiece.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";
import { llama2Json } from "../support/llama2-tokens.ts";
import { goldenPath, readJson } from "./goldens.ts";

const tiny = goldenPath("conversation", "llava", "tokenizer", "tokenizer.model");
const golden = goldenPath("tokenizer", "case.json");

describe.skipIf(!tiny || !golden)("tokenizer.model (BPE)", () => {
  const file = () => new Uint8Array(readFileSync(tiny!));

  test("has the ids and texts of SentencePiece and of the slow LLaMA tokenizer", async () => {
    const files = memoryFiles(new Map([["tokenizer.model", file()]]));
    const tokenizer = (await loadTokenizer(files))!;
    const { strings } = readJson<{ strings: any[] }>(golden!);
    for (const { text, tiny: want } of strings) {
      expect(tokenizer.encode(text), text).toEqual(want.input_ids);
      if (!/<\/?s>|<unk>/.test(text)) {
        expect(tokenizer.encode(text, { addSpecialTokens: false }), text).toEqual(want.sentencepiece_ids);
        expect(tokenizer.decode(want.sentencepiece_ids), text).toBe(want.sentencepiece_decoded);
      }
    }
    expect(strings.length).toBeGreaterThan(5);
  });

  test("becomes the tokenizer.json that Hugging Face converts it to", () => {
    const json = sentencePieceJson(parseSentencePiece(file(), "x"));
    const want = readJson<any>(tiny!.replace(/model$/, "json"));
    expect(json.model.vocab).toEqual(want.model.vocab);
    const joined = (merges: any[]) => merges.map((merge) => (Array.isArray(merge) ? merge.join(" ") : merge));
    expect(joined(json.model.merges!)).toEqual(joined(want.model.merges));
    expect(json.normalizer).toEqual(want.normalizer);
    expect(json.added_tokens!.map(({ id, content, special }) => [id, content, special])).toEqual(
      want.added_tokens.map((token: any) => [token.id, token.content, token.special]),
    );
  });

  test("added tokens, the begin and end tokens and `legacy` follow the config files", async () => {
    const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
    const files = memoryFiles(new Map([["tokenizer.model", file()]]));
    const plain = (await loadTokenizer(files))!;
    files.files.set("added_tokens.json", json({ "<im_patch>": 640, "<im_start>": 641 }));
    files.files.set("tokenizer_config.json", json({ add_bos_token: false, add_eos_token: true, legacy: false }));
    const tokenizer = (await loadTokenizer(files))!;
    expect(tokenizer.size).toBe(642);
    const [hello, world] = ["Hello", "world"].map((text) => plain.encode(text).slice(1));
    const bare = sentencePieceJson({ ...parseSentencePiece(file(), "x"), dummyPrefix: false });
    const joined = new Tokenizer(bare).encode("world").slice(1);
    expect(joined).not.toEqual(world);
    expect(tokenizer.encode("Hello<im_start>world")).toEqual([...hello, 641, ...joined, 2]);
  });

  test("truncated files and files of another kind are named", async () => {
    const open = (bytes: Uint8Array) => loadTokenizer(memoryFiles(new Map([["tokenizer.model", bytes]])));
    await expect(open(file().subarray(0, 4001))).rejects.toThrow(
      /^memory\/tokenizer.model is truncated or no SentencePiece model: /,
    );
    await expect(open(new Uint8Array())).rejects.toThrow(
      "memory/tokenizer.model: a SentencePiece model without pieces",
    );
  });
});

test("the merges of LLaMA-2's vocabulary follow from its pieces alone", () => {
  const json = llama2Json();
  const merges = json.model.merges as string[];
  const rank = new Map(merges.map((merge, i): [string, number] => [merge.replace(" ", ""), i]).reverse());
  const vocab = Object.entries(json.model.vocab as Record<string, number>).sort((a, b) => a[1] - b[1]);
  const pieces = vocab.map(([text, id]): Piece => {
    const type = id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1;
    return { text, score: type === 1 ? -(rank.get(text) ?? merges.length + id) : 0, type };
  });
  const made = sentencePieceJson({
    kind: "bpe",
    pieces,
    dummyPrefix: true,
    removeExtraSpaces: false,
    charsMap: new Uint8Array(),
  });
  const [got, want] = [new Tokenizer(made), new Tokenizer(json)];
  for (const text of [
    "Hello world",
    "  two  spaces",
    "été 漢字 🙂\n\tx",
    "图片里有一只红色的猫，它坐在桌子上。",
    "internationalization's",
  ]) {
    expect(got.encode(text)).toEqual(want.encode(text));
    expect(got.decode(got.encode(text))).toBe(text);
  }
});

describe("unigram", () => {
  const scores: Record<string, number> = { "▁": -3, a: -4, b: -4, ab: -5, "▁ab": -6, aba: -9.5, "▁a": -6.5, c: -7 };
  const pieces: Piece[] = [
    { text: "<unk>", score: 0, type: 2 },
    { text: "<s>", score: 0, type: 3 },
    ...Array.from({ length: 256 }, (_, i) => ({
      text: `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`,
      score: 0,
      type: 6,
    })),
    ...Object.entries(scores).map(([text, score]) => ({ text, score, type: 1 })),
  ];
  const model = {
    kind: "unigram",
    pieces,
    dummyPrefix: true,
    removeExtraSpaces: true,
    charsMap: new Uint8Array(),
  } as const;
  const tokenizer = new Tokenizer(sentencePieceJson(model));
  const tokens = (text: string) =>
    tokenizer.encode(text, { addSpecialTokens: false }).map((id) => tokenizer.idToToken(id));

  /** The best sum of scores over all ways to cut a text, by trying them all. */
  function best(text: string): number {
    if (text === "") return 0;
    const options = Object.keys(scores).filter((piece) => text.startsWith(piece));
    return Math.max(-Infinity, ...options.map((piece) => scores[piece] + best(text.slice(piece.length))));
  }

  test.each(["a", "abab", "ababa", "cab aba", "bbbaaa cc ab"])(
    "%s is cut into the pieces of the best total",
    (text) => {
      const cut = tokens(text);
      const spelled = `▁${text.replaceAll(" ", "▁")}`;
      expect(cut.join("")).toBe(spelled);
      expect(cut.map((piece) => scores[piece]).reduce((a, b) => a + b)).toBeCloseTo(best(spelled), 6);
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    },
  );

  test("unknown characters are spelled in bytes, extra spaces go", () => {
    expect(tokens("aé")).toEqual(["▁a", "<0xC3>", "<0xA9>"]);
    expect(tokenizer.decode(tokenizer.encode("a猫é b"))).toBe("a猫é b");
    expect(tokenizer.decode(tokenizer.encode("  a   b "))).toBe("a b");
  });
});
