/**
 * The visual abstractor of mPLUG-Owl (arXiv 2304.14178): cross-attention of learnable queries to the image. With fixed positions
 * it is that of mPLUG-Owl2 (arXiv 2311.04257).
 */
import { cat, scaledDotProductAttention, type Tensor, tensor } from "../src/index.ts";
import { LayerNorm, Linear, Module, truncatedNormal } from "../src/nn/index.ts";

/** The keys of visual_abstractor_config in config.json. */
export interface AbstractorConfig {
  hidden_size: number;
  encoder_hidden_size?: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  layer_norm_eps?: number;
  /** mPLUG-Owl2: patches per side of the image. Queries and keys get fixed sin-cos positions, values do not. */
  grid_size?: number;
  num_learnable_queries?: number;
}

class AbstractorAttention extends Module {
  query: Linear;
  key: Linear;
  value: Linear;
  q_pos_embed?: Tensor; // [Q, D]
  k_pos_embed?: Tensor; // [1 + P, D]
  override readonly frozen = true; // the positions
  readonly heads: number;

  constructor({
    hidden_size: d,
    num_attention_heads: heads,
    num_learnable_queries: q,
    grid_size: grid,
  }: AbstractorConfig) {
    super();
    this.heads = heads;
    this.query = new Linear(d, d);
    this.key = new Linear(d, d);
    this.value = new Linear(d, d);
    if (!grid) return;
    if (!q) throw new RangeError("Abstractor: grid_size needs num_learnable_queries");
    this.q_pos_embed = tensor(
      sinCos(
        Array.from({ length: q }, (_, i) => [i]),
        d,
      ),
      { shape: [q, d] },
    );
    const cells = Array.from({ length: grid * grid }, (_, i) => [i % grid, Math.floor(i / grid)]); // the column first
    const table = new Float32Array((1 + grid * grid) * d); // zeros for the class token
    table.set(sinCos(cells, d), d);
    this.k_pos_embed = tensor(table, { shape: [1 + grid * grid, d] });
  }

  /** Attention of x [N, Q, D] over source [N, Q + P, D]. */
  forward(x: Tensor, source: Tensor): Tensor {
    const { q_pos_embed: here, k_pos_embed: there } = this;
    const q = this.query.forward(here ? x.add(here) : x);
    const k = this.key.forward(here && there ? source.add(cat([here, there], 0)) : source);
    return multiHead(q, k, this.value.forward(source), this.heads);
  }
}

/** Attention in heads: q [N, Q, D], k and v [N, P, D] to [N, Q, D]. */
export function multiHead(q: Tensor, k: Tensor, v: Tensor, heads: number): Tensor {
  const split = (x: Tensor) => x.reshape([...x.shape.slice(0, 2), heads, x.shape[2] / heads]).transpose(1, 2); // [N, H, P, D/H]
  return scaledDotProductAttention(split(q), split(k), split(v)).transpose(1, 2).reshape(q.shape);
}

/** Fixed positions [count, D]. Each coordinate has an equal part of D, half sines and half cosines. */
export function sinCos(points: readonly (readonly number[])[], dim: number): Float32Array {
  const out = new Float32Array(points.length * dim);
  points.forEach((point, i) => {
    const half = dim / point.length / 2;
    point.forEach((x, axis) => {
      for (let j = 0; j < half; j++) {
        const angle = x * 10000 ** (-j / half);
        out[i * dim + 2 * half * axis + j] = Math.sin(angle);
        out[i * dim + 2 * half * axis + half + j] = Math.cos(angle);
      }
    });
  });
  return out;
}

/** SwiGLU with a norm on the inner width. */
class AbstractorMLP extends Module {
  w1: Linear;
  w2: Linear;
  w3: Linear;
  ffn_ln: LayerNorm;

  constructor(dim: number, inner: number, eps: number) {
    super();
    this.w1 = new Linear(dim, inner);
    this.w2 = new Linear(inner, dim);
    this.w3 = new Linear(dim, inner);
    this.ffn_ln = new LayerNorm(inner, eps);
  }

  forward(x: Tensor): Tensor {
    return this.w2.forward(this.ffn_ln.forward(this.w1.forward(x).silu().mul(this.w3.forward(x))));
  }
}

class AbstractorOutput extends Module {
  out_proj: Linear;
  norm2: LayerNorm;
  mlp: AbstractorMLP;

  constructor({ hidden_size: d, intermediate_size: inner, layer_norm_eps: eps = 1e-6 }: AbstractorConfig) {
    super();
    this.out_proj = new Linear(d, d);
    this.norm2 = new LayerNorm(d);
    this.mlp = new AbstractorMLP(d, inner, eps);
  }
}

class AbstractorCrossAttention extends Module {
  attention: AbstractorAttention;
  output: AbstractorOutput;
  norm1: LayerNorm;
  normk: LayerNorm;

  constructor(config: AbstractorConfig) {
    super();
    const { hidden_size: d, encoder_hidden_size: source = d } = config;
    if (source !== d)
      throw new RangeError(
        `Abstractor: encoder_hidden_size ${source} must equal hidden_size ${d}: queries and features are read together`,
      );
    this.attention = new AbstractorAttention(config);
    this.output = new AbstractorOutput(config);
    this.norm1 = new LayerNorm(d);
    this.normk = new LayerNorm(d);
  }

  /** Attention of the queries over themselves and the image. As in the reference, the residual is the normalised query. */
  forward(x: Tensor, image: Tensor): Tensor {
    const { out_proj, norm2, mlp } = this.output;
    const q = this.norm1.forward(x); // [N, Q, D]
    const source = cat([q, this.normk.forward(image)], 1); // [N, Q + P, D]
    const y = q.add(out_proj.forward(this.attention.forward(q, source)));
    return y.add(mlp.forward(norm2.forward(y)));
  }
}

class AbstractorLayer extends Module {
  crossattention: AbstractorCrossAttention;

  constructor(config: AbstractorConfig) {
    super();
    this.crossattention = new AbstractorCrossAttention(config);
  }
}

class AbstractorEncoder extends Module {
  layers: AbstractorLayer[];

  constructor(config: AbstractorConfig) {
    super();
    this.layers = Array.from({ length: config.num_hidden_layers }, () => new AbstractorLayer(config));
  }
}

/** Maps each query to one embedding, with an end token after them. */
export class Abstractor extends Module {
  encoder: AbstractorEncoder;
  visual_fc: Linear;
  vit_eos: Tensor; // [1, 1, D']

  constructor(
    readonly config: AbstractorConfig,
    readonly outDim: number,
  ) {
    super();
    this.encoder = new AbstractorEncoder(config);
    this.visual_fc = new Linear(config.hidden_size, outDim);
    this.vit_eos = truncatedNormal([1, 1, outDim], 0.02);
  }

  /** queries [1, Q, D], features [N, P, D] to [N, Q + 1, D']. */
  forward(queries: Tensor, features: Tensor): Tensor {
    const n = features.shape[0];
    const [, q, d] = queries.shape;
    let x = queries.expand([n, q, d]);
    for (const { crossattention } of this.encoder.layers) x = crossattention.forward(x, features);
    return cat([this.visual_fc.forward(x), this.vit_eos.expand([n, 1, this.outDim])], 1);
  }
}
