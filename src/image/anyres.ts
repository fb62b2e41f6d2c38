/**
 * LLaVA-NeXT's images of any resolution: the whole image at the size of one tile, then its tiles at the resolution of
 * `image_grid_pinpoints` that fits best. Sizes are [height, width]. The arithmetic is that of Hugging Face.
 */
import { crop, type Image, paste, toRGB } from "./image.ts";
import { type Filter, resize } from "./resize.ts";

export type Size = readonly [height: number, width: number];

/** The resolution that keeps most of the image's pixels; of several such, the one with the least padding. */
export function bestResolution([height, width]: Size, pinpoints: readonly Size[]): Size {
  let best: { size: Size; kept: number; wasted: number } | undefined;
  for (const size of pinpoints) {
    const scale = Math.min(size[1] / width, size[0] / height);
    const kept = Math.min(Math.trunc(width * scale) * Math.trunc(height * scale), width * height);
    const wasted = size[0] * size[1] - kept;
    if (!best || kept > best.kept || (kept === best.kept && wasted < best.wasted)) best = { size, kept, wasted };
  }
  if (!best) throw new Error("anyres: image_grid_pinpoints is empty");
  return best.size;
}

/** Numbers of rows and columns of tiles for an image. */
export function tileGrid(image: Size, pinpoints: readonly Size[], tile: number): Size {
  const [height, width] = bestResolution(image, pinpoints);
  if (height % tile || width % tile)
    throw new Error(`anyres: tiles of ${tile} pixels do not divide the resolution ${height} x ${width}`);
  return [height / tile, width / tile];
}

/** The whole image at `tile` x `tile` pixels, then its tiles row by row, of the image scaled to fit and centred on black. */
export function anyresTiles(image: Image, pinpoints: readonly Size[], tile: number, filter?: Filter): Image[] {
  const rgb = toRGB(image);
  const size = [rgb.height, rgb.width] as const;
  const [rows, columns] = tileGrid(size, pinpoints, tile);
  const [height, width] = [rows * tile, columns * tile];
  const [byWidth, byHeight] = [width / rgb.width, height / rgb.height];
  const [w, h] =
    byWidth < byHeight
      ? [width, Math.min(Math.ceil(rgb.height * byWidth), height)]
      : [Math.min(Math.ceil(rgb.width * byHeight), width), height];
  const fitted = resize(rgb, w, h, filter);
  const padded = paste(fitted, width, height, Math.floor((width - w) / 2), Math.floor((height - h) / 2), []);
  const tiles = Array.from({ length: rows * columns }, (_, i) =>
    crop(padded, (i % columns) * tile, Math.floor(i / columns) * tile, tile, tile),
  );
  return [resize(rgb, tile, tile, filter), ...tiles];
}

export interface TileLayout {
  pinpoints: readonly Size[];
  /** Pixels and tokens along a side of a tile. */
  tile: number;
  side: number;
  /** "spatial_unpad" drops tokens of padding and ends each row with the newline; "spatial" and "flat" do neither. */
  merge: "flat" | "spatial" | "spatial_unpad";
}

/**
 * Order of the tokens of one image: row indices into the tokens of its tiles, [tiles * side², D], the whole image first. -1 is
 * the newline.
 */
export function anyresRows(image: Size, { pinpoints, tile, side, merge }: TileLayout): number[] {
  const per = side * side;
  const [gridRows, gridColumns] = tileGrid(image, pinpoints, tile);
  const whole = Array.from({ length: per }, (_, i) => i);
  if (merge === "flat") return Array.from({ length: per * (1 + gridRows * gridColumns) }, (_, i) => i);
  const [rows, columns] = [gridRows * side, gridColumns * side];
  const [top, left] = merge === "spatial_unpad" ? padding(image, [rows, columns]) : [0, 0];
  const tokens: number[] = [];
  for (let y = top; y < rows - top; y++) {
    for (let x = left; x < columns - left; x++) {
      const at = 1 + Math.floor(y / side) * gridColumns + Math.floor(x / side);
      tokens.push(at * per + (y % side) * side + (x % side));
    }
    if (merge === "spatial_unpad") tokens.push(-1);
  }
  return [...whole, ...tokens];
}

/** Rows of padding above the image and columns left of it, on the grid of tiles. */
function padding([height, width]: Size, [rows, columns]: Size): Size {
  const whole = (x: number): number => Math.trunc(Math.round(x * 1e7) / 1e7); // 23.99999999 is 24
  return width / height > columns / rows
    ? [Math.floor((rows - whole((height * columns) / width)) / 2), 0]
    : [0, Math.floor((columns - whole((width * rows) / height)) / 2)];
}
