/**
 * Qwen-VL's resampler (arXiv 2308.12966), also in OmniLMM and MiniCPM-V: one cross-attention from a grid of learnable queries to
 * the features of an image. Its fixed positions are resized for grids of other sizes.
 */

import { interpolate, type Tensor, tensor } from "../src/index.ts";
import { constant, LayerNorm, Linear, Module, truncatedNormal } from "../src/nn/index.ts";
import { multiHead, sinCos } from "./abstractor.ts";
import type { Rename } from "./checkpoints/load.ts";
import type { Adapter } from "./llava.ts";

export interface ResamplerConfig {
  /** Queries per side of the grid. */
  grid_size: number;
  embed_dim: number;
  num_heads: number;
  /** Width of the features. Default embed_dim. */
  kv_dim?: number;
}

/** Fixed 2-D sin-cos positions of a square grid. */
class GridPositions extends Module {
  table: Tensor; // [G², D]
  override readonly frozen = true;

  constructor(
    readonly side: number,
    readonly dim: number,
  ) {
    super();
    const cells = Array.from({ length: side * side }, (_, i) => [i % side, Math.floor(i / side)]); // the column first
    this.table = tensor(sinCos(cells, dim), { shape: [side * side, dim] });
  }

  /** Positions [count, D] of a square grid of `count` cells (bicubic). */
  forward(count: number): Tensor {
    const { side, dim } = this;
    const to = Math.sqrt(count);
    if (!Number.isInteger(to)) throw new Error(`Resampler: ${count} features are not a square grid`);
    if (to === side) return this.table;
    const grid = this.table.reshape([1, side, side, dim]).permute([0, 3, 1, 2]); // [1, D, G, G]
    return interpolate(grid, { size: [to, to], mode: "bicubic" })
      .flatten(2)
      .squeeze(0)
      .t();
  }
}

/** Attention with the weight names of PyTorch's MultiheadAttention. */
class PackedAttention extends Module {
  in_proj_weight: Tensor; // [3 D, D]
  in_proj_bias: Tensor; // [3 D]
  out_proj: Linear;

  constructor(
    dim: number,
    readonly heads: number,
  ) {
    super();
    if (dim % heads) throw new RangeError(`Resampler: ${heads} heads do not divide embed_dim ${dim}`);
    this.in_proj_weight = truncatedNormal([3 * dim, dim], 0.02);
    this.in_proj_bias = constant([3 * dim], 0);
    this.out_proj = new Linear(dim, dim);
  }

  /** q [1, Q, D], shared by all images, k and v [N, P, D] to [N, Q, D]. */
  forward(q: Tensor, k: Tensor, v: Tensor): Tensor {
    const d = q.shape[2];
    const project = (x: Tensor, i: number) =>
      x.matmul(this.in_proj_weight.narrow(0, i * d, d).t()).add(this.in_proj_bias.narrow(0, i * d, d));
    const queries = project(q, 0).expand([k.shape[0], q.shape[1], d]);
    return this.out_proj.forward(multiHead(queries, project(k, 1), project(v, 2), this.heads));
  }
}

export class Resampler extends Module implements Adapter {
  query: Tensor; // [Q, D]
  pos_embed: GridPositions;
  kv_proj?: Linear;
  attn: PackedAttention;
  ln_q: LayerNorm;
  ln_kv: LayerNorm;
  ln_post: LayerNorm;
  proj: Tensor; // [D, D]

  constructor(readonly config: ResamplerConfig) {
    super();
    const { grid_size: side, embed_dim: d, num_heads: heads, kv_dim = d } = config;
    if (d % 4) throw new RangeError(`Resampler: embed_dim ${d} must be a multiple of 4: sines and cosines of two axes`);
    this.query = truncatedNormal([side * side, d], 0.02);
    this.pos_embed = new GridPositions(side, d);
    if (kv_dim !== d) this.kv_proj = new Linear(kv_dim, d, { bias: false });
    this.attn = new PackedAttention(d, heads);
    const norm = () => new LayerNorm(d, 1e-6);
    [this.ln_q, this.ln_kv, this.ln_post] = [norm(), norm(), norm()];
    this.proj = truncatedNormal([d, d], d ** -0.5);
  }

  tokens(): number {
    return this.config.grid_size ** 2;
  }

  /** features [N, P, D'] of square grids to [N, Q, D]. Positions go to queries and keys, not to values. */
  forward(features: Tensor): Tensor {
    const x = this.ln_kv.forward(this.kv_proj ? this.kv_proj.forward(features) : features); // [N, P, D]
    const q = this.ln_q.forward(this.query).add(this.pos_embed.table).unsqueeze(0);
    const y = this.attn.forward(q, x.add(this.pos_embed.forward(features.shape[1])), x);
    return this.ln_post.forward(y).matmul(this.proj);
  }
}

/** The name of the positions in checkpoints to that of the module here. */
export const resamplerNames: readonly Rename[] = [[/(^|\.)pos_embed$/, "$1pos_embed.table"]];
