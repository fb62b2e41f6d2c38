/** Scenes (one picture, or a 2 x 2 composite), and questions with answers about them. */
import type { Emoji } from "./emoji.ts";
import type { Random } from "./random.ts";
import type { Picture, Splits } from "./splits.ts";
import { categories, colours, grounds, positions, question, questions, type Task, tones } from "./words.ts";

/** Cells: one for a single picture, four for a composite (`null` = empty), row by row. */
export interface Scene {
  cells: readonly (Picture | null)[];
  /** Index into `grounds`. */
  ground: number;
}

export interface Turn {
  task: Task;
  /** 0 = English, 1 = Chinese. */
  language: number;
  question: string;
  answer: string;
}

export const isComposite = (scene: Scene): boolean => scene.cells.length > 1;

/** All questions about one emoji: the task, and the answer in both languages. */
function about(e: Emoji, vendor: number, named: boolean): [Task, readonly [string, string]][] {
  const list: [Task, readonly [string, string]][] = [["category", categories[e.category].name]];
  if (e.colour[vendor] >= 0) list.push(["colour", colours[e.colour[vendor]]]);
  if (named) list.push(["name", e.label]);
  if (e.tone > 0) list.push(["tone", tones[e.tone]]);
  return list;
}

const at: Partial<Record<Task, Task>> = { category: "categoryAt", colour: "colourAt", name: "nameAt" };

/** All questions of a scene with answers. Without `random` they have their first wording, for evaluation. */
export function turnsOf(scene: Scene, splits: Splits, random?: Random): Turn[] {
  const turns: Turn[] = [];
  const add = (task: Task, answer: readonly [string, string], position?: number): void => {
    for (const language of [0, 1]) {
      const wording = random ? random.int(questions[task].length) : 0;
      turns.push({ task, language, question: question(task, language, position, wording), answer: answer[language] });
    }
  };
  const composite = isComposite(scene);
  scene.cells.forEach((picture, position) => {
    if (!picture) return;
    const e = splits.set.emoji[picture.emoji];
    for (const [task, answer] of about(e, picture.vendor, splits.named(e))) {
      if (!composite) add(task, answer);
      else if (at[task]) add(at[task], answer, position);
    }
  });
  add("ground", grounds[scene.ground].name);
  if (composite) {
    const count = String(scene.cells.filter(Boolean).length);
    add("count", [count, count]);
  }
  return turns;
}

/** A scene in words: the answers to all questions about it, in language 0 or 1. */
export function describe(scene: Scene, splits: Splits, language: number): string {
  const cells = scene.cells.flatMap((picture, position) => {
    if (!picture) return [];
    const e = splits.set.emoji[picture.emoji];
    const facts = about(e, picture.vendor, splits.named(e)).map(([, answer]) => answer[language]);
    const place = isComposite(scene) ? [positions[position][language]] : [];
    return [[...place, ...facts].join(language ? "、" : ", ")];
  });
  return [...cells, grounds[scene.ground].name[language]].join(language ? "。" : ". ");
}

/** Draws scenes for training; the mix is that of the recipe (docs: tasks are learnt in proportion to how often they are asked). */
export class SceneSampler {
  readonly #all: Picture[];
  readonly #named: Picture[];
  readonly #toned: Picture[];
  readonly #hands: Picture[];
  /** For each position, the pictures that training may put there. */
  readonly #placed: { all: Picture[]; named: Picture[] }[];

  constructor(readonly splits: Splits) {
    const of = ({ emoji }: Picture): Emoji => splits.set.emoji[emoji];
    this.#all = splits.train.filter((p) => of(p).tone === 0);
    this.#named = this.#all.filter((p) => splits.named(of(p)));
    this.#toned = splits.train.filter((p) => of(p).tone > 0);
    this.#hands = this.#toned.filter((p) => splits.named(of(p)));
    this.#placed = [0, 1, 2, 3].map((position) => {
      const all = this.#all.filter((p) => splits.barredPosition(of(p)) !== position);
      return { all, named: all.filter((p) => splits.named(of(p))) };
    });
  }

  single(random: Random): Scene {
    const kind = random.next();
    const pool = kind < 0.12 ? this.#hands : kind < 0.2 ? this.#toned : kind < 0.55 ? this.#named : this.#all;
    return { cells: [random.pick(pool)], ground: random.int(grounds.length) };
  }

  composite(random: Random): Scene {
    const count = 1 + random.int(4);
    const filled = random.shuffle([0, 1, 2, 3]).slice(0, count);
    const cells = [0, 1, 2, 3].map((position) => {
      if (!filled.includes(position)) return null;
      const { all, named } = this.#placed[position];
      return random.pick(random.next() < 0.45 ? named : all);
    });
    return { cells, ground: random.int(grounds.length) };
  }

  /** A composite for split C: each emoji is at a position where training never puts it. */
  unseenComposite(random: Random): Scene {
    const count = 1 + random.int(4);
    const filled = random.shuffle([0, 1, 2, 3]).slice(0, count);
    const cells = [0, 1, 2, 3].map((position) => {
      if (!filled.includes(position)) return null;
      const pool = random.next() < 0.45 ? this.#named : this.#all;
      for (;;) {
        const picture = random.pick(pool);
        if (this.splits.barredPosition(this.splits.set.emoji[picture.emoji]) === position) return picture;
      }
    });
    return { cells, ground: random.int(grounds.length) };
  }
}
