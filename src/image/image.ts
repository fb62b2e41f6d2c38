/** Rows of pixels, `channels` bytes per pixel (1 = grey, 3 = RGB, 4 = RGBA). `decodeImage` reads one from a file. */
export interface Image {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array | Uint8ClampedArray;
}

/** @throws if sizes are not positive integers, or `data` does not have width * height * channels bytes. */
export function checkImage(image: Image): void {
  const { width, height, channels, data } = image;
  if (![width, height, channels].every((n) => Number.isInteger(n) && n > 0))
    throw new Error(`image: bad size ${width} x ${height} x ${channels}`);
  if (data.length !== width * height * channels) {
    throw new Error(
      `image: ${width} x ${height} x ${channels} needs ${width * height * channels} bytes, got ${data.length}`,
    );
  }
}

/** The image as RGB: grey is repeated, alpha dropped, as Pillow's convert("RGB") does. */
export function toRGB(image: Image): Image {
  checkImage(image);
  const { width, height, channels, data } = image;
  if (channels === 3) return image;
  const out = new Uint8Array(width * height * 3);
  const step = channels < 3 ? 0 : 1;
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) out[i * 3 + c] = data[i * channels + c * step];
  return { width, height, channels: 3, data: out };
}

/** Copies `image` onto a canvas of one colour, its top left corner at (x, y). Pixels outside of the canvas are dropped. */
export function paste(
  image: Image,
  width: number,
  height: number,
  x: number,
  y: number,
  colour: readonly number[],
): Image {
  const { channels } = image;
  const out = new Uint8Array(width * height * channels);
  for (let i = 0; i < out.length; i++) out[i] = colour[i % channels] ?? 0;
  for (let row = Math.max(0, y); row < Math.min(height, y + image.height); row++) {
    const from = Math.max(0, -x);
    const to = Math.min(image.width, width - x);
    if (to <= from) continue;
    const source = (row - y) * image.width;
    out.set(
      image.data.subarray((source + from) * channels, (source + to) * channels),
      (row * width + x + from) * channels,
    );
  }
  return { width, height, channels, data: out };
}

/** The rectangle of `width` x `height` with top left corner (x, y); zeros outside of the image. */
export const crop = (image: Image, x: number, y: number, width: number, height: number): Image =>
  paste(image, width, height, -x, -y, []);

/** The image as RGB, blended over `colour` by its alpha. */
export function flatten(image: Image, colour: readonly number[] = [255, 255, 255]): Image {
  checkImage(image);
  const { width, height, data } = image;
  if (image.channels !== 4) return toRGB(image);
  const out = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const alpha = data[i * 4 + 3] / 255;
    for (let c = 0; c < 3; c++) out[i * 3 + c] = Math.round(data[i * 4 + c] * alpha + colour[c] * (1 - alpha));
  }
  return { width, height, channels: 3, data: out };
}

/** The central `width` x `height`. A smaller image is padded with zeros. */
export function centerCrop(image: Image, width: number, height: number): Image {
  const inside = width <= image.width && height <= image.height;
  // Odd differences: cropping rounds the offset down; padding puts the extra pixel first.
  const offset = (size: number, crop: number): number =>
    inside || size >= crop ? -Math.floor((size - crop) / 2) : Math.ceil((crop - size) / 2);
  return paste(image, width, height, offset(image.width, width), offset(image.height, height), []);
}

/** Centres the image on a square of `colour` (in LLaVA the mean colour). */
export function padToSquare(image: Image, colour: readonly number[] = [122, 116, 104]): Image {
  const size = Math.max(image.width, image.height);
  return paste(image, size, size, Math.floor((size - image.width) / 2), Math.floor((size - image.height) / 2), colour);
}
