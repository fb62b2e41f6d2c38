/**
 * LLaMA: decoder of pre-norm blocks with RMSNorm, rotary positions, grouped-query attention and SwiGLU
 * (arXiv 2302.13971, 2307.09288). Weight names, config keys and maths are those of Hugging Face. Covers Qwen2, which
 * has biases on q, k, v alone, Mistral, whose tokens see a sliding window (arXiv 2310.06825), and the modality-adaptive
 * decoder of mPLUG-Owl2.
 */

import { type CacheType, KVCache } from "../src/generate/index.ts";
import {
  arange,
  checkpoint,
  crossEntropy,
  linear,
  linearCrossEntropy,
  rope,
  scaledDotProductAttention,
  type Tensor,
  tensor,
  where,
} from "../src/index.ts";
import { type FileSource, openCheckpoint, openFolder } from "../src/io/index.ts";
import { type Activation, activation, Embedding, type Layer, Linear, Module, RMSNorm } from "../src/nn/index.ts";
import { answerRows, ids2d, positionsOf, requireHost } from "./batch.ts";
import { type LoadOptions, loadModel, type Rename } from "./checkpoints/load.ts";

/** The keys of config.json; those with `?` have the defaults of the reference class. */
export interface LlamaConfig {
  model_type?: string;
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads?: number;
  head_dim?: number;
  hidden_act?: string;
  rms_norm_eps?: number;
  rope_theta?: number;
  rope_scaling?: RopeScaling | null;
  max_position_embeddings?: number;
  tie_word_embeddings?: boolean;
  attention_bias?: boolean;
  /** A token sees itself and the sliding_window - 1 tokens before it (Mistral); null or absent = all. */
  sliding_window?: number | null;
  mlp_bias?: boolean;
  /** Logits are multiplied by this (default 1). */
  logit_scale?: number;
  bos_token_id?: number;
  eos_token_id?: number | number[];
  pad_token_id?: number | null;
}

export interface RopeScaling {
  rope_type?: string;
  type?: string;
  factor?: number;
  low_freq_factor?: number;
  high_freq_factor?: number;
  original_max_position_embeddings?: number;
  /** For "factors": what the frequency of each pair of channels is divided by. */
  factors?: readonly number[];
}

/** What one forward pass reads. Either `inputIds` or `inputsEmbeds`. */
export interface DecoderInput {
  inputIds?: Tensor; // i32 [B, T]
  inputsEmbeds?: Tensor; // f32 [B, T, D]
  /** Place of each token for the rotary embedding, i32 [B, T]. Default: the number of earlier tokens that it sees. */
  positions?: Tensor;
  /**
   * Which tokens see each other, i32 [B, T]: a token sees earlier tokens of segment 0 and of its own segment.
   * Turns that share one image are segments 1, 2, … behind it; padding is -1. Default: one causal sequence.
   */
  segments?: Tensor;
  /** Where image features stand, bool [B, T]: read by mPLUG-Owl2's modality-adaptive layers. Default: nowhere. */
  modality?: Tensor;
  /** Keys and values of earlier tokens; the new ones are added. Excludes `segments`. */
  cache?: KVCache;
}

/** Keys that published config.json files leave out: the defaults of the reference class. */
export const llamaDefaults = {
  vocab_size: 32000,
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  max_position_embeddings: 2048,
} as const;

/** Rotary frequencies of each pair of channels, [head_dim / 2]. */
export function inverseFrequencies(config: LlamaConfig): Float32Array {
  const dim = headDim(config);
  const { rope_theta: theta = 10000, rope_scaling: scaling } = config;
  const plain = Float32Array.from({ length: dim / 2 }, (_, i) => theta ** ((-2 * i) / dim));
  const type = scaling?.rope_type ?? scaling?.type ?? "default";
  if (!scaling || type === "default") return plain;
  const { factor = 1 } = scaling;
  if (type === "factors") return plain.map((f, i) => f / scaling.factors![i]);
  if (type === "linear") return plain.map((f) => f / factor);
  if (type !== "llama3")
    throw new Error(`rope_scaling type "${type}" is not supported; known are default, linear, llama3, factors`);
  // Long wavelengths are stretched by `factor`, short ones kept, those between interpolated (Llama 3.1).
  const {
    low_freq_factor: low = 1,
    high_freq_factor: high = 4,
    original_max_position_embeddings: length = 8192,
  } = scaling;
  return plain.map((f) => {
    const turns = (length * f) / (2 * Math.PI); // within the original context
    const keep = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return (1 - keep) * (f / factor) + keep * f;
  });
}

