/** Coefficients of a JPEG file to pixels, in the integer arithmetic of libjpeg (jidctint, jdsample, jdcolor). */
import type { Image } from "./image.ts";
import type { Component, Frame } from "./jpeg.ts";

/** Samples of one component, `stride` per row. The image has `width` x `height` of them. */
interface Plane {
  data: Uint8Array;
  stride: number;
  width: number;
  height: number;
}

const clamp = (x: number): number => (x < 0 ? 0 : x > 255 ? 255 : x);

// Constants of the Loeffler-Ligtenberg-Moschytz inverse DCT, in 13-bit fixed point.
const [F_0_298, F_0_390, F_0_541, F_0_765, F_0_899, F_1_175] = [2446, 3196, 4433, 6270, 7373, 9633];
const [F_1_501, F_1_847, F_1_961, F_2_053, F_2_562, F_3_072] = [12299, 15137, 16069, 16819, 20995, 25172];

/** One 8-point inverse DCT over x[at], x[at + step], …. Results lose `shift` bits, with rounding. */
function idct8(x: Int32Array, at: number, step: number, shift: number): void {
  const [x0, x1, x2, x3] = [x[at], x[at + step], x[at + 2 * step], x[at + 3 * step]];
  const [x4, x5, x6, x7] = [x[at + 4 * step], x[at + 5 * step], x[at + 6 * step], x[at + 7 * step]];
  const z = (x2 + x6) * F_0_541;
  const [e2, e3] = [z - x6 * F_1_847, z + x2 * F_0_765];
  const [e0, e1] = [(x0 + x4) * 8192, (x0 - x4) * 8192];
  const even = [e0 + e3, e1 + e2, e1 - e2, e0 - e3];
  const z5 = (x7 + x3 + x5 + x1) * F_1_175;
  const [z1, z2] = [(x7 + x1) * -F_0_899, (x5 + x3) * -F_2_562];
  const [z3, z4] = [(x7 + x3) * -F_1_961 + z5, (x5 + x1) * -F_0_390 + z5];
  const odd = [x1 * F_1_501 + z1 + z4, x3 * F_3_072 + z2 + z3, x5 * F_2_053 + z2 + z4, x7 * F_0_298 + z1 + z3];
  const half = 1 << (shift - 1);
  for (let i = 0; i < 4; i++) {
    x[at + i * step] = (even[i] + odd[i] + half) >> shift;
    x[at + (7 - i) * step] = (even[i] - odd[i] + half) >> shift;
  }
}

function samples({ coefficients, blocksWide, blocksHigh, width, height }: Component, q: Uint16Array): Plane {
  const stride = 8 * blocksWide;
  const data = new Uint8Array(stride * 8 * blocksHigh);
  const x = new Int32Array(64);
  for (let b = 0; b < blocksWide * blocksHigh; b++) {
    for (let i = 0; i < 64; i++) x[i] = coefficients[64 * b + i] * q[i];
    for (let i = 0; i < 8; i++) idct8(x, i, 8, 11); // two bits of precision kept
    for (let i = 0; i < 8; i++) idct8(x, 8 * i, 1, 18);
    const corner = 8 * Math.floor(b / blocksWide) * stride + 8 * (b % blocksWide);
    for (let i = 0; i < 64; i++) data[corner + (i >> 3) * stride + (i & 7)] = clamp(x[i] + 128);
  }
  return { data, stride, width, height };
}

/** Upsamples chroma to the size of the image: by triangle filters for halved dims, libjpeg's default; else by repetition. */
function upsample(p: Plane, h: number, v: number, width: number, height: number): Plane {
  if (h === 1 && v === 1) return p;
  const stride = p.width * h;
  const out: Plane = { data: new Uint8Array(stride * p.height * v), stride, width, height };
  const smooth = (h === 2 && p.width > 2 && v <= 2) || (h === 1 && v === 2);
  for (let y = 0; y < p.height * v; y++) {
    const row = Math.floor(y / v);
    if (!smooth) {
      for (let x = 0; x < stride; x++) out.data[y * stride + x] = p.data[row * p.stride + Math.floor(x / h)];
      continue;
    }
    // The nearer row has weight 3. Rows outside of the image repeat its edge.
    const other = v === 1 ? row : Math.min(Math.max(y % 2 ? row + 1 : row - 1, 0), p.height - 1);
    const sum = (x: number): number =>
      v === 1 ? p.data[row * p.stride + x] : 3 * p.data[row * p.stride + x] + p.data[other * p.stride + x];
    if (h === 1) {
      for (let x = 0; x < stride; x++) out.data[y * stride + x] = (sum(x) + (y % 2 ? 2 : 1)) >> 2;
      continue;
    }
    const [shift, left, right] = v === 1 ? [2, 1, 2] : [4, 8, 7]; // rounding differs by side, so that errors cancel on average
    for (let x = 0; x < p.width; x++) {
      const own = 3 * sum(x);
      out.data[y * stride + 2 * x] = x ? (own + sum(x - 1) + left) >> shift : edge(sum(x), v, 8);
      out.data[y * stride + 2 * x + 1] = x < p.width - 1 ? (own + sum(x + 1) + right) >> shift : edge(sum(x), v, 7);
    }
  }
  return out;
}

/** The outermost sample has only one neighbour. */
const edge = (sum: number, v: number, round: number): number => (v === 1 ? sum : (4 * sum + round) >> 4);

export function toPixels(frame: Frame, quantization: readonly Uint16Array[], adobe: number | undefined): Image {
  const { width, height, h, v, components } = frame;
  const planes = components.map((c) => {
    const q = quantization[c.quantization];
    if (!q) throw new Error("jpeg: the data is damaged: no quantisation table");
    return upsample(samples(c, q), h / c.h, v / c.v, width, height);
  });
  const count = components.length;
  const channels = count === 1 ? 1 : 3;
  const data = new Uint8Array(width * height * channels);
  const named = components.map(({ id }) => String.fromCharCode(id)).join("") === "RGB";
  const ycc = adobe === undefined ? count === 3 && !named : adobe !== 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * channels;
      const [a, b, c, k] = planes.map((p) => p.data[y * p.stride + x]);
      if (count === 1) {
        data[at] = a;
        continue;
      }
      if (ycc) {
        // 16-bit fixed point of 1.402, 0.344136, 0.714136 and 1.772.
        data[at] = clamp(a + ((91881 * (c - 128) + 32768) >> 16));
        data[at + 1] = clamp(a + ((-22554 * (b - 128) - 46802 * (c - 128) + 32768) >> 16));
        data[at + 2] = clamp(a + ((116130 * (b - 128) + 32768) >> 16));
      } else data.set([a, b, c], at);
      if (count < 4) continue;
      // Adobe stores CMYK inverted: each value is the light that the ink lets through.
      for (let i = 0; i < 3; i++) data[at + i] = k - multiply(ycc ? data[at + i] : 255 - data[at + i], k);
    }
  }
  return { width, height, channels, data };
}

/** a b / 255, rounded as Pillow does. */
function multiply(a: number, b: number): number {
  const t = a * b + 128;
  return ((t >> 8) + t) >> 8;
}
