import type { Image } from "./image.ts";
import { decodeJpeg } from "./jpeg.ts";
import { jpegOrientation, oriented, pngOrientation, swapsSides } from "./orientation.ts";
import { decodePng } from "./png.ts";

export interface DecodeOptions {
  /** Turns the image upright as its EXIF data says. Default true; `false` leaves the pixels as they are stored. */
  orientation?: boolean;
}

/**
 * Decodes an image file, upright by its EXIF orientation. PNG and JPEG give the same bytes on every platform, equal to Pillow's. Other formats (WebP, GIF, AVIF)
 * need `createImageBitmap`, which browsers have.
 * ```ts
 * const image = await decodeImage(await readFile("photo.jpg"));
 * ```
 * @throws if the bytes are no image, truncated or damaged
 */
export async function decodeImage(
  source: Uint8Array | ArrayBuffer | Blob,
  { orientation: upright = true, ...rest }: DecodeOptions = {},
): Promise<Image> {
  for (const name of Object.keys(rest))
    throw new TypeError(`decodeImage: unknown option ${name}; options: orientation`);
  const bytes = new Uint8Array(source instanceof Blob ? await source.arrayBuffer() : source);
  if (bytes.length === 0) throw new Error("decodeImage: the file is empty");
  const begins = (...magic: number[]): boolean => magic.every((byte, i) => bytes[i] === byte);
  if (begins(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) {
    const { image, orientation } = await guarded("png", () => decodePng(bytes));
    return upright ? oriented(image, orientation) : image;
  }
  if (begins(0xff, 0xd8)) {
    const image = await guarded("jpeg", () => decodeJpeg(bytes));
    return upright ? oriented(image, jpegOrientation(bytes)) : image;
  }
  if (typeof createImageBitmap === "function" && typeof OffscreenCanvas === "function")
    return byPlatform(bytes, upright);
  const start = Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  throw new Error(`decodeImage: neither PNG nor JPEG: the file begins with ${start}`);
}

/**
 * Width and height of the upright image from the first bytes of a PNG or JPEG file; undefined if they do not have them. The
 * orientation of a PNG counts only if it comes before its pixels.
 */
export function imageSize(bytes: Uint8Array): { width: number; height: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 24 && view.getUint32(0) === 0x89504e47)
    return upright(view.getUint32(16), view.getUint32(20), pngOrientation(bytes));
  if (bytes.length < 2 || view.getUint16(0) !== 0xffd8) return undefined;
  for (let at = 2; at + 9 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker); // else tables
    if (isFrame) return upright(view.getUint16(at + 7), view.getUint16(at + 5), jpegOrientation(bytes));
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2); // 0xff fills
  }
  return undefined;
}

const upright = (width: number, height: number, orientation: number): { width: number; height: number } =>
  swapsSides(orientation) ? { width: height, height: width } : { width, height };

/** Reports a RangeError while decoding as damaged data: sizes or offsets in the file were out of bounds. */
async function guarded<T>(format: string, decode: () => T | Promise<T>): Promise<T> {
  try {
    return await decode();
  } catch (cause) {
    throw cause instanceof RangeError ? new Error(`${format}: the data is damaged`, { cause }) : cause;
  }
}

async function byPlatform(bytes: Uint8Array, upright: boolean): Promise<Image> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes as BlobPart]), {
      imageOrientation: upright ? "from-image" : "none",
    });
  } catch (cause) {
    throw new Error("decodeImage: this platform cannot decode the image; PNG and JPEG decode everywhere", { cause });
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d")!;
  context.drawImage(bitmap, 0, 0);
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data };
}
