/** Tokens of images in several tiles: LLaVA-NeXT's order with a newline after each row, and learned positions. */
import { anyresRows, type Size, type TileLayout, tileGrid } from "../src/image/index.ts";
import { cat, type Tensor } from "../src/index.ts";
import { constant, Module } from "../src/nn/index.ts";
import type { LlavaConfig } from "./checkpoints/llava.ts";
import type { ImageRows } from "./vlm.ts";

/** Layout of tiles with `per` tokens each; undefined if images are not cut into tiles. */
export function tileLayout(config: LlavaConfig, per: number): TileLayout | undefined {
  const { image_grid_pinpoints: pinpoints, vision_config, mm_patch_merge_type: merge = "spatial_unpad" } = config;
  return pinpoints && { pinpoints, tile: vision_config.image_size, side: Math.sqrt(per), merge };
}

/**
 * Rows of the embeddings for each image.
 * @param tokens of all tiles, [tiles, P, D']
 * @param sizes [height, width] of each image in pixels
 * @param newline [D'], absent for layouts without it
 */
export function tiledRows(
  config: LlavaConfig,
  tokens: Tensor,
  sizes: readonly Size[] | undefined,
  newline?: Tensor,
): ImageRows {
  if (!sizes) throw new Error("Llava: a model that cuts images into tiles needs imageSizes");
  const [tiles, per, d] = tokens.shape;
  const layout = tileLayout(config, per)!;
  let first = 0; // tile of the next image
  const images = sizes.map((size) => {
    const rows = anyresRows(size, layout).map((row) => (row < 0 ? tiles * per : first * per + row));
    const [high, wide] = tileGrid(size, layout.pinpoints, layout.tile);
    first += 1 + high * wide;
    return rows;
  });
  if (first !== tiles) throw new Error(`Llava: images of [${sizes.flat()}] have ${first} tiles, pixelValues ${tiles}`);
  const flat = tokens.reshape([tiles * per, d]);
  return {
    embeddings: newline ? cat([flat, newline.reshape([1, d])], 0) : flat,
    counts: images.map((rows) => rows.length),
    rows: images.flat(),
  };
}

/** Learned vectors added to the tokens of an image by position, for images of several tiles. */
export class SlotEmbedding extends Module {
  weight: Tensor; // [slots, D']

  constructor(
    readonly slots: number,
    dim: number,
  ) {
    super();
    this.weight = constant([slots, dim], 0);
  }

  /** x [N, T, D'] with T at most the number of slots. */
  forward(x: Tensor): Tensor {
    const [, t] = x.shape;
    if (t > this.slots) throw new Error(`SlotEmbedding: an image of ${t} tokens for ${this.slots} slots`);
    return x.add(this.weight.narrow(0, 0, t));
  }
}
