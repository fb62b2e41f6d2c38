import { checkImage, type Image } from "./image.ts";

export type Filter = "nearest" | "box" | "bilinear" | "hamming" | "bicubic" | "lanczos";

/**
 * Resizes as Pillow does, bit for bit: horizontal pass, rounding to bytes, vertical pass. The filter is as wide as the reduction
 * (antialiasing), and weights are 22-bit fixed point.
 */
export function resize(image: Image, width: number, height: number, filter: Filter = "bicubic"): Image {
  checkImage(image);
  if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0))
    throw new Error(`resize: bad size ${width} x ${height}`);
  if (filter === "nearest") return nearest(image, width, height);
  if (!kernels[filter])
    throw new Error(`resize: no filter "${filter}"; there are nearest, ${Object.keys(kernels).join(", ")}`);
  const { channels } = image;
  let { data } = image;
  if (width !== image.width)
    data = pass(
      data,
      image.height,
      image.width,
      width,
      channels,
      image.width * channels,
      width * channels,
      channels,
      channels,
      filter,
    );
  if (height !== image.height)
    data = pass(
      data,
      width,
      image.height,
      height,
      channels,
      channels,
      channels,
      width * channels,
      width * channels,
      filter,
    );
  return { width, height, channels, data };
}

/** Resizes so that the shorter edge is `size`, keeping the aspect ratio (the longer edge is rounded down). */
export function resizeShortestEdge(image: Image, size: number, filter: Filter = "bicubic"): Image {
  const { width, height } = image;
  const long = Math.trunc((size * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? resize(image, size, long, filter) : resize(image, long, size, filter);
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const kernels: Record<Exclude<Filter, "nearest">, { support: number; at(x: number): number }> = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, at: (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0) },
  bicubic: {
    support: 2, // Keys' kernel with a = -0.5
    at: (x) => {
      const t = Math.abs(x);
      if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
      return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
    },
  },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

const PRECISION = 22;

/** Resamples `lines` lines from `from` to `to` samples; strides are bytes between lines and between samples. */
function pass(
  data: Uint8Array | Uint8ClampedArray,
  lines: number,
  from: number,
  to: number,
  channels: number,
  lineIn: number,
  lineOut: number,
  stepIn: number,
  stepOut: number,
  filter: Exclude<Filter, "nearest">,
): Uint8Array {
  const { support: radius, at } = kernels[filter];
  const scale = from / to;
  const widen = Math.max(scale, 1);
  const support = radius * widen;
  const out = new Uint8Array(lines * to * channels);
  for (let x = 0; x < to; x++) {
    const centre = (x + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = Array.from({ length: end - start }, (_, i) => at((i + start - centre + 0.5) / widen));
    const total = weights.reduce((a, b) => a + b, 0);
    const fixed = weights.map((w) => {
      const v = (w / total) * (1 << PRECISION);
      return Math.trunc(v < 0 ? v - 0.5 : v + 0.5);
    });
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (PRECISION - 1);
        for (let i = 0, p = line * lineIn + start * stepIn + c; i < fixed.length; i++, p += stepIn)
          sum += data[p] * fixed[i];
        out[line * lineOut + x * stepOut + c] = Math.min(255, Math.max(0, sum >> PRECISION));
      }
    }
  }
  return out;
}

function nearest(image: Image, width: number, height: number): Image {
  const { channels, data } = image;
  const out = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    const row = Math.trunc((y + 0.5) * (image.height / height)) * image.width;
    for (let x = 0; x < width; x++) {
      const from = (row + Math.trunc((x + 0.5) * (image.width / width))) * channels;
      for (let c = 0; c < channels; c++) out[(y * width + x) * channels + c] = data[from + c];
    }
  }
  return { width, height, channels, data: out };
}
