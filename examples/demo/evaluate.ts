/**
 * Exact match per task and language, with two baselines: the same model with a blank picture, and the commonest answer. A greedy
 * answer matches exactly if and only if the model's likeliest token is right at every position, given the right answer. So
 * one forward pass evaluates all questions of a row (a test checks this).
 */

import type { Llava } from "../../models/index.ts";
import { noGrad, tensor } from "../../src/index.ts";
import { type ConversationBatch, conversationBatch, ROW_LENGTH } from "./batches.ts";
import { TILE_FLOATS } from "./draw.ts";
import type { TextIds } from "./pack.ts";
import { Random } from "./random.ts";
import type { Part, Picture, Splits } from "./splits.ts";
import { modelInput } from "./stages.ts";
import { isComposite, type Scene, SceneSampler, type Turn, turnsOf } from "./tasks.ts";
import { grounds, type Task } from "./words.ts";

/** One question to judge. */
export interface Item {
  row: string;
  scene: Scene;
  turn: Turn;
}
export interface Score {
  row: string;
  /** Right answers by the model, by the model without a picture, and by the commonest answer, as [English, Chinese]. */
  n: [number, number];
  right: [number, number];
  blank: [number, number];
  majority: [number, number];
}

/** Rows of the results table: split, task, label. */
const rows: readonly { split: string; task: Task; label: string }[] = [
  { split: "A", task: "category", label: "A  other vendor: category" },
  { split: "A", task: "colour", label: "A  other vendor: main colour" },
  { split: "A", task: "name", label: "A  other vendor: name (8 grounds)" },
  { split: "B", task: "category", label: "B  never seen: category" },
  { split: "B", task: "colour", label: "B  never seen: main colour" },
  { split: "B", task: "ground", label: "B  never seen: background" },
  { split: "B", task: "tone", label: "B  never seen: skin tone" },
  { split: "D", task: "tone", label: "D  unseen base + tone: skin tone" },
  { split: "D", task: "name", label: "D  unseen base + tone: name" },
  { split: "C", task: "ground", label: "C  unseen positions: background" },
  { split: "C", task: "count", label: "C  unseen positions: how many things" },
  { split: "C", task: "categoryAt", label: "C  unseen positions: category at P" },
  { split: "C", task: "colourAt", label: "C  unseen positions: colour at P" },
  { split: "C", task: "nameAt", label: "C  unseen positions: name at P" },
  { split: "train", task: "name", label: "(seen in training: name)" },
];

const COMPOSITES = 200;
const SEEN_NAMES = 100;
/** Number of pictures for questions about skin tone in B, which has many variants of few families. */
const TONED = 240;

/** All questions of the table, in a fixed order. */
export function evaluationItems(splits: Splits, part: Part): Item[] {
  const items: Item[] = [];
  const random = new Random(part === "test" ? 1001 : 2002);
  const ask = (split: string, scene: Scene, only?: readonly Task[]): void => {
    for (const turn of turnsOf(scene, splits)) {
      const row = rows.find((r) => r.split === split && r.task === turn.task && (only?.includes(r.task) ?? true));
      if (row) items.push({ row: row.label, scene, turn });
    }
  };
  const on = (picture: Picture, ground = random.int(grounds.length)): Scene => ({ cells: [picture], ground });
  const isNamed = (p: Picture): boolean => splits.named(splits.set.emoji[p.emoji]);
  for (const picture of splits.otherVendor(part)) {
    if (!isNamed(picture)) ask("A", on(picture));
    else grounds.forEach((_, ground) => ask("A", on(picture, ground)));
  }
  for (const picture of splits.unseen(part, false)) ask("B", on(picture));
  for (const picture of splits.unseen(part, true).slice(0, TONED)) ask("B", on(picture), ["tone"]);
  for (const picture of splits.unseenTone(part)) ask("D", on(picture));
  const sampler = new SceneSampler(splits);
  for (let i = 0; i < COMPOSITES; i++) ask("C", sampler.unseenComposite(random));
  const seen = random.shuffle(splits.train.filter((p) => isNamed(p) && splits.set.emoji[p.emoji].tone === 0));
  for (const picture of seen.slice(0, SEEN_NAMES)) ask("train", on(picture));
  // Category and colour of an emoji are asked once, not on each of eight grounds.
  const asked = new Set<string>();
  return items.filter(({ row, scene, turn }) => {
    if (scene.cells.length > 1 || turn.task === "name") return true;
    const { emoji, vendor } = scene.cells[0]!;
    const key = `${row} ${turn.language} ${emoji} ${vendor}`;
    return !asked.has(key) && asked.add(key);
  });
}

const BATCH = { single: 32, composite: 16 } as const;
/** Answer tokens per batch: a fixed number, so that all batches share one plan. */
const LABELS = 512;

