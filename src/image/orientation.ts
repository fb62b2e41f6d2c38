/** EXIF orientation: which of eight turns and mirrorings makes a picture upright. */
import type { Image } from "./image.ts";

/** Whether an orientation exchanges width and height. */
export const swapsSides = (orientation: number): boolean => orientation >= 5;

/** The orientation of a JPEG file, 1 … 8. 1, which is upright, if it has none or its EXIF data is damaged. */
export function jpegOrientation(bytes: Uint8Array): number {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at++; // fill
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return 1; // pixels begin
    const length = (bytes[at + 2] << 8) | bytes[at + 3];
    const body = bytes.subarray(at + 4, at + 2 + length);
    if (marker === 0xe1 && String.fromCharCode(...body.subarray(0, 6)) === "Exif\0\0")
      return tiffOrientation(body.subarray(6));
    at += 2 + length;
  }
  return 1;
}

/** The orientation of a PNG file whose eXIf chunk comes before its pixels, else 1. */
export function pngOrientation(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "eXIf") return tiffOrientation(bytes.subarray(at + 8, at + 8 + length));
    if (type === "IDAT") return 1;
    at += 12 + length;
  }
  return 1;
}

/** The orientation tag of EXIF data, which has the form of a TIFF file. 1 if there is none, or the data is damaged. */
export function tiffOrientation(tiff: Uint8Array): number {
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  try {
    const little = view.getUint16(0) === 0x4949; // "II", else "MM"
    if (view.getUint16(2, little) !== 42) return 1;
    const directory = view.getUint32(4, little);
    const count = view.getUint16(directory, little);
    for (let i = 0; i < count; i++) {
      const entry = directory + 2 + 12 * i;
      if (view.getUint16(entry, little) !== 0x0112) continue;
      const value = view.getUint16(entry + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // beyond the end of the data
  }
  return 1;
}

/** The upright image. */
export function oriented(image: Image, orientation: number): Image {
  if (orientation === 1) return image;
  const { width: w, height: h, channels, data } = image;
  const [width, height] = swapsSides(orientation) ? [h, w] : [w, h];
  const [right, bottom] = [w - 1, h - 1];
  /** Where pixel (x, y) of the upright image is stored. */
  const from: Readonly<Record<number, (x: number, y: number) => readonly [number, number]>> = {
    2: (x, y) => [right - x, y],
    3: (x, y) => [right - x, bottom - y],
    4: (x, y) => [x, bottom - y],
    5: (x, y) => [y, x],
    6: (x, y) => [y, bottom - x],
    7: (x, y) => [right - y, bottom - x],
    8: (x, y) => [right - y, x],
  };
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [sx, sy] = from[orientation](x, y);
      for (let c = 0; c < channels; c++) out[(y * width + x) * channels + c] = data[(sy * w + sx) * channels + c];
    }
  }
  return { width, height, channels, data: out };
}
