/** Training batches: pictures with labels for the heads of stage 0, text alone, and packed conversations. */
import { drawGround, drawPicture, randomPose, still, stillCell, TILE_FLOATS, waver } from "./draw.ts";
import type { EmojiSet } from "./emoji.ts";
import { emptyRows, IGNORE, imagePlaces, type Packed, type Placed, packRow, type TextIds } from "./pack.ts";
import type { Random } from "./random.ts";
import type { Splits } from "./splits.ts";
import { describe, isComposite, type Scene, SceneSampler, type Turn, turnsOf } from "./tasks.ts";
import { categories, colours, grounds, question, questions, tones } from "./words.ts";

/** Tokens of the projector per tile: 2 x 2 positions and their mean. */
export const TILE_TOKENS = 5;
/** Row lengths: one picture, a composite, text alone. */
export const ROW_LENGTH = { single: 80, composite: 128, text: 64 } as const;

export interface HeadBatch {
  pixels: Float32Array; // [N, 3, 32, 32]
  /** Class for each head; IGNORE if there is none. */
  classes: Record<keyof HeadClasses, Int32Array>;
  /** Distribution over tag words [N, words]; rows without tags are zero. */
  tags: Float32Array;
}
export interface HeadClasses {
  identity: number;
  subgroup: number;
  category: number;
  colour: number;
  tone: number;
  ground: number;
}
export interface ConversationBatch extends Packed {
  tiles: number;
  pixels: Float32Array; // [tiles, 3, 32, 32]
  placed: Placed[][];
}

/** Draws the tiles of a scene into `out` from tile `first` on. Without `random`: as in evaluation. */
export function drawScene(out: Float32Array, first: number, set: EmojiSet, scene: Scene, random?: Random): void {
  const composite = isComposite(scene);
  const rgb = grounds[scene.ground].rgb;
  const ground = random ? waver(rgb, random) : rgb;
  scene.cells.forEach((picture, i) => {
    const offset = (first + i) * TILE_FLOATS;
    if (!picture) return drawGround(out, offset, ground);
    const pose = random
      ? randomPose(random, set.emoji[picture.emoji].category, composite)
      : composite
        ? stillCell
        : still;
    drawPicture(out, offset, set, picture, ground, pose);
  });
}

/** Scenes with their questions as one batch. All scenes have the same number of tiles. */
export function conversationBatch(
  scenes: readonly Scene[],
  turns: readonly (readonly Turn[])[],
  set: EmojiSet,
  texts: TextIds,
  length: number,
  random?: Random,
): ConversationBatch {
  const tiles = scenes[0].cells.length;
  const packed = emptyRows(scenes.length, length);
  const pixels = new Float32Array(scenes.length * tiles * TILE_FLOATS);
  const placed = scenes.map((scene, row) => {
    drawScene(pixels, row * tiles, set, scene, random);
    return packRow(packed, row, imagePlaces(tiles * TILE_TOKENS), turns[row], texts);
  });
  return { ...packed, tiles: scenes.length * tiles, pixels, placed };
}

export class Batcher {
  readonly sampler: SceneSampler;
  /** Sizes of the heads of stage 0. */
  readonly classes: HeadClasses;
  /** Tags of at least `MIN_TAGGED` training emoji, in both languages. */
  readonly tagWords: readonly string[];
  readonly #identity = new Map<number, number>();
  readonly #subgroups: readonly number[];
  readonly #tags: readonly (readonly number[])[];

  constructor(
    readonly splits: Splits,
    readonly texts: TextIds,
    readonly random: Random,
    /** Changes the questions about a scene. The demo asks all. */
    readonly retell: (turns: Turn[], scene: Scene) => Turn[] = (turns) => turns,
  ) {
    const { emoji } = splits.set;
    this.sampler = new SceneSampler(splits);
    const seen = [...new Set(splits.train.map((p) => p.emoji))];
    const names = new Map<string, number>(); // hands of all skin tones are one thing
    for (const i of seen) {
      if (!splits.named(emoji[i])) continue;
      const base = emoji[i].hex.replace(/-1F3F[B-F]/, "");
      if (!names.has(base)) names.set(base, names.size);
      this.#identity.set(i, names.get(base)!);
    }
    this.#subgroups = [...new Set(emoji.map((e) => e.subgroup))].sort((a, b) => a - b);
    const counts = new Map<string, number>();
    for (const i of seen)
      if (emoji[i].tone === 0) for (const word of emoji[i].tags.flat()) counts.set(word, (counts.get(word) ?? 0) + 1);
    this.tagWords = [...counts]
      .filter(([, n]) => n >= 4)
      .map(([word]) => word)
      .sort();
    const ids = new Map(this.tagWords.map((word, id) => [word, id]));
    this.#tags = emoji.map((e) => e.tags.flat().flatMap((word) => ids.get(word) ?? []));
    this.classes = {
      identity: names.size,
      subgroup: this.#subgroups.length,
      category: categories.length,
      colour: colours.length,
      tone: tones.length,
      ground: grounds.length,
    };
  }

