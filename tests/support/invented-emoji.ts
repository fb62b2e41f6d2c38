import { type Emoji, type EmojiSet, family, SIDE } from "../../examples/demo/emoji.ts";
import { hash } from "../../examples/demo/random.ts";

const BYTES = SIDE * SIDE * 4;

/** A made-up data set of coloured discs, so tests need no download: 8 categories, named fruit and hands with skin tones. */
export function inventedSet(count = 240): EmojiSet {
  const emoji: Emoji[] = [];
  const add = (n: number, tone: number, label: [string, string], category: number, subgroup: number): void => {
    const hex = tone ? `${n.toString(16)}-1F3F${"ABCDEF"[tone]}` : n.toString(16);
    emoji.push({
      hex,
      tone,
      category,
      subgroup,
      label,
      tags: [
        ["round", `tag ${n % 7}`],
        ["圆", `标签${n % 7}`],
      ],
      colour: tone ? [-1, -1] : [n % 11, n % 11],
      family: family(label[0].split(":")[0], subgroup),
    });
  };
  for (let n = 0; n < count; n++) {
    const category = n % 8;
    const subgroup = category === 3 ? 42 : category === 1 ? 16 : category * 5;
    add(n, 0, [`thing${n}`, `东西${n}`], category, subgroup);
    if (category === 1)
      for (let tone = 1; tone <= 5; tone++)
        add(n, tone, [`thing${n}: tone ${tone}`, `东西${n}：肤色${tone}`], category, subgroup);
    if (category === 0)
      for (let tone = 1; tone <= 5; tone++) add(n, tone, [`thing${n}: tone ${tone}`, `东西${n}：肤色${tone}`], 1, 25);
  }
  const pixels = new Uint8Array(emoji.length * 2 * BYTES);
  emoji.forEach((e, i) => {
    for (const vendor of [0, 1]) {
      const rgb = [0, 8, 16].map((shift) => (hash(`${e.hex} ${vendor}`) >> shift) & 255);
      for (let p = 0; p < SIDE * SIDE; p++) {
        const [x, y] = [(p % SIDE) - 31.5, Math.floor(p / SIDE) - 31.5];
        const alpha = Math.max(0, Math.min(255, Math.round((28 - Math.hypot(x, y)) * 255)));
        const at = (i * 2 + vendor) * BYTES + p * 4;
        for (let c = 0; c < 3; c++) pixels[at + c] = Math.round((rgb[c] * alpha) / 255);
        pixels[at + 3] = alpha;
      }
    }
  });
  return { emoji, pixels };
}
