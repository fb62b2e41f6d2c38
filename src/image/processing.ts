import { centerCrop, type Image, padToSquare, toRGB } from "./image.ts";
import { type Filter, resize, resizeShortestEdge } from "./resize.ts";

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
