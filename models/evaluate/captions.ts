/** Scores of captions against reference captions: exact match, BLEU (Papineni 2002) and CIDEr (arXiv 1411.5726). */

export interface WordOptions {
  /** Words of a caption. Default `captionWords`. */
  words?: (caption: string) => readonly string[];
}

export interface CaptionScores {
  /** Share of candidates whose words equal those of one of their references, 0 to 1. */
  exactMatch: number;
  /** 0 to 1. */
  bleu4: number;
  /** CIDEr-D, 0 to 10. */
  cider: number;
}

/** All scores of `candidates`, one per picture, against the references of each picture. */
export function captionScores(
  candidates: readonly string[],
  references: readonly (readonly string[])[],
  options: WordOptions = {},
): CaptionScores {
  return {
    exactMatch: exactMatch(candidates, references, options),
    bleu4: bleu(candidates, references, options),
    cider: cider(candidates, references, options).score,
  };
}

/**
 * Words as in COCO's scorers: lower case, without punctuation, English clitics separate ("isn't" is "is", "n't"). Each Chinese or
 * Japanese character is a word. Quotation marks, brackets and abbreviations do not follow a treebank.
 */
export function captionWords(caption: string): string[] {
  const text = caption
    .toLowerCase()
    .replaceAll("’", "'")
    .replace(/([a-z]+)(n't|'(?:s|re|ve|ll|d|m))(?![\p{L}\p{N}])/gu, "$1 $2")
    .replace(/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/gu, " $& ");
  const word =
    /n't(?![\p{L}\p{N}])|'(?:s|re|ve|ll|d|m)(?![\p{L}\p{N}])|[\p{L}\p{N}][\p{L}\p{N}\p{M}]*(?:(?:[-']|(?<=\p{N})[.,](?=\p{N}))[\p{L}\p{N}\p{M}]+)*/gu;
  return text.match(word) ?? [];
}

/** Share of candidates whose words equal those of one of their references. */
export function exactMatch(
  candidates: readonly string[],
  references: readonly (readonly string[])[],
  options: WordOptions = {},
): number {
  const pairs = wordsOf("exactMatch", candidates, references, options);
  const same = (a: readonly string[], b: readonly string[]): boolean =>
    a.length === b.length && a.every((word, i) => word === b[i]);
  return pairs.filter(({ candidate, refs }) => refs.some((ref) => same(candidate, ref))).length / pairs.length;
}

/**
 * BLEU over all candidates at once: geometric mean of the clipped n-gram precisions, n = 1 to `order`, times the brevity
 * penalty against the closest reference lengths (of two as close, the shorter). No smoothing: 0 if an order has no match.
 */
export function bleu(
  candidates: readonly string[],
  references: readonly (readonly string[])[],
  { order = 4, ...options }: WordOptions & { order?: number } = {},
): number {
  const matched = new Array<number>(order).fill(0);
  const total = new Array<number>(order).fill(0);
  let [length, closest] = [0, 0];
  for (const { candidate, refs } of wordsOf("bleu", candidates, references, options)) {
    length += candidate.length;
    const distance = (n: number): number => Math.abs(n - candidate.length);
    closest += refs.map((ref) => ref.length).reduce((a, b) => ((distance(b) - distance(a) || b - a) < 0 ? b : a));
    for (let n = 1; n <= order; n++) {
      const most = refs.map((ref) => ngrams(ref, n));
      for (const [gram, count] of ngrams(candidate, n)) {
        matched[n - 1] += Math.min(count, Math.max(...most.map((counts) => counts.get(gram) ?? 0)));
        total[n - 1] += count;
      }
    }
  }
  if (matched.includes(0)) return 0;
  const mean = matched.reduce((sum, m, i) => sum + Math.log(m / total[i]), 0) / order;
  return Math.exp(mean + Math.min(0, 1 - closest / length));
}

const ORDERS = [1, 2, 3, 4] as const;
/** Width of the penalty for a difference in length, in words. */
const SIGMA = 6;

/**
 * CIDEr: cosine of the tf-idf vectors of n-grams, n = 1 to 4, averaged over orders and references, times 10. Document
 * frequencies are those of these references, so one picture alone scores 0. Variant "D" (default, COCO's) clips
 * repeated n-grams and penalises lengths that differ; "plain" is the paper's first form. No stemming.
 */
export function cider(
  candidates: readonly string[],
  references: readonly (readonly string[])[],
  { variant = "D", ...options }: WordOptions & { variant?: "D" | "plain" } = {},
): { score: number; each: number[] } {
  const pairs = wordsOf("cider", candidates, references, options);
  const frequency = new Map<string, number>(); // number of pictures with each n-gram in their references
  for (const { refs } of pairs) {
    const grams = new Set(refs.flatMap((ref) => ORDERS.flatMap((n) => [...ngrams(ref, n).keys()])));
    for (const gram of grams) frequency.set(gram, (frequency.get(gram) ?? 0) + 1);
  }
  const weights = (words: readonly string[]): Map<string, number>[] =>
    ORDERS.map((n) => {
      const counts = ngrams(words, n);
      for (const [gram, tf] of counts)
        counts.set(gram, tf * Math.log(pairs.length / Math.max(1, frequency.get(gram) ?? 0)));
      return counts;
    });
  const clip = variant === "D";
  const each = pairs.map(({ candidate, refs }) => {
    const own = weights(candidate);
    const similarity = (ref: readonly string[]): number => {
      const theirs = weights(ref);
      const cosines = own.map((vector, k) => cosine(vector, theirs[k], clip));
      const mean = cosines.reduce((a, b) => a + b) / ORDERS.length;
      return clip ? mean * Math.exp(-((candidate.length - ref.length) ** 2) / (2 * SIGMA ** 2)) : mean;
    };
    return (10 * refs.reduce((sum, ref) => sum + similarity(ref), 0)) / refs.length;
  });
  return { score: each.reduce((a, b) => a + b) / each.length, each };
}

function cosine(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>, clip: boolean): number {
  const norm = (v: ReadonlyMap<string, number>): number =>
    Math.sqrt([...v.values()].reduce((sum, x) => sum + x * x, 0));
  let dot = 0;
  for (const [gram, x] of a) {
    const y = b.get(gram) ?? 0;
    dot += (clip ? Math.min(x, y) : x) * y;
  }
  return dot === 0 ? 0 : dot / (norm(a) * norm(b));
}

/** Counts of the n-grams of words. */
function ngrams(words: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= words.length; i++) {
    const gram = words.slice(i, i + n).join(" ");
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

function wordsOf(
  name: string,
  candidates: readonly string[],
  references: readonly (readonly string[])[],
  { words = captionWords }: WordOptions,
): { candidate: readonly string[]; refs: (readonly string[])[] }[] {
  if (candidates.length === 0) throw new Error(`${name}: there are no candidates`);
  if (candidates.length !== references.length)
    throw new Error(`${name}: ${candidates.length} candidates for the references of ${references.length} pictures`);
  return candidates.map((candidate, i) => {
    if (references[i].length === 0) throw new Error(`${name}: picture ${i} has no references`);
    return { candidate: words(candidate), refs: references[i].map(words) };
  });
}
