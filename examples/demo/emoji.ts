/** The pictures and words of the demo: two vendors' emoji artwork joined with CLDR names in English and Chinese. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PNG } from "pngjs";
import { namedPath } from "../../src/io/index.ts";
import { categories, colours, tones } from "./words.ts";

/** Pixels of one stored picture: SIDE x SIDE RGBA bytes, colours premultiplied by alpha. */
export const SIDE = 64;
const BYTES = SIDE * SIDE * 4;
export const vendors = ["google", "twitter"] as const;

export interface Emoji {
  hex: string;
  /** 0 = no skin tone, else 1..5. */
  tone: number;
  /** Index into `categories`. */
  category: number;
  /** Emojibase's subgroup number, e.g. 42 = fruit. */
  subgroup: number;
  /** [English, Chinese]; skin-tone variants are composed from the base label and the tone. */
  label: [string, string];
  tags: [string[], string[]];
  /** Main colour by vendor: an index into `colours`, or -1 where no colour covers enough. */
  colour: [number, number];
  /** Variants of one thing share a family (man/woman/person, clock faces, arrows …). Splits are by family. */
  family: string;
}

export interface EmojiSet {
  emoji: Emoji[];
  /** Picture of emoji `i` by vendor `v` starts at `(i * 2 + v) * SIDE * SIDE * 4`. */
  pixels: Uint8Array;
}

/** The data packages and the licences of their contents. */
export const sources = [
  { name: "emoji-datasource-google", version: "16.0.0", licence: "Noto Emoji images: Apache-2.0" },
  { name: "emoji-datasource-twitter", version: "16.0.0", licence: "Twemoji images: CC BY 4.0" },
  { name: "emojibase-data", version: "17.0.0", licence: "MIT; names and tags from CLDR: Unicode-3.0" },
] as const;

const FORMAT = 1;

/** Reads the data set from `folder`. Builds it first if it is missing. */
export function loadEmoji(folder: string, say: (text: string) => void): EmojiSet {
  const [bin, json] = [join(folder, "emoji.bin"), join(folder, "emoji.json")];
  if (existsSync(bin) && existsSync(json)) {
    const { format, emoji } = JSON.parse(readFileSync(json, "utf8")) as { format: number; emoji: Emoji[] };
    const pixels = new Uint8Array(readFileSync(bin));
    if (format === FORMAT && pixels.length === emoji.length * 2 * BYTES) return { emoji, pixels };
    say("The cached data set is incomplete or of another version; building it again.");
  }
  const set = build(folder, say);
  // Written to another name and renamed, so that an interrupted run leaves no file that looks complete.
  for (const [file, data] of [
    [bin, set.pixels],
    [json, JSON.stringify({ format: FORMAT, emoji: set.emoji })],
  ] as const) {
    writeFileSync(`${file}.part`, data);
    renameSync(`${file}.part`, file);
  }
  return set;
}

function build(folder: string, say: (text: string) => void): EmojiSet {
  const scratch = join(folder, "packages");
  mkdirSync(scratch, { recursive: true });
  for (const { name, version, licence } of sources) say(`  ${name}@${version}  (${licence})`);
  const names = sources.map(({ name, version }) => `${name}@${version}`);
  const npm = spawnSync(
    "npm",
    [
      "install",
      "--prefix",
      scratch,
      "--no-save",
      "--no-audit",
      "--no-fund",
      "--ignore-scripts",
      "--loglevel=error",
      ...names,
    ],
    {
      stdio: ["ignore", "ignore", "inherit"],
      shell: process.platform === "win32",
    },
  );
  if (npm.status !== 0)
    throw new Error(
      `npm could not fetch the picture packages into ${scratch} (exit ${npm.status}); is the network reachable?`,
    );
  const set = joinWords(join(scratch, "node_modules"), say);
  rmSync(scratch, { recursive: true });
  return set;
}

interface Entry {
  label: string;
  hexcode: string;
  tags?: string[];
  group?: number;
  subgroup?: number;
  tone?: number | number[];
  skins?: Entry[];
}
interface Picture {
  unified: string;
  image: string;
  skin_variations?: Record<string, Picture>;
}

const joinKey = (hex: string): string => hex.toUpperCase().replaceAll("-FE0F", "");

