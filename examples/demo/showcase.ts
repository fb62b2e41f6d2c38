/** Pictures of the test splits with the model's answers, for the report. */

import { wordAttention } from "./attention.ts";
import { drawScene } from "./batches.ts";
import type { Chat, Tiles } from "./chat.ts";
import { TILE_FLOATS } from "./draw.ts";
import { evaluationItems, type Item } from "./evaluate.ts";
import type { Shown } from "./report.ts";
import type { Splits } from "./splits.ts";
import type { Scene } from "./tasks.ts";

const titles: Record<string, string> = {
  A: "other vendor's drawing",
  B: "never seen",
  C: "arrangement never seen",
  D: "base and skin tone never seen together",
};
/** Numbers of scenes per split, and of questions per scene (in both languages). */
const SCENES = { A: 6, B: 4, D: 3, C: 6 } as const;
const QUESTIONS = 6;

/** Asks the questions of the first scenes of each split. For names, shows the attention of their words. */
export async function showcase(chat: Chat, splits: Splits): Promise<Shown[]> {
  const items = evaluationItems(splits, "test");
  const list: Shown[] = [];
  for (const [split, count] of Object.entries(SCENES)) {
    for (const [scene, asked] of scenesOf(
      items.filter(({ row }) => row.startsWith(split)),
      count,
    )) {
      const tiles = tilesOf(splits, scene);
      const blank: Tiles = { count: tiles.count, pixels: new Float32Array(tiles.pixels.length) };
      const questions = asked.map(({ turn }) => turn.question);
      const answers = await chat.answers(questions.map((question) => ({ tiles, question })));
      const blanks = await chat.answers(questions.map((question) => ({ tiles: blank, question })));
      const turns = asked.map(({ turn }, i) => ({
        question: turn.question,
        expected: turn.answer,
        answer: answers[i],
        blank: blanks[i],
      }));
      const named = turns.find((turn, i) => asked[i].turn.task.startsWith("name") && turn.answer);
      const attention = named && {
        question: named.question,
        words: await wordAttention(chat, tiles, named.question, named.answer),
      };
      list.push({ row: `${split}: ${titles[split]}`, tiles, turns, attention });
    }
  }
  return list;
}

/** The first scenes (each emoji once, those with a name to ask for first), with questions in both languages. */
function scenesOf(items: readonly Item[], count: number): [Scene, Item[]][] {
  const scenes = new Map<Scene, Item[]>();
  for (const item of items) scenes.set(item.scene, [...(scenes.get(item.scene) ?? []), item]);
  const asksName = ([, own]: [Scene, Item[]]): number => (own.some(({ turn }) => turn.task.startsWith("name")) ? 0 : 1);
  const seen = new Set<string>();
  const distinct = [...scenes]
    .sort((a, b) => asksName(a) - asksName(b))
    .filter(([scene]) => {
      const key = scene.cells.map((cell) => cell?.emoji).join();
      return !seen.has(key) && seen.add(key);
    });
  return distinct.slice(0, count).map(([scene, own]) => {
    const named = own.filter(({ turn }) => turn.task.startsWith("name")).slice(0, 2);
    return [scene, [...named, ...own.filter((item) => !named.includes(item))].slice(0, QUESTIONS)];
  });
}

export function tilesOf(splits: Splits, scene: Scene): Tiles {
  const pixels = new Float32Array(scene.cells.length * TILE_FLOATS);
  drawScene(pixels, 0, splits.set, scene);
  return { count: scene.cells.length, pixels };
}
