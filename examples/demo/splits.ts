/**
 * The splits: which emoji training may show. They depend on hashes of families alone, so they are equal in every run:
 * A  other vendor: the family's drawings of one vendor are held out;   B  family never seen;
 * C  every emoji is barred from one of the four positions of a composite;   D  base and tone never seen together.
 * Each split has a validation part, for choosing settings, and a separate reported part.
 */
import type { Emoji, EmojiSet } from "./emoji.ts";
import { fraction, hash } from "./random.ts";

export interface Picture {
  /** Index into the set. */
  emoji: number;
  vendor: 0 | 1;
}
export type Part = "validation" | "test";

/** Subgroups whose emoji names are taught: fruit, vegetables, open and partial hands. */
export const namedSubgroups = [42, 43, 16, 17] as const;
const HELD_FAMILIES = 0.13;
const HELD_TONES = 0.15;
const VALIDATION = 0.25;

export class Splits {
  /** Pictures that training may show. */
  readonly train: Picture[] = [];
  readonly #named: ReadonlySet<number>;
  readonly #unseen = new Set<string>();
  /** Vendor held out, by family. */
  readonly #oneSided = new Map<string, 0 | 1>();

  constructor(
    readonly set: EmojiSet,
    named: readonly number[] = namedSubgroups,
  ) {
    this.#named = new Set(named);
    const namedFamilies = new Set(set.emoji.filter((e) => this.#named.has(e.subgroup)).map((e) => e.family));
    for (const family of new Set(set.emoji.map((e) => e.family))) {
      const isNamed = namedFamilies.has(family);
      if (!isNamed && fraction(`B ${family}`) < HELD_FAMILIES) this.#unseen.add(family);
      else if (fraction(`A ${family}`) < (isNamed ? 0.36 : 0.2))
        this.#oneSided.set(family, (hash(`vendor ${family}`) % 2) as 0 | 1);
    }
    set.emoji.forEach((e, emoji) => {
      for (const vendor of [0, 1] as const) {
        if (!this.#unseen.has(e.family) && this.#oneSided.get(e.family) !== vendor && !this.heldTone(e))
          this.train.push({ emoji, vendor });
      }
    });
  }

  /** Whether the emoji's name is taught. */
  named(e: Emoji): boolean {
    return this.#named.has(e.subgroup);
  }

  /** Split D: whether this base is never seen with this tone. */
  heldTone(e: Emoji): boolean {
    return e.tone > 0 && fraction(`D ${e.family} ${e.tone}`) < HELD_TONES;
  }

  /** Split C: the position (0..3) of composites where this emoji never stands in training. */
  barredPosition(e: Emoji): number {
    return hash(`C ${e.hex}`) % 4;
  }

  /** Split A: pictures without skin tone whose family was seen as drawn by the other vendor only. */
  otherVendor(part: Part): Picture[] {
    return this.#pictures(part, "A", (e, vendor) => e.tone === 0 && this.#oneSided.get(e.family) === vendor);
  }

  /** Split B: pictures of families never seen, without skin tone or with one. */
  unseen(part: Part, toned: boolean): Picture[] {
    return this.#pictures(part, "B", (e) => e.tone > 0 === toned && this.#unseen.has(e.family));
  }

  /** Split D: base and tone never seen together. The base was seen, drawn by this vendor. */
  unseenTone(part: Part): Picture[] {
    return this.#pictures(
      part,
      "D",
      (e, vendor) => !this.#unseen.has(e.family) && this.#oneSided.get(e.family) !== vendor && this.heldTone(e),
    );
  }

  /** Pictures in an order that is independent of their names, so that the first n are a fair sample. */
  #pictures(part: Part, split: string, keep: (e: Emoji, vendor: 0 | 1) => boolean): Picture[] {
    const list: { picture: Picture; order: number }[] = [];
    this.set.emoji.forEach((e, emoji) => {
      if (fraction(`part ${split} ${e.family}`) < VALIDATION !== (part === "validation")) return;
      for (const vendor of [0, 1] as const)
        if (keep(e, vendor)) list.push({ picture: { emoji, vendor }, order: hash(`order ${e.hex} ${vendor}`) });
    });
    return list.sort((a, b) => a.order - b.order).map(({ picture }) => picture);
  }
}
