/** Where the model looks while it writes: attention of each word of an answer over the tokens of the picture. */
import { inverseFrequencies } from "../../models/index.ts";
import { noGrad, rope, type Tensor, tensor } from "../../src/tensor.ts";
import { TILE_TOKENS } from "./batches.ts";
import type { Chat, Tiles } from "./chat.ts";
import { BOS, IMAGE } from "./pack.ts";
import { pixelTensor } from "./stages.ts";

export interface WordAttention {
  word: string;
  /** Mean over layers and heads, for each token of the picture: five a tile (2 x 2 places, then the mean). */
  weights: number[];
}

/** Attention of the positions that predict `answer`, token by token. */
export async function wordAttention(
  { model, texts }: Chat,
  tiles: Tiles,
  question: string,
  answer: string,
): Promise<WordAttention[]> {
  const words = texts.of(answer);
  const count = tiles.count * TILE_TOKENS;
  const ids = [BOS, IMAGE, ...texts.prompt(question), ...words];
  const length = ids.length - 1 + count;
  const { num_hidden_layers: layers, num_attention_heads: heads, hidden_size: d } = model.config.text_config;
  const size = d / heads;
  const pairs = noGrad(() => {
    const inputIds = tensor(Int32Array.from(ids), { shape: [1, ids.length] });
    const { decoder } = model.merge({ inputIds, pixelValues: pixelTensor(tiles.pixels), tilesPerImage: tiles.count });
    const states = model.language_model.model.forward(decoder);
    const frequencies = tensor(inverseFrequencies(model.config.text_config));
    const split = (x: Tensor): Promise<ArrayLike<number>> =>
      rope(x.reshape([1, length, heads, size]).transpose(1, 2), decoder.positions, {
        inverseFrequencies: frequencies,
      }).data(); // [1, H, T, D]
    return model.language_model.model.layers.map(({ self_attn: a, input_layernorm: norm }, i) => {
      const x = norm.forward(states[i]);
      return [split(a.q_proj.forward(x)), split(a.k_proj.forward(x))] as const;
    });
  });
  const sums = words.map(() => new Array<number>(count).fill(0));
  for (const pair of pairs) {
    const [q, k] = await Promise.all(pair);
    for (let h = 0; h < heads; h++) {
      for (let w = 0; w < words.length; w++) {
        const t = length - words.length - 1 + w; // this place predicts word w
        const scores = Array.from({ length: t + 1 }, (_, s) => {
          let dot = 0;
          for (let c = 0; c < size; c++) dot += q[(h * length + t) * size + c] * k[(h * length + s) * size + c];
          return dot / Math.sqrt(size);
        });
        const top = Math.max(...scores);
        const weights = scores.map((s) => Math.exp(s - top));
        const total = weights.reduce((a, b) => a + b, 0);
        for (let i = 0; i < count; i++) sums[w][i] += weights[1 + i] / total / (heads * layers);
      }
    }
  }
  return words.map((id, w) => ({ word: texts.tokenizer.decode([id]), weights: sums[w] }));
}
