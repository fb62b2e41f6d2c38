/** All words of questions and answers, as [English, Chinese]. */
export type Bilingual = readonly [en: string, zh: string];
export const languages = ["en", "zh"] as const;

/** Emojibase groups and the demo's names for them. Components (2) and flags (9) are left out. */
export const categories: readonly { group: number; name: Bilingual }[] = [
  { group: 0, name: ["face", "表情"] },
  { group: 1, name: ["person", "人物"] },
  { group: 3, name: ["animal or plant", "动植物"] },
  { group: 4, name: ["food", "食物"] },
  { group: 5, name: ["travel", "旅行"] },
  { group: 6, name: ["activity", "活动"] },
  { group: 7, name: ["object", "物品"] },
  { group: 8, name: ["symbol", "符号"] },
];

export const colours: readonly Bilingual[] = [
  ["red", "红色"],
  ["orange", "橙色"],
  ["yellow", "黄色"],
  ["green", "绿色"],
  ["blue", "蓝色"],
  ["purple", "紫色"],
  ["pink", "粉色"],
  ["brown", "棕色"],
  ["black", "黑色"],
  ["grey", "灰色"],
  ["white", "白色"],
];

/** Background colours of the pictures, 0..255. */
export const grounds: readonly { name: Bilingual; rgb: readonly [number, number, number] }[] = [
  { name: ["white", "白色"], rgb: [255, 255, 255] },
  { name: ["black", "黑色"], rgb: [20, 20, 20] },
  { name: ["grey", "灰色"], rgb: [150, 150, 150] },
  { name: ["red", "红色"], rgb: [210, 75, 70] },
  { name: ["yellow", "黄色"], rgb: [248, 216, 104] },
  { name: ["green", "绿色"], rgb: [112, 190, 116] },
  { name: ["blue", "蓝色"], rgb: [98, 154, 222] },
  { name: ["purple", "紫色"], rgb: [166, 124, 204] },
];

/** Skin tones 1..5 (index 0 is unused: the default yellow). */
export const tones: readonly Bilingual[] = [
  ["", ""],
  ["light", "较浅"],
  ["medium-light", "中等偏浅"],
  ["medium", "中等"],
  ["medium-dark", "中等偏深"],
  ["dark", "较深"],
];

export const positions: readonly Bilingual[] = [
  ["top left", "左上角"],
  ["top right", "右上角"],
  ["bottom left", "左下角"],
  ["bottom right", "右下角"],
];

export type Task = "name" | "category" | "colour" | "ground" | "tone" | "count" | "categoryAt" | "colourAt" | "nameAt";

/** Questions, with `{}` for the position. Evaluation uses the first wording. */
export const questions: Record<Task, readonly Bilingual[]> = {
  name: [
    ["What is this?", "图里是什么？"],
    ["What is in the picture?", "这是什么？"],
  ],
  category: [["What kind of thing is it?", "它属于哪一类？"]],
  colour: [["What colour is it?", "它是什么颜色？"]],
  ground: [["What colour is the background?", "背景是什么颜色？"]],
  tone: [["Which skin tone?", "是什么肤色？"]],
  count: [["How many things are there?", "图里有几个东西？"]],
  categoryAt: [["What kind of thing is at the {}?", "{}的属于哪一类？"]],
  colourAt: [["What colour is the thing at the {}?", "{}的是什么颜色？"]],
  nameAt: [["What is at the {}?", "{}是什么？"]],
};

/** The question of a task in language 0 or 1. */
export function question(task: Task, language: number, position = -1, wording = 0): string {
  const text = questions[task][wording % questions[task].length][language];
  return position < 0 ? text : text.replace("{}", positions[position][language]);
}
