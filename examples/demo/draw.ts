/** Draws pictures for the model: 32 x 32 tiles on a coloured ground, and 2 x 2 composites as four tiles. */
import { type EmojiSet, SIDE } from "./emoji.ts";
import type { Random } from "./random.ts";
import type { Picture } from "./splits.ts";

/** Pixels along a side of a tile. */
export const TILE = 32;
/** Floats of one tile, [3, TILE, TILE]. */
export const TILE_FLOATS = 3 * TILE * TILE;
export type RGB = readonly [number, number, number];

/** Placement and colour of one drawing. `still` draws the picture as is. */
export interface Pose {
  scale: number;
  /** Shift in tile widths. */
  x: number;
  y: number;
  /** Radians. */
  angle: number;
  mirror: boolean;
  gain: RGB;
}
export const still: Pose = { scale: 1, x: 0, y: 0, angle: 0, mirror: false, gain: [1, 1, 1] };
/** A picture in a cell of a composite stands a little smaller. */
export const stillCell: Pose = { ...still, scale: 0.88 };

/** Categories that may be mirrored: hands, food, travel, …; not objects and symbols, which may have text. */
const mirrorable = new Set([0, 1, 2, 3]);

export function randomPose(random: Random, category: number, cell: boolean): Pose {
  return {
    scale: cell ? random.range(0.75, 1) : random.range(0.85, 1.15),
    x: random.range(-0.06, 0.06),
    y: random.range(-0.06, 0.06),
    angle: random.range(-0.15, 0.15),
    mirror: mirrorable.has(category) && random.next() < 0.5,
    gain: [random.range(0.85, 1.1), random.range(0.85, 1.1), random.range(0.85, 1.1)],
  };
}

/** Colour of the ground: tests use it as is, training varies it. */
export function waver(rgb: RGB, random: Random): RGB {
  const by = random.range(-10, 10);
  return [rgb[0] + by, rgb[1] + by, rgb[2] + by];
}

/** The model reads pixels as (v / 255 - MEAN) / STD. */
export const MEAN = 0.5;
export const STD = 0.25;
const toInput = (value: number): number => (Math.min(255, Math.max(0, value)) / 255 - MEAN) / STD;
export const fromInput = (value: number): number => Math.round((value * STD + MEAN) * 255);

/** Fills a tile with the ground alone. */
export function drawGround(out: Float32Array, offset: number, ground: RGB): void {
  const plane = TILE * TILE;
  for (let c = 0; c < 3; c++) out.fill(toInput(ground[c]), offset + c * plane, offset + (c + 1) * plane);
}

/** Draws one picture over `ground` into `out` at `offset`, as [3, 32, 32] for the model. Bilinear, with premultiplied alpha. */
export function drawPicture(
  out: Float32Array,
  offset: number,
  set: EmojiSet,
  picture: Picture,
  ground: RGB,
  pose: Pose,
): void {
  const { pixels } = set;
  const base = (picture.emoji * 2 + picture.vendor) * SIDE * SIDE * 4;
  const plane = TILE * TILE;
  const ratio = SIDE / TILE / pose.scale;
  const cos = Math.cos(pose.angle) * ratio;
  const sin = Math.sin(pose.angle) * ratio;
  const flip = pose.mirror ? -1 : 1;
  const [gr, gg, gb] = pose.gain;
  for (let y = 0; y < TILE; y++) {
    const dy = y + 0.5 - TILE / 2 - pose.y * TILE;
    for (let x = 0; x < TILE; x++) {
      const dx = x + 0.5 - TILE / 2 - pose.x * TILE;
      const u = SIDE / 2 - 0.5 + flip * (cos * dx + sin * dy);
      const v = SIDE / 2 - 0.5 - sin * dx + cos * dy;
      const u0 = Math.floor(u);
      const v0 = Math.floor(v);
      let r = 0;
      let g = 0;
      let b = 0;
      let a = 0;
      for (let j = 0; j < 2; j++) {
        const row = v0 + j;
        if (row < 0 || row >= SIDE) continue;
        const wy = j ? v - v0 : 1 - (v - v0);
        for (let i = 0; i < 2; i++) {
          const column = u0 + i;
          if (column < 0 || column >= SIDE) continue;
          const w = wy * (i ? u - u0 : 1 - (u - u0));
          const p = base + (row * SIDE + column) * 4;
          r += w * pixels[p];
          g += w * pixels[p + 1];
          b += w * pixels[p + 2];
          a += w * pixels[p + 3];
        }
      }
      const rest = 1 - a / 255;
      const at = offset + y * TILE + x;
      out[at] = toInput(r * gr + ground[0] * rest);
      out[at + plane] = toInput(g * gg + ground[1] * rest);
      out[at + 2 * plane] = toInput(b * gb + ground[2] * rest);
    }
  }
}
