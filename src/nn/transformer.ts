import { checkOptions } from "../graph/options.ts";
import { ones } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Activation, activation as activationOf } from "./activation.ts";
import { type AttendOptions, MultiheadAttention } from "./attention.ts";
import { checkSizes } from "./check.ts";
import { xavierUniform } from "./init.ts";
import { Dropout, Linear } from "./layers.ts";
import { type Layer, Module } from "./module.ts";
import { LayerNorm } from "./norm.ts";

// Transformer layers with torch's names (arXiv 1706.03762). In bool masks true hides a key, as in MultiheadAttention.

export interface TransformerLayerOptions {
  /** Hidden size of the MLP. Default 2048. */
  dimFeedforward?: number;
  /** Probability of dropout, in training. Default 0.1. */
  dropout?: number;
  /** A name that `activation` knows, or a function. Default "relu". */
  activation?: string | Activation;
  /** Default 1e-5. */
  layerNormEps?: number;
  /** Inputs and outputs are [N, L, E] instead of [L, N, E]. Default false. */
  batchFirst?: boolean;
  /** Normalises before attention and MLP instead of after. Default false. */
  normFirst?: boolean;
  /** Default true. */
  bias?: boolean;
}

const LAYER = ["dimFeedforward", "dropout", "activation", "layerNormEps", "batchFirst", "normFirst", "bias"];

/** Masks of the self attention of an encoder. */
export interface EncoderMasks {
  /** [L, L] or [N · heads, L, L]. */
  mask?: Tensor;
  /** [N, L]. */
  srcKeyPaddingMask?: Tensor;
  /** A position sees none after its own. Needs no mask. */
  isCausal?: boolean;
}

/** Masks of a decoder. */
export interface DecoderMasks {
  /** Of the self attention: [L, L] or [N · heads, L, L]. */
  tgtMask?: Tensor;
  /** Of the attention to the memory: [L, S] or [N · heads, L, S]. */
  memoryMask?: Tensor;
  /** [N, L]. */
  tgtKeyPaddingMask?: Tensor;
  /** [N, S]. */
  memoryKeyPaddingMask?: Tensor;
  /** A position sees none of the target after its own. Needs no mask. */
  tgtIsCausal?: boolean;
}

const DECODER_MASKS = ["tgtMask", "memoryMask", "tgtKeyPaddingMask", "memoryKeyPaddingMask", "tgtIsCausal"];

/** What encoder and decoder layers share: self attention, MLP, and residual branches around them. */
abstract class TransformerLayer extends Module {
  self_attn: MultiheadAttention;
  linear1: Linear;
  linear2: Linear;
  norm1: LayerNorm;
  norm2: LayerNorm;
  dropout: Dropout;
  readonly normFirst: boolean;
  readonly #activation: Activation;

  constructor(
    readonly dModel: number,
    readonly nhead: number,
    readonly options: TransformerLayerOptions,
  ) {
    super();
    checkOptions(new.target.name, options, LAYER);
    const { dimFeedforward = 2048, dropout = 0.1, activation = "relu", normFirst = false, bias = true } = options;
    checkSizes(new.target.name, { dModel, nhead, dimFeedforward });
    this.self_attn = this.attention();
    this.linear1 = new Linear(dModel, dimFeedforward, { bias });
    this.linear2 = new Linear(dimFeedforward, dModel, { bias });
    this.norm1 = this.norm();
    this.norm2 = this.norm();
    this.dropout = new Dropout(dropout);
    this.normFirst = normFirst;
    this.#activation = typeof activation === "string" ? activationOf(activation) : activation;
  }

  protected attention(): MultiheadAttention {
    const { dropout = 0.1, bias, batchFirst } = this.options;
    return new MultiheadAttention(this.dModel, this.nhead, { dropout, bias, batchFirst });
  }

  protected norm(): LayerNorm {
    return new LayerNorm(this.dModel, this.options.layerNormEps, { bias: this.options.bias });
  }

  /** x + f(norm(x)), or norm(x + f(x)); with dropout after f. */
  protected branch(x: Tensor, norm: LayerNorm, f: (x: Tensor) => Tensor): Tensor {
    if (this.normFirst) return x.add(this.dropout.forward(f(norm.forward(x))));
    return norm.forward(x.add(this.dropout.forward(f(x))));
  }

