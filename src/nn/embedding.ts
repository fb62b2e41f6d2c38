import { checkOptions } from "../graph/options.ts";
import { arange, type EmbeddingBagOptions, embedding, embeddingBag, where } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkSizes } from "./check.ts";
import { normal } from "./init.ts";
import { Module } from "./module.ts";

/** A table of standard normal rows; the one at `paddingIdx` is 0. */
function table(layer: string, count: number, dim: number, paddingIdx: number | undefined): Tensor {
  checkSizes(layer, { count, dim });
  const weight = normal([count, dim]);
  if (paddingIdx === undefined) return weight;
  if (!Number.isInteger(paddingIdx) || paddingIdx < -count || paddingIdx >= count)
    throw new RangeError(`${layer}: paddingIdx must be ${-count} to ${count - 1}, got ${paddingIdx}`);
  const rows = arange(count).unsqueeze(1);
  return where(rows.eq(paddingIdx < 0 ? paddingIdx + count : paddingIdx), 0, weight)
    .detach()
    .requiresGrad_();
}

/**
 * Looks up rows of a table by id: i32 [...] to [..., dim]. Initial rows are standard normal. The row `paddingIdx` (negative
 * counts from the end) starts at 0 and gets no gradient.
 * @example new Embedding(1000, 64, { paddingIdx: 0 })
 */
export class Embedding extends Module {
  weight: Tensor; // [count, dim]
  readonly paddingIdx?: number;

  constructor(
    readonly count: number,
    readonly dim: number,
    options: { paddingIdx?: number } = {},
  ) {
    super();
    checkOptions("Embedding", options, ["paddingIdx"]);
    this.paddingIdx = options.paddingIdx;
    this.weight = table("Embedding", count, dim, this.paddingIdx);
  }

  forward(ids: Tensor): Tensor {
    return embedding(ids, this.weight, this.paddingIdx === undefined ? {} : { paddingIdx: this.paddingIdx });
  }
}

/**
 * Sum, mean or maximum of the rows of each bag: ids i32 [B, L], or [n] with offsets [B] -> [B, dim].
 * @example new EmbeddingBag(1000, 64, { mode: "sum" }).forward(ids, offsets)
 */
export class EmbeddingBag extends Module {
  weight: Tensor; // [count, dim]
  readonly options: Pick<EmbeddingBagOptions, "mode" | "includeLastOffset" | "paddingIdx">;

  constructor(
    readonly count: number,
    readonly dim: number,
    options: Pick<EmbeddingBagOptions, "mode" | "includeLastOffset" | "paddingIdx"> = {},
  ) {
    super();
    checkOptions("EmbeddingBag", options, ["mode", "includeLastOffset", "paddingIdx"]);
    if (options.mode !== undefined && !["sum", "mean", "max"].includes(options.mode))
      throw new Error(`EmbeddingBag: unknown mode "${options.mode}": expected sum, mean or max`);
    this.options = options;
    this.weight = table("EmbeddingBag", count, dim, options.paddingIdx);
  }

  forward(ids: Tensor, offsets?: Tensor, perSampleWeights?: Tensor): Tensor {
    return embeddingBag(ids, this.weight, { ...this.options, offsets, perSampleWeights });
  }
}