  /** Single pictures with a class for each head of stage 0. */
  heads(size: number): HeadBatch {
    const scenes = Array.from({ length: size }, () => this.sampler.single(this.random));
    return this.headBatch(scenes, this.random);
  }

  headBatch(scenes: readonly Scene[], random?: Random): HeadBatch {
    const n = scenes.length;
    const pixels = new Float32Array(n * TILE_FLOATS);
    const column = (): Int32Array => new Int32Array(n).fill(IGNORE);
    const classes = {
      identity: column(),
      subgroup: column(),
      category: column(),
      colour: column(),
      tone: column(),
      ground: column(),
    };
    const tags = new Float32Array(n * this.tagWords.length);
    scenes.forEach((scene, i) => {
      drawScene(pixels, i, this.splits.set, scene, random);
      const { emoji, vendor } = scene.cells[0]!;
      const e = this.splits.set.emoji[emoji];
      classes.identity[i] = this.#identity.get(emoji) ?? IGNORE;
      classes.subgroup[i] = this.#subgroups.indexOf(e.subgroup);
      classes.category[i] = e.category;
      if (e.colour[vendor] >= 0) classes.colour[i] = e.colour[vendor];
      if (e.category === 1) classes.tone[i] = e.tone;
      classes.ground[i] = scene.ground;
      for (const word of this.#tags[emoji]) tags[i * this.tagWords.length + word] = 1 / this.#tags[emoji].length;
    });
    return { pixels, classes, tags };
  }

  /** Conversations about single pictures or composites, rows filled with turns in random order. */
  conversations(kind: "single" | "composite", size: number): ConversationBatch {
    const scenes = Array.from({ length: size }, () => this.sampler[kind](this.random));
    const turns = scenes.map((scene) => this.#turns(scene));
    return conversationBatch(scenes, turns, this.splits.set, this.texts, ROW_LENGTH[kind], this.random);
  }

  /** Text alone, for pretraining the language model: names in the other language, their kinds, and their tags. */
  text(size: number): Packed {
    const packed = emptyRows(size, ROW_LENGTH.text);
    for (let row = 0; row < size; row++) {
      const turns = Array.from({ length: 8 }, () => this.#textTurn());
      packRow(packed, row, [], turns, this.texts);
    }
    // A language model learns every token, not answers alone.
    packed.inputIds.forEach((id, i) => (packed.labels[i] = packed.segments[i] > 0 ? id : IGNORE));
    return packed;
  }

  /** The same conversations with the scene in words in place of the image, for a language model. */
  described(kind: "single" | "composite", size: number): Packed {
    const packed = emptyRows(size, ROW_LENGTH.composite);
    for (let row = 0; row < size; row++) {
      const scene = this.sampler[kind](this.random);
      const words = this.texts.of(describe(scene, this.splits, this.random.int(2)));
      packRow(packed, row, words, this.#turns(scene), this.texts);
    }
    return packed;
  }

  #turns(scene: Scene): Turn[] {
    return this.random.shuffle(this.retell(turnsOf(scene, this.splits, this.random), scene));
  }

  #textTurn(): Turn {
    const { random, splits } = this;
    const picture = random.pick(splits.train);
    const e = splits.set.emoji[picture.emoji];
    const language = random.int(2);
    const kind = random.int(3);
    const say = (ask: string, answer: string): Turn => ({ task: "name", language, question: ask, answer });
    if (kind === 0) return say(e.label[language], e.label[1 - language]);
    if (kind === 1)
      return say(
        `${e.label[language]}${language ? "：" : ": "}${question("category", language)}`,
        categories[e.category].name[language],
      );
    return say(
      e.label[language],
      random
        .shuffle([...e.tags[language]])
        .slice(0, 3)
        .join(language ? "、" : ", "),
    );
  }

  /** Training text of the tokenizer: labels and tags of training, and the questions and answers twenty times. */
  static *corpus(splits: Splits): Generator<readonly [string, number]> {
    const all = new Set(splits.train.map((p) => p.emoji));
    for (const i of all) {
      const e = splits.set.emoji[i];
      for (const language of [0, 1]) {
        yield [e.label[language], splits.named(e) ? 80 : 1];
        if (e.tone === 0) for (const tag of e.tags[language]) yield [tag, 1];
      }
    }
    for (const task of Object.keys(questions) as (keyof typeof questions)[]) {
      for (let wording = 0; wording < questions[task].length; wording++) {
        for (const language of [0, 1]) {
          if (!questions[task][0][0].includes("{}")) yield [question(task, language, -1, wording), 400];
          else for (let p = 0; p < 4; p++) yield [question(task, language, p, wording), 200];
        }
      }
    }
    for (const [en, zh] of [...colours, ...tones, ...categories.map((c) => c.name), ...grounds.map((g) => g.name)]) {
      yield [en, 200];
      yield [zh, 200];
    }
  }
}