const headDim = (config: LlamaConfig): number => config.head_dim ?? config.hidden_size / config.num_attention_heads;

/** What the attention of every layer shares in one forward pass. */
interface Context {
  positions: Tensor; // i32 [B, T]
  frequencies: Tensor; // [head_dim / 2]
  mask?: Tensor; // bool [B, 1, T, T]
  modality?: Tensor; // bool [B, T, 1]
  cache?: KVCache;
  window?: number;
}

/** One layer for text and one for image features, as mPLUG-Owl2 has it (arXiv 2311.04257). */
class Multiway extends Module {
  multiway: Layer[];

  constructor(make: () => Layer) {
    super();
    this.multiway = [make(), make()];
  }

  forward(x: Tensor, modality?: Tensor): Tensor {
    const [text, image] = this.multiway;
    return modality ? where(modality, image.forward(x), text.forward(x)) : text.forward(x);
  }
}

/** A layer, or one a modality where the architecture has them. */
const perModality = <L extends Layer>(config: LlamaConfig, make: () => L): L | Multiway =>
  config.model_type === "mplug_owl2" ? new Multiway(make) : make();

const apply = (layer: Layer | Multiway, x: Tensor, modality?: Tensor): Tensor =>
  layer instanceof Multiway ? layer.forward(x, modality) : layer.forward(x);

class LlamaAttention extends Module {
  q_proj: Linear;
  k_proj: Linear | Multiway;
  v_proj: Linear | Multiway;
  o_proj: Linear;
  readonly #heads: number;
  readonly #kvHeads: number;
  readonly #headDim: number;

