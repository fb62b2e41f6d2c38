/** Inspecting a model: predictions of each layer, and attention of the words of an answer to the image. */

import type { Image } from "../../src/image/index.ts";
import { arange, noGrad, rope, type Tensor, tensor, where } from "../../src/index.ts";
import { type DecoderInput, LlamaForCausalLM } from "../llama.ts";
import { inverseFrequencies } from "../rope.ts";
import type { VisionLanguageInput, VisionLanguageModel } from "../vlm.ts";

export interface LensToken {
  id: number;
  probability: number;
}

/**
 * The logit lens: the likeliest next tokens by the hidden state after each layer, through the model's last norm and output layer.
 * The result is [layers + 1][samples][top], from the embedding to the last layer.
 * @param position index in the sequence; negative counts from its end
 */
export async function logitLens(
  model: LlamaForCausalLM | VisionLanguageModel,
  input: DecoderInput | VisionLanguageInput,
  { top = 5, position = -1 } = {},
): Promise<LensToken[][][]> {
  const layers = noGrad(() => {
    const decoder = model instanceof LlamaForCausalLM ? model : model.language_model;
    const given =
      model instanceof LlamaForCausalLM ? (input as DecoderInput) : model.merge(input as VisionLanguageInput).decoder;
    const states = decoder.model.forward(given);
    return states.map((state, i) => {
      const t = state.shape[1];
      const at = position < 0 ? t + position : position;
      if (!(at >= 0 && at < t)) throw new RangeError(`logitLens: position ${position} of a sequence of ${t}`);
      const here = state.select(1, at); // [B, D]
      const normed = i === states.length - 1 ? here : decoder.model.norm.forward(here); // the last is normalised already
      return decoder.logits(normed).softmax(-1).topk(top);
    });
  });
  const read = layers.map(async ({ values, indices }) => [await values.data(), await indices.data()] as const);
  return (await Promise.all(read)).map(([values, indices]) =>
    Array.from({ length: values.length / top }, (_, s) =>
      Array.from({ length: top }, (_, k) => ({ id: indices[s * top + k], probability: values[s * top + k] })),
    ),
  );
}

/** Attention weights of each layer, [B, H, T, T], from the outputs of its query and key projections. */
export async function attentionMaps(model: LlamaForCausalLM, input: DecoderInput): Promise<Tensor[]> {
  const { config } = model;
  const {
    num_attention_heads: heads,
    num_key_value_heads: kvHeads = heads,
    hidden_size: d,
    head_dim: size = d / heads,
  } = config;
  const seen: { q?: Tensor; k?: Tensor }[] = model.model.layers.map(() => ({}));
  const hooks = model.model.layers.flatMap(({ self_attn }, i) => [
    self_attn.q_proj.registerForwardHook((_, __, output) => void (seen[i].q = output)),
    self_attn.k_proj.registerForwardHook((_, __, output) => void (seen[i].k = output)),
  ]);
  try {
    noGrad(() => model.model.forward(input));
  } finally {
    for (const hook of hooks) hook.remove();
  }
  const [b, t] = seen[0].q!.shape;
  const segments = input.segments && (await input.segments.data());
  const { window = Infinity } = model.model;
  const visible = Uint32Array.from({ length: b * t * t }, (_, n) => {
    const [s, i, j] = [Math.floor(n / (t * t)), Math.floor(n / t) % t, n % t];
    const together = !segments || segments[s * t + j] === 0 || segments[s * t + j] === segments[s * t + i];
    return j <= i && i - j < window && together ? 1 : 0;
  });
  return noGrad(() => {
    const mask = tensor(visible, { shape: [b, 1, t, t], dtype: "bool" });
    const options = { inverseFrequencies: tensor(inverseFrequencies(config)) };
    const positions = input.positions ?? arange(t).expand([b, t]);
    const rotate = (x: Tensor, count: number) =>
      rope(x.reshape([b, t, count, size]).transpose(1, 2), positions, options);
    return seen.map(({ q, k }) => {
      const keys = rotate(k!, kvHeads)
        .unsqueeze(2)
        .expand([b, kvHeads, heads / kvHeads, t, size])
        .reshape([b, heads, t, size]);
      const scores = rotate(q!, heads).matmul(keys.transpose(2, 3)).div(Math.sqrt(size)); // [B, H, T, T]
      return where(mask, scores, -1e30).softmax(-1);
    });
  });
}

/**
 * Attention of each text position after an image to each image position: the mean over layers and heads, of the first sample.
 * `weights[i]` belongs to position `positions[i]` of the merged sequence, which predicts the next token.
 */
export async function imageAttention(
  model: VisionLanguageModel,
  input: VisionLanguageInput,
): Promise<{ positions: number[]; weights: Float32Array[] }> {
  const { decoder, imagePositions } = noGrad(() => model.merge(input));
  const maps = await attentionMaps(model.language_model, decoder);
  const t = maps[0].shape[3];
  const mean = noGrad(() =>
    maps
      .map((map) => map.select(0, 0).mean(0))
      .reduce((a, b) => a.add(b))
      .div(maps.length),
  ); // [T, T]
  const all = await mean.data();
  const places = Array.from({ length: t }, (_, i) => i);
  const image = places.filter((i) => imagePositions[i] >= 0);
  if (image.length === 0) throw new Error("imageAttention: the first sample has no image");
  const positions = places.filter((i) => imagePositions[i] < 0 && i > image[0]);
  return { positions, weights: positions.map((i) => Float32Array.from(image, (j) => all[i * t + j])) };
}

/** The image with its patches coloured red by their weights, which are given row by row. */
export function drawAttention(image: Image, weights: ArrayLike<number>, rows: number, columns: number): Image {
  if (weights.length !== rows * columns)
    throw new Error(`drawAttention: ${weights.length} weights for ${rows} x ${columns} patches`);
  const { width, height, channels } = image;
  const top = Math.max(...Array.from(weights), 1e-30);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const patch = Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width);
      const heat = 0.8 * Math.sqrt(weights[patch] / top); // the root keeps small weights visible
      const at = y * width + x;
      for (let c = 0; c < 3; c++) {
        const own = image.data[at * channels + (channels < 3 ? 0 : c)];
        data[at * 3 + c] = Math.round(own * (1 - heat) + (c === 0 ? 255 : 0) * heat);
      }
    }
  }
  return { width, height, channels: 3, data };
}
