/** Images: decoding, resizing, preprocessing and the tiles of LLaVA-NeXT. */
export { anyresRows, anyresTiles, bestResolution, type Size, type TileLayout, tileGrid } from "./anyres.ts";
export { type DecodeOptions, decodeImage, imageSize } from "./decode.ts";
export * from "./image.ts";
export * from "./processing.ts";
export * from "./resize.ts";