  constructor(
    config: LlamaConfig,
    readonly layer: number,
  ) {
    super();
    const {
      hidden_size: d,
      num_attention_heads: heads,
      num_key_value_heads: kv = heads,
      attention_bias: bias = false,
    } = config;
    const qwen = config.model_type === "qwen2";
    this.#heads = heads;
    this.#kvHeads = kv;
    this.#headDim = headDim(config);
    this.q_proj = new Linear(d, heads * this.#headDim, { bias: bias || qwen });
    const keys = () => new Linear(d, kv * this.#headDim, { bias: bias || qwen });
    this.k_proj = perModality(config, keys);
    this.v_proj = perModality(config, keys);
    this.o_proj = new Linear(heads * this.#headDim, d, { bias });
  }

  forward(x: Tensor, { positions, frequencies, mask, modality, cache, window }: Context): Tensor {
    const [b, t] = x.shape;
    const split = (y: Tensor, heads: number) => y.reshape([b, t, heads, this.#headDim]).transpose(1, 2); // [B, H, T, D/H]
    const turn = (y: Tensor) => rope(y, positions, { inverseFrequencies: frequencies });
    const q = turn(split(this.q_proj.forward(x), this.#heads));
    const k = turn(split(apply(this.k_proj, x, modality), this.#kvHeads));
    const v = split(apply(this.v_proj, x, modality), this.#kvHeads);
    const y = cache
      ? cache.attend(this.layer, { q, k, v, window })
      : scaledDotProductAttention(q, k, v, { isCausal: true, mask, window });
    return this.o_proj.forward(y.transpose(1, 2).reshape([b, t, this.#heads * this.#headDim]));
  }
}

class LlamaMLP extends Module {
  gate_proj: Linear;
  up_proj: Linear;
  down_proj: Linear;
  readonly #act: Activation;

  constructor({ hidden_size: d, intermediate_size: inner, mlp_bias: bias = false, hidden_act = "silu" }: LlamaConfig) {
    super();
    this.gate_proj = new Linear(d, inner, { bias });
    this.up_proj = new Linear(d, inner, { bias });
    this.down_proj = new Linear(inner, d, { bias });
    this.#act = activation(hidden_act);
  }

  forward(x: Tensor): Tensor {
    return this.down_proj.forward(this.#act(this.gate_proj.forward(x)).mul(this.up_proj.forward(x)));
  }
}

class LlamaLayer extends Module {
  self_attn: LlamaAttention;
  mlp: LlamaMLP;
  input_layernorm: RMSNorm | Multiway;
  post_attention_layernorm: RMSNorm | Multiway;

  constructor(config: LlamaConfig, layer: number) {
    super();
    this.self_attn = new LlamaAttention(config, layer);
    this.mlp = new LlamaMLP(config);
    const norm = () => new RMSNorm(config.hidden_size, config.rms_norm_eps);
    this.input_layernorm = perModality(config, norm);
    this.post_attention_layernorm = perModality(config, norm);
  }

  forward(x: Tensor, context: Context): Tensor {
    const { modality } = context;
    const y = x.add(this.self_attn.forward(apply(this.input_layernorm, x, modality), context)); // [B, T, D]
    return y.add(this.mlp.forward(apply(this.post_attention_layernorm, y, modality)));
  }
}

class LlamaModel extends Module {
  embed_tokens: Embedding;
  layers: LlamaLayer[];
  norm: RMSNorm;
  /** Whether backward computes each layer again instead of keeping what is inside it: less memory, a third more work. */
  checkpointing = false;
  /** What the layers compute on, when no cache is given. Halves take half the memory, and gradients that need a `LossScaler`. */
  activations: "f32" | "f16" = "f32";
  readonly #frequencies: Tensor; // follows from the config: no part of the state

  constructor(readonly config: LlamaConfig) {
    super();
    this.#frequencies = tensor(inverseFrequencies(config));
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new LlamaLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
  }

  /** Rows of the embedding table, f32 [B, T, D]; ids that come from the host are checked. */
  embed(ids: Tensor): Tensor {
    ids.hostData?.forEach((id, i) => {
      if (id < 0 || id >= this.config.vocab_size) {
        throw new RangeError(
          `token id ${id} in sample ${Math.floor(i / ids.shape[1])} is outside the vocabulary of ${this.config.vocab_size}`,
        );
      }
    });
    return this.embed_tokens.forward(ids);
  }

  /** The embedding, the output of each layer, and last the normalised output in place of the last layer's. */
  forward(input: DecoderInput): Tensor[] {
    const { inputIds, inputsEmbeds, segments, cache } = input;
    if (!inputIds === !inputsEmbeds) throw new Error("Llama: give either inputIds or inputsEmbeds");
    if (segments && cache) throw new Error("Llama: segments cannot be combined with a cache");
    const x = inputsEmbeds ?? this.embed(inputIds!);
    const [b, t, d] = x.shape;
    if (x.ndim !== 3 || d !== this.config.hidden_size) {
      throw new Error(`Llama: embeddings have shape [${x.shape}], expected [B,T,${this.config.hidden_size}]`);
    }
    const window = slidingWindow(this.config);
    const seen =
      segments && !input.positions && positionsOf(Int32Array.from(requireHost("Llama", "segments", segments)), t);
    const places = seen ? ids2d(b, seen) : cache ? cache.begin(b, t) : arange(t).expand([b, t]);
    const context: Context = {
      positions: input.positions ?? places,
      frequencies: this.#frequencies,
      mask: segments && together(segments),
      modality: input.modality?.reshape([b, t, 1]),
      cache,
      window,
    };
    const half = this.activations === "f16" && !cache;
    const states = [half ? x.half() : x];
    for (const layer of this.layers) {
      const run = (y: Tensor) => layer.forward(y, context);
      states.push(this.checkpointing ? checkpoint(run, states[states.length - 1]) : run(states[states.length - 1]));
    }
    states.push(this.norm.forward(states.pop()!.float()));
    cache?.end(t);
    return states;
  }
}

/** Which keys a query may see besides the causal order: those of segment 0 and of its own, bool [B, 1, T, T]. */
function together(segments: Tensor): Tensor {
  const [b, t] = segments.shape;
  const keys = segments.reshape([b, 1, 1, t]);
  return keys.eq(0).logicalOr(keys.eq(segments.reshape([b, 1, t, 1])));
}

/** Whether a layer is a product with its weight and nothing else. */
const isPlain = (layer: Linear): boolean => layer instanceof Linear && !layer.bias && !layer.lora;

const slidingWindow = ({ model_type, sliding_window }: LlamaConfig): number | undefined =>
  model_type === "mistral" ? (sliding_window ?? undefined) : undefined;

export class LlamaForCausalLM extends Module {
  model: LlamaModel;
  /** Absent when the embedding table serves as output layer too. */
  lm_head?: Linear;
  /** What ends a generated text; default the config's. */
  eosTokenId?: number | readonly number[];

  constructor(readonly config: LlamaConfig) {
    super();
    checkConfig(config);
    this.model = new LlamaModel(config);
    if (!config.tie_word_embeddings) this.lm_head = new Linear(config.hidden_size, config.vocab_size, { bias: false });
  }

  /** logits [B, T, V] and all hidden states [B, T, D]. */
  forward(input: DecoderInput): { logits: Tensor; hiddenStates: Tensor[] } {
    const hiddenStates = this.model.forward(input);
    return { logits: this.logits(hiddenStates[hiddenStates.length - 1]), hiddenStates };
  }

  /** Last hidden states [..., D] to logits [..., V]. */
  logits(hidden: Tensor): Tensor {
    const { logit_scale: scale } = this.config;
    const x = scale === undefined ? hidden : hidden.mul(scale); // [..., D] is smaller than [..., V]
    return this.lm_head ? this.lm_head.forward(x) : linear(x, this.model.embed_tokens.weight);
  }

  /**
   * Mean cross-entropy of the token after each position, over labels that are not -100 (labels[t] is the token at t).
   * The output layer runs on those positions only. `labels` is i32 [B, T] from the host.
   */
  loss(input: DecoderInput, labels: Tensor): Tensor {
    const { rows, targets } = answerRows(labels, this.config.vocab_size);
    const hidden = this.model.forward(input).pop()!; // [B, T, D]
    const [b, t, d] = hidden.shape;
    if (labels.shape[0] !== b || labels.shape[1] !== t) {
      throw new Error(`Llama.loss: labels have shape [${labels.shape}], expected [${b},${t}]`);
    }
    const answers = hidden.reshape([b * t, d]).indexSelect(0, rows); // [N, D]
    const { logit_scale: scale } = this.config;
    const head = this.lm_head ?? this.model.embed_tokens;
    // A plain output layer joins the loss part by part: large vocabularies never have all their logits in memory.
    if (head instanceof Embedding || isPlain(head))
      return linearCrossEntropy(scale === undefined ? answers : answers.mul(scale), head.weight, targets);
    return crossEntropy(this.logits(answers), targets);
  }

  /** An empty cache for `batch` sequences of up to `capacity` tokens. */
  cache(batch: number, capacity: number, dtype?: CacheType): KVCache {
    const { num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: kvHeads = heads } = this.config;
    return new KVCache({ layers, kvHeads, headDim: headDim(this.config), dtype }, batch, capacity);
  }
}

const architectures = ["llama", "qwen2", "mistral", "mplug_owl2", "llava_llama", "llava"];

function checkConfig(config: LlamaConfig & { use_sliding_window?: boolean }): void {
  const {
    model_type: type = "llama",
    hidden_size: d,
    num_attention_heads: heads,
    num_key_value_heads: kv = heads,
  } = config;
  if (!architectures.includes(type))
    throw new Error(`Llama: model_type "${type}" is not supported; known are ${architectures.join(", ")}`);
  if (config.use_sliding_window) throw new Error("Llama: use_sliding_window of Qwen2 is not supported");
  if (config.head_dim === undefined && d % heads)
    throw new RangeError(`Llama: ${heads} heads do not divide hidden size ${d}`);
  if (headDim(config) % 2) throw new RangeError(`Llama: head_dim ${headDim(config)} must be even for rotary positions`);
  if (heads % kv) throw new RangeError(`Llama: ${kv} key/value heads do not divide ${heads} heads`);
}

/** A decoder alone: LLaMA, or a model of the same maths. */
export async function loadLlama(where: string | FileSource, options?: LoadOptions): Promise<LlamaForCausalLM> {
  const source = await openFolder(where);
  const { config: given, tensors } = await openCheckpoint(source);
  const config = { ...llamaDefaults, ...given };
  const renames: Rename[] = config.tie_word_embeddings ? [[/^lm_head\./, null]] : [];
  return loadModel(source, () => new LlamaForCausalLM(config), [tensors], renames, options);
}
