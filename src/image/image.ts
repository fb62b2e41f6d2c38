/** Rows of pixels, `channels` bytes per pixel (1 = grey, 3 = RGB, 4 = RGBA). `decodeImage` reads one from a file. */
export interface Image {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array | Uint8ClampedArray;
}

export type Filter = "nearest" | "box" | "bilinear" | "hamming" | "bicubic" | "lanczos";

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

/** Resizes so that the shorter edge is `size`, keeping the aspect ratio (the longer edge is rounded down). */
export function resizeShortestEdge(image: Image, size: number, filter: Filter = "bicubic"): Image {
  const { width, height } = image;
  const long = Math.trunc((size * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? resize(image, size, long, filter) : resize(image, long, size, filter);
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

/** Bytes to `(v scale - mean) / std`, channels first: [C, H, W]. */
export function normalize(
  image: Image,
  mean: readonly number[],
  std: readonly number[],
  scale = 1 / 255,
): Float32Array {
  const { width, height, channels, data } = image;
  const plane = width * height;
  const out = new Float32Array(plane * channels);
  for (let i = 0; i < plane; i++)
    for (let c = 0; c < channels; c++) out[c * plane + i] = (data[i * channels + c] * scale - mean[c]) / std[c];
  return out;
}

/** `preprocessor_config.json` of CLIP, SigLIP, ViT and LLaVA. */
export interface PreprocessorConfig {
  /** Decides the defaults: processors of CLIP and LLaVA crop, those of SigLIP and ViT do not. Default CLIP. */
  image_processor_type?: string;
  feature_extractor_type?: string;
  size?: number | { shortest_edge?: number; height?: number; width?: number };
  crop_size?: number | { height: number; width: number };
  do_center_crop?: boolean;
  do_resize?: boolean;
  do_rescale?: boolean;
  rescale_factor?: number;
  do_normalize?: boolean;
  image_mean?: readonly number[];
  image_std?: readonly number[];
  /** Pillow's number of the resize filter: 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box, 5 hamming. */
  resample?: number;
  /** LLaVA-NeXT: resolutions for the tiles of an image. */
  image_grid_pinpoints?: readonly (readonly [height: number, width: number])[];
}

export const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073] as const;
export const CLIP_STD = [0.26862954, 0.26130258, 0.27577711] as const;
const HALF = [0.5, 0.5, 0.5] as const;
const pillowFilters: readonly Filter[] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];

/** Completes a config with the defaults of its processor class. */
export function completePreprocessor(config: PreprocessorConfig) {
  const type = config.image_processor_type ?? config.feature_extractor_type ?? "CLIPImageProcessor";
  const clip = /CLIP|Llava|MplugOwl/i.test(type);
  const vit = /ViT/.test(type);
  const { size = 224, crop_size: crop = 224, resample = vit ? 2 : 3 } = config;
  const filter = pillowFilters[resample];
  if (!filter) throw new Error(`preprocess: resample ${resample} is no filter of Pillow (0 to 5)`);
  return {
    size: typeof size === "number" && !clip ? { height: size, width: size } : size,
    crop: typeof crop === "number" ? { height: crop, width: crop } : crop,
    filter,
    crops: config.do_center_crop ?? clip,
    resizes: config.do_resize ?? true,
    scale: config.do_rescale === false ? 1 : (config.rescale_factor ?? 1 / 255),
    mean: config.do_normalize === false ? [0, 0, 0] : (config.image_mean ?? (clip ? CLIP_MEAN : HALF)),
    std: config.do_normalize === false ? [1, 1, 1] : (config.image_std ?? (clip ? CLIP_STD : HALF)),
  };
}

/**
 * Preprocesses an image as Hugging Face's image processors do: RGB, resize, centre crop, scale, normalise.
 * @param aspect "pad" pads the image to a square of the mean colour first (LLaVA-1.5), "resize" stretches it (mPLUG-Owl2)
 * @returns pixel values [3, H, W] and their size
 */
export function preprocess(
  image: Image,
  config: PreprocessorConfig = {},
  aspect?: "pad" | "resize",
): { data: Float32Array; width: number; height: number } {
  const { size, crop, filter, crops, resizes, scale, mean, std } = completePreprocessor(config);
  let rgb = toRGB(image);
  if (aspect === "pad") {
    const colour = (config.image_mean ?? CLIP_MEAN).map((m) => Math.trunc(m * 255));
    rgb = padToSquare(rgb, colour);
  }
  const longer = Math.max(rgb.width, rgb.height);
  if (aspect === "resize") rgb = resize(rgb, longer, longer, "bicubic");
  if (resizes) {
    if (typeof size === "number") rgb = resizeShortestEdge(rgb, size, filter);
    else if (size.shortest_edge) rgb = resizeShortestEdge(rgb, size.shortest_edge, filter);
    else if (size.width && size.height) rgb = resize(rgb, size.width, size.height, filter);
    else throw new Error(`preprocess: size has neither shortest_edge nor height and width: ${JSON.stringify(size)}`);
  }
  if (crops) rgb = centerCrop(rgb, crop.width, crop.height);
  return { data: normalize(rgb, mean, std, scale), width: rgb.width, height: rgb.height };
}
