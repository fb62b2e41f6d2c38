/** Images: decoding, resizing, preprocessing and the tiles of LLaVA-NeXT. */
export { anyresRows, anyresTiles, bestResolution, type Size, type TileLayout, tileGrid } from "./anyres.ts";
export { decodeImage, imageSize } from "./decode.ts";
export * from "./image.ts";
export * from "./processing.ts";
export * from "./resize.ts";
