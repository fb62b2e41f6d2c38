import { byteToChar, type TokenizerJson } from "./tokenizer.ts";

/** GPT-2's pattern of words. */
const WORDS = /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

const encoder = new TextEncoder();

export interface BpeOptions {
  /** Total number of ids: special tokens + 256 bytes + merges. */
  vocabSize: number;
  /** They get the first ids, in this order. */
  specialTokens?: readonly string[];
}

/**
 * Trains a byte-level BPE tokenizer on `[text, count]` pairs (Sennrich et al. 2016, over bytes as in GPT-2). Returns its
 * `tokenizer.json`. Stops early if no pair occurs twice.
 * ```ts
 * const tokenizer = new Tokenizer(trainBPE([["a red apple", 5]], { vocabSize: 270, specialTokens: ["</s>"] }));
 * ```
 */
export function trainBPE(
  corpus: Iterable<readonly [string, number]>,
  { vocabSize, specialTokens = [] }: BpeOptions,
): TokenizerJson {
  const floor = specialTokens.length + 256;
  if (!(vocabSize >= floor))
    throw new Error(`trainBPE: vocabSize is ${vocabSize}, special tokens and bytes alone need ${floor}`);
  const counts = new Map<string, number>();
  for (const [text, count] of corpus) {
    for (const piece of text.match(WORDS) ?? []) counts.set(piece, (counts.get(piece) ?? 0) + count);
  }
  const tokens = [...specialTokens, ...byteToChar];
  const words = [...counts].map(([piece, count]) => ({
    count,
    ids: Array.from(encoder.encode(piece), (b) => b + specialTokens.length),
  }));
  // For each pair of adjacent symbols: its count, and the words with it.
  const pairs = new Map<number, { count: number; words: Set<number> }>();
  const note = (word: number, sign: 1 | -1): void => {
    const { ids, count } = words[word];
    for (let i = 0; i + 1 < ids.length; i++) {
      const key = ids[i] * 65536 + ids[i + 1];
      let pair = pairs.get(key);
      if (!pair) pairs.set(key, (pair = { count: 0, words: new Set() }));
      pair.count += sign * count;
      if (sign > 0) pair.words.add(word);
    }
  };
  words.forEach((_, word) => note(word, 1));
  const merges: string[] = [];
  while (tokens.length < vocabSize) {
    let [best, key] = [1, -1];
    for (const [k, { count }] of pairs)
      if (count > best || (count === best && key >= 0 && k < key)) [best, key] = [count, k];
    if (key < 0) break;
    const [left, right] = [Math.floor(key / 65536), key % 65536];
    const merged = tokens.push(tokens[left] + tokens[right]) - 1;
    merges.push(`${tokens[left]} ${tokens[right]}`);
    for (const word of pairs.get(key)!.words) {
      note(word, -1);
      const { ids } = words[word];
      const out: number[] = [];
      for (let i = 0; i < ids.length; i++) out.push(ids[i] === left && ids[i + 1] === right ? (i++, merged) : ids[i]);
      words[word].ids = out;
      note(word, 1);
    }
    pairs.delete(key);
  }
  return byteLevelJson(tokens, merges, specialTokens);
}

function byteLevelJson(tokens: string[], merges: string[], specialTokens: readonly string[]): TokenizerJson {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    } as TokenizerJson["model"],
  };
}