/** Items as full batches. Items of one scene share rows, and continue in another when a row is full. */
function* evaluationBatches(
  items: readonly Item[],
  splits: Splits,
  texts: TextIds,
): Generator<{ batch: ConversationBatch; items: Map<Turn, Item> }> {
  for (const kind of ["single", "composite"] as const) {
    const scenes = new Map<Scene, Item[]>();
    for (const item of items) {
      if (isComposite(item.scene) === (kind === "composite"))
        scenes.set(item.scene, [...(scenes.get(item.scene) ?? []), item]);
    }
    let queue = [...scenes];
    while (queue.length) {
      const taken: [Scene, Item[]][] = [];
      let labels = 0;
      for (const [scene, own] of queue) {
        const part: Item[] = [];
        for (const item of own) {
          const count = texts.of(item.turn.answer).length + 1;
          if (labels + count > LABELS) break;
          labels += count;
          part.push(item);
        }
        taken.push([scene, part]);
        if (taken.length === BATCH[kind] || labels + 16 > LABELS) break;
      }
      const real = taken.length;
      while (taken.length < BATCH[kind]) taken.push([taken[0][0], []]);
      const batch = conversationBatch(
        taken.map(([scene]) => scene),
        taken.map(([, own]) => own.map(({ turn }) => turn)),
        splits.set,
        texts,
        ROW_LENGTH[kind],
      );
      const done = new Set(batch.placed.flat().map(({ turn }) => turn));
      if (done.size === 0)
        throw new Error(
          `evaluation: the question "${queue[0][1][0].turn.question}" does not fit a row of ${ROW_LENGTH[kind]} tokens`,
        );
      yield { batch, items: new Map(taken.flatMap(([, own]) => own.map((item) => [item.turn, item]))) };
      const rest = queue
        .slice(0, real)
        .map(([scene, own]): [Scene, Item[]] => [scene, own.filter(({ turn }) => !done.has(turn))]);
      queue = [...rest.filter(([, own]) => own.length), ...queue.slice(real)];
    }
  }
}

/** For each question in a batch: whether the greedy answer is exactly right. */
export async function exactMatches(model: Llava, batch: ConversationBatch): Promise<boolean[]> {
  const placed = batch.placed.flat();
  const places = placed.flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => start + i));
  const rows = new Int32Array(LABELS);
  places.forEach((p, i) => (rows[i] = p - 1)); // the token before predicts
  const best = await noGrad(() => {
    const { labels: _, ...input } = modelInput(batch);
    const { decoder } = model.merge(input);
    const hidden = model.language_model.model.forward(decoder).pop()!; // [B, T, D]
    const [b, t, d] = hidden.shape;
    return model.language_model
      .logits(hidden.reshape([b * t, d]).indexSelect(0, tensor(rows)))
      .argmax(-1)
      .data();
  });
  let at = 0;
  return placed.map(({ count }) => {
    let right = true;
    for (let i = 0; i < count; i++, at++) right &&= best[at] === batch.labels[places[at]];
    return right;
  });
}

/** The results table on `part`. */
export async function evaluate(
  model: Llava,
  splits: Splits,
  texts: TextIds,
  part: Part,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<Score[]> {
  const items = evaluationItems(splits, part);
  const scores = new Map<string, Score>();
  const answers = new Map<string, Map<string, number>>();
  for (const { label } of rows)
    scores.set(label, { row: label, n: [0, 0], right: [0, 0], blank: [0, 0], majority: [0, 0] });
  for (const { row, turn } of items) {
    const key = `${row} ${turn.language}`;
    const counts = answers.get(key) ?? new Map<string, number>();
    answers.set(key, counts.set(turn.answer, (counts.get(turn.answer) ?? 0) + 1));
    const score = scores.get(row)!;
    score.n[turn.language as 0]++;
    score.majority[turn.language as 0] = Math.max(score.majority[turn.language as 0], counts.get(turn.answer)!);
  }
  // Without a picture, the answer depends on the question alone, so each is asked once.
  const keyOf = ({ scene, turn }: Item): string => `${scene.cells.length} ${turn.question} ${turn.answer}`;
  const unseeing = new Map<string, boolean>();
  for (const { batch, items: byTurn } of evaluationBatches(
    [...new Map(items.map((item) => [keyOf(item), item])).values()],
    splits,
    texts,
  )) {
    const right = await exactMatches(model, { ...batch, pixels: new Float32Array(batch.tiles * TILE_FLOATS) });
    batch.placed.flat().forEach(({ turn }, i) => unseeing.set(keyOf(byTurn.get(turn)!), right[i]));
  }
  let done = 0;
  for (const { batch, items: byTurn } of evaluationBatches(items, splits, texts)) {
    const right = await exactMatches(model, batch);
    batch.placed.flat().forEach(({ turn }, i) => {
      const item = byTurn.get(turn)!;
      const score = scores.get(item.row)!;
      if (right[i]) score.right[turn.language as 0]++;
      if (unseeing.get(keyOf(item))) score.blank[turn.language as 0]++;
      done++;
    });
    onProgress(done, items.length);
  }
  return [...scores.values()].filter(({ n }) => n[0] > 0);
}