/** Joins pictures and names by hexcode; emoji that lack either vendor or language are left out. */
function joinWords(modules: string, say: (text: string) => void): EmojiSet {
  const read = <T>(...path: string[]): T => JSON.parse(readFileSync(join(modules, ...path), "utf8")) as T;
  const files = vendors.map((vendor) => {
    const images = new Map<string, string>();
    const folder = join(modules, `emoji-datasource-${vendor}`, "img", vendor, "64");
    const add = (p: Picture): void => {
      images.set(joinKey(p.unified), join(folder, namedPath(p.image, folder, "emoji.json")));
      Object.values(p.skin_variations ?? {}).forEach(add);
    };
    read<Picture[]>(`emoji-datasource-${vendor}`, "emoji.json").forEach(add);
    return images;
  });
  const zh = new Map(read<Entry[]>("emojibase-data", "zh", "data.json").map((e) => [joinKey(e.hexcode), e]));
  const emoji: Emoji[] = [];
  const paths: [string, string][] = [];
  const addEmoji = (hexcode: string, rest: Omit<Emoji, "hex" | "colour">): void => {
    const hex = joinKey(hexcode);
    const [google, twitter] = files.map((images) => images.get(hex));
    if (!google || !twitter || !existsSync(google) || !existsSync(twitter)) return;
    emoji.push({ hex, colour: [-1, -1], ...rest });
    paths.push([google, twitter]);
  };
  for (const en of read<Entry[]>("emojibase-data", "en", "data.json")) {
    const category = categories.findIndex(({ group }) => group === en.group);
    const chinese = zh.get(joinKey(en.hexcode));
    if (category < 0 || !chinese) continue;
    const shared = {
      category,
      subgroup: en.subgroup!,
      tags: [en.tags ?? [], chinese.tags ?? []] as [string[], string[]],
      family: family(en.label, en.subgroup!),
    };
    addEmoji(en.hexcode, { ...shared, tone: 0, label: [en.label, chinese.label] });
    for (const skin of en.skins ?? []) {
      if (typeof skin.tone !== "number") continue; // two people of two tones
      const [tone, ton] = tones[skin.tone];
      addEmoji(skin.hexcode, {
        ...shared,
        tone: skin.tone,
        label: [`${en.label}: ${tone} skin tone`, `${chinese.label}：${ton}肤色`],
      });
    }
  }
  say(
    `  ${emoji.length} emoji drawn by both vendors, ${emoji.filter((e) => e.tone === 0).length} of them without skin tone; decoding ${emoji.length * 2} pictures`,
  );
  const pixels = new Uint8Array(emoji.length * 2 * BYTES);
  paths.forEach((pair, i) =>
    pair.forEach((path, v) => {
      const rgba = pixels.subarray((i * 2 + v) * BYTES, (i * 2 + v + 1) * BYTES);
      const png = PNG.sync.read(readFileSync(path));
      if (png.width !== SIDE || png.height !== SIDE)
        throw new Error(`${path}: expected ${SIDE} x ${SIDE} pixels, got ${png.width} x ${png.height}`);
      if (emoji[i].tone === 0) emoji[i].colour[v] = mainColour(png.data);
      for (let p = 0; p < BYTES; p += 4) {
        const alpha = png.data[p + 3];
        for (let c = 0; c < 3; c++) rgba[p + c] = Math.round((png.data[p + c] * alpha) / 255);
        rgba[p + 3] = alpha;
      }
    }),
  );
  return { emoji, pixels };
}

/** The colour that more than 45% of the opaque pixels have, or -1. Hue, saturation and value give each pixel's vote. */
export function mainColour(rgba: Uint8Array): number {
  const votes = new Array<number>(colours.length).fill(0);
  let opaque = 0;
  for (let p = 0; p < rgba.length; p += 4) {
    if (rgba[p + 3] < 128) continue;
    opaque++;
    votes[colourOf(rgba[p], rgba[p + 1], rgba[p + 2])]++;
  }
  const best = votes.indexOf(Math.max(...votes));
  return votes[best] > 0.45 * opaque ? best : -1;
}

/** Index into `colours` of one RGB value. */
function colourOf(r: number, g: number, b: number): number {
  const max = Math.max(r, g, b);
  const span = max - Math.min(r, g, b);
  const [value, saturation] = [max / 255, max ? span / max : 0];
  if (value < 0.2) return 8;
  if (saturation < 0.15) return value > 0.85 ? 10 : value < 0.3 ? 8 : 9;
  const sector = max === r ? (g - b) / span : max === g ? 2 + (b - r) / span : 4 + (r - g) / span;
  const hue = (sector * 60 + 360) % 360;
  if (hue < 19 || hue >= 340) return value < 0.45 ? 7 : saturation < 0.45 && value > 0.7 ? 6 : 0;
  if (hue < 37) return value < 0.65 || (saturation < 0.65 && value < 0.9) ? 7 : 1;
  if (hue < 66) return value < 0.45 ? 7 : 2;
  if (hue < 165) return 3;
  if (hue < 255) return saturation < 0.25 && value < 0.75 ? 9 : 4;
  return hue < 305 ? 5 : 6;
}

const variantWords = new Set(
  (
    "man woman person men women people boy girl child left right up down leftwards rightwards left-facing right-facing facing " +
    "red orange yellow green blue purple pink brown black white grey light dark small medium large medium-small"
  ).split(" "),
);

/** An English label without sex, direction, size and colour. Clock faces, arrows and similar are one family each. */
export function family(label: string, subgroup: number): string {
  const text = label.toLowerCase();
  if (/o’clock|-thirty/.test(text)) return "clock face";
  if (subgroup === 85) return "arrow";
  if (subgroup === 94) return "keycap";
  if (subgroup === 59 && / moon/.test(text)) return "moon";
  if (subgroup === 30) return "couple or family";
  const head =
    /^(input|globe showing|japanese|flag in hole|speaker)/.exec(text)?.[0] ??
    /(mailbox|place medal|index pointing|hourglass|button|square|circle|heart|book)$/.exec(
      text.split(" with ")[0],
    )?.[0];
  if (head) return head;
  const words = text
    .split(":")[0]
    .split(/\s+/)
    .filter((word) => !variantWords.has(word));
  return words.join(" ") || text;
}
