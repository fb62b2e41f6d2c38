/** The caption filter of LLaVA's first stage (arXiv 2304.08485, appendix): a balanced choice by noun phrases. */
import { randomOf, shuffled } from "./random.ts";

export interface BalanceOptions {
  /** Phrases in fewer captions than this are skipped. Default 3. */
  minFrequency?: number;
  /** Most captions that a phrase chooses, at random. Default 100. */
  cap?: number;
  /** Most captions in the result, those of the rarest phrases first. Default: no limit. */
  size?: number;
  /** Returns the phrases of a caption, for example by a parser. Default `contentPhrases`. */
  phrases?: (caption: string) => readonly string[];
  /** The same seed chooses the same captions. Default 0. */
  seed?: number;
}

export interface Balance {
  /** Indices of the chosen captions, those of the rarest phrases first. */
  readonly chosen: number[];
  /** Number of captions with each phrase, skipped phrases included. */
  readonly frequencies: ReadonlyMap<string, number>;
}

/**
 * Chooses captions so that rare and common noun phrases are balanced. From the rarest phrase to the commonest, each adds its
 * captions, or a random `cap` of them. As in the paper, captions that are chosen already count towards the cap.
 */
export function balanceCaptions(captions: readonly string[], options: BalanceOptions = {}): Balance {
  const { minFrequency = 3, cap = 100, size = Infinity, phrases = contentPhrases, seed = 0 } = options;
  if (!(minFrequency >= 1))
    throw new RangeError(`balanceCaptions: minFrequency must be at least 1, got ${minFrequency}`);
  if (!(cap >= 1)) throw new RangeError(`balanceCaptions: cap must be at least 1, got ${cap}`);
  if (!(size >= 1)) throw new RangeError(`balanceCaptions: size must be at least 1, got ${size}`);
  const members = new Map<string, number[]>();
  captions.forEach((caption, i) => {
    for (const phrase of new Set(phrases(caption))) {
      const list = members.get(phrase);
      if (list) list.push(i);
      else members.set(phrase, [i]);
    }
  });
  const chosen = new Set<number>();
  const kept = [...members.values()].filter((list) => list.length >= minFrequency);
  kept.sort((a, b) => a.length - b.length); // stable: equally rare ones in the order of their first caption
  for (const [k, list] of kept.entries()) {
    const part = list.length > cap ? shuffled(list, randomOf(seed, k)).slice(0, cap) : list;
    for (const i of part) if (chosen.size < size) chosen.add(i);
    if (chosen.size >= size) break;
  }
  return { chosen: [...chosen], frequencies: new Map([...members].map(([phrase, list]) => [phrase, list.length])) };
}

/**
 * Runs of content words of an English caption, in lower case. The caption is cut at punctuation, function words and verbs that
 * are common in captions. This is no parser: an unlisted verb stays in its run ("dog chases ball"). Pass `phrases` to use one.
 */
export function contentPhrases(caption: string): string[] {
  const phrases: string[] = [];
  for (const part of caption
    .toLowerCase()
    .replaceAll("’", "'")
    .split(/[^\p{L}\p{N}\p{M}' -]+/u)) {
    let run: string[] = [];
    for (const word of [...part.split(/\s+/), ""]) {
      const content = /[\p{L}\p{N}]/u.test(word) && !functionWords.has(word);
      if (content) run.push(word);
      else if (run.length) phrases.push(run.join(" ")), (run = []);
    }
  }
  return phrases;
}

const functionWords = new Set(
  `a an the this that these those my your his her its our their some any each every no all both another such
  i you he she it we they me him us them one who whom whose which what where when why how there here
  and or but nor so yet if then than as while because though although until unless
  of in on at by to from with without for into onto over under above below between among through during before after
  about against along around across behind beside besides beyond inside outside near next off out up down toward towards via upon within per
  is are was were be been being am do does did done has have had having can could will would shall should may might must
  not n't very too also just only more most less least much many few several other same own again ever never always
  it's that's there's he's she's don't doesn't isn't aren't can't won't
  stand stands standing sit sits sitting lie lies lying walk walks walking run runs running hold holds holding wear wears wearing
  look looks looking go goes going get gets getting make makes making take takes taking show shows showing shown
  see sees seen seeing use uses used using play plays playing ride rides riding eat eats eating`.split(/\s+/),
);