  protected mlp(x: Tensor): Tensor {
    return this.linear2.forward(this.dropout.forward(this.#activation(this.linear1.forward(x))));
  }

  /** A layer of the same kind, options and values. */
  copy(): this {
    const Type = this.constructor as new (dModel: number, nhead: number, options: TransformerLayerOptions) => this;
    const made = new Type(this.dModel, this.nhead, this.options);
    made.loadStateDict(this.stateDict());
    return made.train(this.training);
  }
}

const attend = (attention: MultiheadAttention, q: Tensor, k: Tensor, options: AttendOptions): Tensor =>
  attention.forward(q, k, k, { ...options, needWeights: false })[0];

/**
 * Self attention, then an MLP of two layers, each with a residual connection and a norm.
 * @example new TransformerEncoderLayer(64, 4, { batchFirst: true }).forward(rand(2, 5, 64)) // [2, 5, 64]
 */
export class TransformerEncoderLayer extends TransformerLayer {
  constructor(dModel: number, nhead: number, options: TransformerLayerOptions = {}) {
    super(dModel, nhead, options);
  }

  /** src [N, L, E] with batchFirst, else [L, N, E] -> the same shape. `srcMask` is another name of `mask`. */
  forward(src: Tensor, masks: EncoderMasks & { srcMask?: Tensor } = {}): Tensor {
    checkOptions("TransformerEncoderLayer.forward", masks, ["srcMask", "mask", "srcKeyPaddingMask", "isCausal"]);
    const { srcMask, mask: attnMask = srcMask, srcKeyPaddingMask: keyPaddingMask, isCausal } = masks;
    const options = { attnMask, keyPaddingMask, isCausal };
    const x = this.branch(src, this.norm1, (y) => attend(this.self_attn, y, y, options));
    return this.branch(x, this.norm2, (y) => this.mlp(y));
  }
}

/**
 * Self attention, attention to the encoder's output, then an MLP, each with a residual connection and a norm.
 * @example new TransformerDecoderLayer(64, 4).forward(rand(5, 2, 64), rand(7, 2, 64)) // [5, 2, 64]
 */
export class TransformerDecoderLayer extends TransformerLayer {
  multihead_attn: MultiheadAttention;
  norm3: LayerNorm;

  constructor(dModel: number, nhead: number, options: TransformerLayerOptions = {}) {
    super(dModel, nhead, options);
    this.multihead_attn = this.attention();
    this.norm3 = this.norm();
  }

  /** tgt [N, L, E] and memory [N, S, E] with batchFirst, else [L, N, E] and [S, N, E] -> the shape of tgt. */
  forward(tgt: Tensor, memory: Tensor, masks: DecoderMasks = {}): Tensor {
    checkOptions("TransformerDecoderLayer.forward", masks, DECODER_MASKS);
    const own = { attnMask: masks.tgtMask, keyPaddingMask: masks.tgtKeyPaddingMask, isCausal: masks.tgtIsCausal };
    const other = { attnMask: masks.memoryMask, keyPaddingMask: masks.memoryKeyPaddingMask };
    const x = this.branch(tgt, this.norm1, (y) => attend(this.self_attn, y, y, own));
    const seen = this.branch(x, this.norm2, (y) => attend(this.multihead_attn, y, memory, other));
    return this.branch(seen, this.norm3, (y) => this.mlp(y));
  }
}

/** `count` layers: new ones if a function makes them, else the given one and copies of it. */
function repeated<L extends TransformerLayer>(op: string, layer: L | (() => L), count: number): L[] {
  checkSizes(op, { numLayers: count });
  return Array.from({ length: count }, (_, i) =>
    typeof layer === "function" ? layer() : i === 0 ? layer : layer.copy(),
  );
}

/**
 * Encoder layers one after another, and a final norm if one is given.
 * @param layer the first layer, of which the others are copies (as in torch, with equal values), or a function that makes each
 * @example new TransformerEncoder(() => new TransformerEncoderLayer(64, 4), 6, { norm: new LayerNorm(64) })
 */
export class TransformerEncoder extends Module {
  layers: TransformerEncoderLayer[];
  norm?: Layer;

  constructor(
    layer: TransformerEncoderLayer | (() => TransformerEncoderLayer),
    numLayers: number,
    options: { norm?: Layer } = {},
  ) {
    super();
    checkOptions("TransformerEncoder", options, ["norm"]);
    this.layers = repeated("TransformerEncoder", layer, numLayers);
    this.norm = options.norm;
  }

  /** src [N, L, E] with batchFirst, else [L, N, E] -> the same shape. */
  forward(src: Tensor, masks: EncoderMasks = {}): Tensor {
    const x = this.layers.reduce((y, layer) => layer.forward(y, masks), src);
    return this.norm ? this.norm.forward(x) : x;
  }
}

/**
 * Decoder layers one after another, and a final norm if one is given. `layer` as for TransformerEncoder.
 * @example new TransformerDecoder(() => new TransformerDecoderLayer(64, 4), 6, { norm: new LayerNorm(64) })
 */
export class TransformerDecoder extends Module {
  layers: TransformerDecoderLayer[];
  norm?: Layer;

  constructor(
    layer: TransformerDecoderLayer | (() => TransformerDecoderLayer),
    numLayers: number,
    options: { norm?: Layer } = {},
  ) {
    super();
    checkOptions("TransformerDecoder", options, ["norm"]);
    this.layers = repeated("TransformerDecoder", layer, numLayers);
    this.norm = options.norm;
  }

  /** tgt [N, L, E] and memory [N, S, E] with batchFirst, else [L, N, E] and [S, N, E] -> the shape of tgt. */
  forward(tgt: Tensor, memory: Tensor, masks: DecoderMasks = {}): Tensor {
    const x = this.layers.reduce((y, layer) => layer.forward(y, memory, masks), tgt);
    return this.norm ? this.norm.forward(x) : x;
  }
}

export interface TransformerOptions extends TransformerLayerOptions {
  /** Default 512. */
  dModel?: number;
  /** Default 8. */
  nhead?: number;
  /** Default 6. */
  numEncoderLayers?: number;
  /** Default 6. */
  numDecoderLayers?: number;
}

export interface TransformerMasks extends DecoderMasks {
  /** Of the encoder: [S, S] or [N · heads, S, S]. */
  srcMask?: Tensor;
  /** Of the encoder: [N, S]. */
  srcKeyPaddingMask?: Tensor;
  /** Encoder positions see none after their own. */
  srcIsCausal?: boolean;
}

/**
 * Encoder and decoder, each with a final norm (arXiv 1706.03762). Matrices start Xavier-uniform.
 * @example new Transformer({ dModel: 64, nhead: 4, batchFirst: true }).forward(src, tgt, { tgtIsCausal: true })
 */
export class Transformer extends Module {
  encoder: TransformerEncoder;
  decoder: TransformerDecoder;
  readonly dModel: number;
  readonly nhead: number;

  constructor(options: TransformerOptions = {}) {
    super();
    const { dModel = 512, nhead = 8, numEncoderLayers = 6, numDecoderLayers = 6, ...rest } = options;
    const norm = (): LayerNorm => new LayerNorm(dModel, rest.layerNormEps, { bias: rest.bias });
    const encoderLayer = () => new TransformerEncoderLayer(dModel, nhead, rest);
    const decoderLayer = () => new TransformerDecoderLayer(dModel, nhead, rest);
    this.encoder = new TransformerEncoder(encoderLayer, numEncoderLayers, { norm: norm() });
    this.decoder = new TransformerDecoder(decoderLayer, numDecoderLayers, { norm: norm() });
    this.dModel = dModel;
    this.nhead = nhead;
    for (const p of this.parameters()) if (p.ndim > 1) xavierUniform(p);
  }

  /** src [N, S, E] and tgt [N, L, E] with batchFirst, else [S, N, E] and [L, N, E] -> the shape of tgt. */
  forward(src: Tensor, tgt: Tensor, masks: TransformerMasks = {}): Tensor {
    const { srcMask: mask, srcKeyPaddingMask, srcIsCausal: isCausal, ...rest } = masks;
    return this.decoder.forward(tgt, this.encoder.forward(src, { mask, srcKeyPaddingMask, isCausal }), rest);
  }

  /** bool [size, size], true above the diagonal: hides the positions after each one. */
  static generateSquareSubsequentMask(size: number): Tensor {
    return ones(size, size).triu(1).to("bool");
  }
}
