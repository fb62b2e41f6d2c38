/** PNG (ISO/IEC 15948) to pixels: all colour types and depths, interlaced or not. Of 16-bit samples the high byte is kept. */
import { crc32 } from "../io/crc32.ts";
import type { Image } from "./image.ts";
import { tiffOrientation } from "./orientation.ts";

interface Header {
  width: number;
  height: number;
  depth: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA. */
  colour: number;
  interlaced: boolean;
}

const samplesOf: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
/** Adam7: first column and row of each pass, and distances. */
const passes = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

/** Decodes a PNG file. Grey has 1 channel, RGB 3; with alpha or a transparent colour both become RGBA. */
export async function decodePng(file: Uint8Array): Promise<{ image: Image; orientation: number }> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let header: Header | undefined;
  let palette: Uint8Array | undefined;
  let alphas = new Uint8Array(0);
  let orientation = 1;
  const data: Uint8Array[] = [];
  for (let at = 8; ; ) {
    if (at === file.length && data.length > 0) break; // no IEND: the pixels are there
    if (at + 12 > file.length) throw new Error("png: the file is truncated");
    const length = view.getUint32(at);
    const type = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (at + 12 + length > file.length) throw new Error(`png: the file is truncated within its ${type} chunk`);
    if (crc32(file.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) {
      throw new Error(`png: the data is damaged: wrong checksum of the ${type} chunk`);
    }
    const body = file.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") header = readHeader(view, at + 8);
    else if (type === "PLTE") palette = body;
    else if (type === "tRNS") alphas = body.slice();
    else if (type === "IDAT") data.push(body);
    else if (type === "eXIf") orientation = tiffOrientation(body);
    else if (type === "IEND") break;
    at += 12 + length;
  }
  if (!header) throw new Error("png: the data is damaged: no header");
  if (header.colour === 3 && !palette) throw new Error("png: the data is damaged: no palette");
  const bytes = await inflate(data);
  const transparent = header.colour === 0 || header.colour === 2 ? transparentColour(alphas, header) : undefined;
  const plain = unpack(header, bytes, transparent);
  const image = palette && header.colour === 3 ? colours(plain, palette, alphas) : withAlpha(plain);
  return { image, orientation };
}

/** Samples of the one colour that is transparent (tRNS of grey and RGB), in the depth of the file. */
function transparentColour(chunk: Uint8Array, { colour, depth }: Header): readonly number[] | undefined {
  const count = samplesOf[colour];
  if (chunk.length === 0) return undefined;
  if (chunk.length < 2 * count) throw new Error("png: the data is damaged: a tRNS chunk that is too short");
  return Array.from({ length: count }, (_, i) => ((chunk[2 * i] << 8) | chunk[2 * i + 1]) & (2 ** depth - 1));
}

function readHeader(view: DataView, at: number): Header {
  const [width, height, depth, colour] = [
    view.getUint32(at),
    view.getUint32(at + 4),
    view.getUint8(at + 8),
    view.getUint8(at + 9),
  ];
  if (!width || !height || !samplesOf[colour] || ![1, 2, 4, 8, 16].includes(depth)) {
    throw new Error(`png: the data is damaged: ${width} x ${height} pixels of colour type ${colour}, ${depth} bits`);
  }
  return { width, height, depth, colour, interlaced: view.getUint8(at + 12) === 1 };
}

async function inflate(parts: readonly Uint8Array[]): Promise<Uint8Array> {
  const stream = new Blob(parts as Uint8Array<ArrayBuffer>[]).stream().pipeThrough(new DecompressionStream("deflate"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (cause) {
    throw new Error("png: the compressed data is damaged or truncated", { cause });
  }
}

/**
 * Reverses row filters and interlacing. Samples of fewer than 8 bits become bytes, grey scaled to 255. With a transparent
 * colour the image gets one more channel: 0 where a pixel has that colour, else 255.
 */
function unpack(header: Header, bytes: Uint8Array, transparent?: readonly number[]): Image {
  const { width, height, depth, colour, interlaced } = header;
  const channels = samplesOf[colour];
  const wide = channels + (transparent ? 1 : 0);
  const out = new Uint8Array(width * height * wide);
  const scale = colour === 3 || depth >= 8 ? 1 : 255 / (2 ** depth - 1);
  const pixelBytes = Math.max(1, (channels * depth) >> 3);
  let at = 0;
  for (const [x0, y0, dx, dy] of interlaced ? passes : ([[0, 0, 1, 1]] as const)) {
    const columns = Math.max(0, Math.ceil((width - x0) / dx));
    const rows = columns ? Math.max(0, Math.ceil((height - y0) / dy)) : 0;
    const rowBytes = Math.ceil((columns * channels * depth) / 8);
    if (at + rows * (rowBytes + 1) > bytes.length) throw new Error("png: the data is damaged: too few pixels");
    let above: Uint8Array = new Uint8Array(rowBytes);
    for (let y = 0; y < rows; y++, at += rowBytes + 1) {
      const row = bytes.subarray(at + 1, at + 1 + rowBytes);
      unfilter(bytes[at], row, above, pixelBytes);
      above = row;
      for (let i = 0; i < columns * channels; i++) {
        const bit = i * depth;
        const value = depth >= 8 ? row[bit >> 3] : (row[bit >> 3] >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
        const pixel = (y0 + y * dy) * width + x0 + Math.floor(i / channels) * dx;
        const channel = i % channels;
        out[pixel * wide + channel] = value * scale;
        if (!transparent) continue;
        const sample = depth === 16 ? (value << 8) | row[(bit >> 3) + 1] : value;
        if (sample !== transparent[channel]) out[pixel * wide + channels] = 255;
      }
    }
  }
  return { width, height, channels: wide, data: out };
}

/** Reverses the filters: adds the prediction from the bytes to the left, above and above left. */
function unfilter(filter: number, row: Uint8Array, above: Uint8Array, step: number): void {
  if (filter > 4) throw new Error(`png: the data is damaged: unknown filter ${filter}`);
  for (let i = 0; i < row.length && filter; i++) {
    const [a, b, c] = [i < step ? 0 : row[i - step], above[i], i < step ? 0 : above[i - step]];
    row[i] += filter === 1 ? a : filter === 2 ? b : filter === 3 ? (a + b) >> 1 : paeth(a, b, c);
  }
}

function paeth(a: number, b: number, c: number): number {
  const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

function colours({ width, height, data }: Image, palette: Uint8Array, alphas: Uint8Array): Image {
  const channels = alphas.length ? 4 : 3;
  const out = new Uint8Array(width * height * channels);
  data.forEach((index, i) => {
    if (3 * index >= palette.length) throw new Error(`png: the data is damaged: colour ${index} is not in the palette`);
    out.set(palette.subarray(3 * index, 3 * index + 3), i * channels);
    if (channels === 4) out[4 * i + 3] = alphas[index] ?? 255;
  });
  return { width, height, channels, data: out };
}

/** Grey with alpha as RGBA; others as is. */
function withAlpha(image: Image): Image {
  if (image.channels !== 2) return image;
  const { width, height, data } = image;
  const out = Uint8Array.from({ length: width * height * 4 }, (_, i) => data[2 * (i >> 2) + (i % 4 === 3 ? 1 : 0)]);
  return { width, height, channels: 4, data: out };
}
