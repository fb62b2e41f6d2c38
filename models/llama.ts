/**
 * LLaMA: a decoder of pre-norm blocks with RMSNorm, rotary positions, grouped-query attention and SwiGLU
 * (arXiv 2302.13971, 2307.09288). Weight names, config keys and maths are those of Hugging Face. Mistral, Qwen2 and
 * mPLUG-Owl2 are subclasses in their own files.
 */
import { type CacheType, type CausalLM, KVCache } from "../src/generate/index.ts";
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
} from "../src/index.ts";
import { type Activation, activation, Embedding, Linear, Module, RMSNorm } from "../src/nn/index.ts";
import { answerRows, ids2d, positionsOf, requireHost } from "./batch.ts";
import { inverseFrequencies, type RopeScaling } from "./rope.ts";

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
  mlp_bias?: boolean;
  /** Mistral: a token sees itself and the sliding_window - 1 tokens before it; null or absent = all. */
  sliding_window?: number | null;
  /** Logits are multiplied by this (default 1). */
  logit_scale?: number;
  bos_token_id?: number;
  eos_token_id?: number | number[];
  pad_token_id?: number | null;
}

/** Input of one forward pass: either `inputIds` or `inputsEmbeds`. */
export interface DecoderInput {
  inputIds?: Tensor; // i32 [B, T]
  inputsEmbeds?: Tensor; // f32 [B, T, D]
  /** Position of each token for the rotary embedding, i32 [B, T]. Default: the number of earlier tokens that it sees. */
  positions?: Tensor;
  /**
   * Which tokens see each other, i32 [B, T]: a token sees earlier tokens of segment 0 and of its own segment. Question
   * and answer pairs about one image are segments 1, 2, … after it; padding is -1. Default: one causal sequence.
   */
  segments?: Tensor;
  /** Positions of image features, bool [B, T], for parts that depend on it (mPLUG-Owl2). Default: none. */
  modality?: Tensor;
  /** Keys and values of earlier tokens; the new ones are added. Excludes `segments`. */
  cache?: KVCache;
}

/** A norm or a projection of a block. Plain layers ignore `modality`, bool [B, T, 1]. */
export interface DecoderPart extends Module {
  forward(x: Tensor, modality?: Tensor): Tensor;
}

/** The differences of a decoder family from LLaMA. */
export interface DecoderFamily {
  /** The `model_type` of its configs. */
  readonly type: string;
  /** Biases on q, k and v, whatever `attention_bias` says. */
  readonly qkvBias?: boolean;
  /** A token sees this many tokens, itself included. Default: all. */
  readonly window?: number;
  /** Makes the norms before attention and MLP. Default: RMSNorm. */
  readonly norm?: (make: () => RMSNorm) => DecoderPart;
  /** Makes the projections of keys and values. Default: Linear. */
  readonly keyValue?: (make: () => Linear) => DecoderPart;
}

const headDim = (config: LlamaConfig): number => config.head_dim ?? config.hidden_size / config.num_attention_heads;

/** Inputs of one forward pass that all layers share. */
interface Context {
  positions: Tensor; // i32 [B, T]
  frequencies: Tensor; // [head_dim / 2]
  mask?: Tensor; // bool [B, 1, T, T]
  modality?: Tensor; // bool [B, T, 1]
  cache?: KVCache;
  window?: number;
}

class LlamaAttention extends Module {
  q_proj: Linear;
  k_proj: DecoderPart;
  v_proj: DecoderPart;
  o_proj: Linear;
  readonly #heads: number;
  readonly #kvHeads: number;
  readonly #headDim: number;

  constructor(
    config: LlamaConfig,
    { qkvBias = false, keyValue = (make) => make() }: DecoderFamily,
    readonly layer: number,
  ) {
    super();
    const { hidden_size: d, num_attention_heads: heads, num_key_value_heads: kv = heads } = config;
    const { attention_bias: bias = false } = config;
    this.#heads = heads;
    this.#kvHeads = kv;
    this.#headDim = headDim(config);
    const qkv = { bias: bias || qkvBias };
    this.q_proj = new Linear(d, heads * this.#headDim, qkv);
    this.k_proj = keyValue(() => new Linear(d, kv * this.#headDim, qkv));
    this.v_proj = keyValue(() => new Linear(d, kv * this.#headDim, qkv));
    this.o_proj = new Linear(heads * this.#headDim, d, { bias });
  }

  forward(x: Tensor, { positions, frequencies, mask, modality, cache, window }: Context): Tensor {
    const [b, t] = x.shape;
    const split = (y: Tensor, heads: number) => y.reshape([b, t, heads, this.#headDim]).transpose(1, 2); // [B, H, T, D/H]
    const rotate = (y: Tensor) => rope(y, positions, { inverseFrequencies: frequencies });
    const q = rotate(split(this.q_proj.forward(x), this.#heads));
    const k = rotate(split(this.k_proj.forward(x, modality), this.#kvHeads));
    const v = split(this.v_proj.forward(x, modality), this.#kvHeads);
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
  input_layernorm: DecoderPart;
  post_attention_layernorm: DecoderPart;

  constructor(config: LlamaConfig, family: DecoderFamily, layer: number) {
    super();
    const { norm = (make) => make() } = family;
    this.self_attn = new LlamaAttention(config, family, layer);
    this.mlp = new LlamaMLP(config);
    this.input_layernorm = norm(() => new RMSNorm(config.hidden_size, config.rms_norm_eps));
    this.post_attention_layernorm = norm(() => new RMSNorm(config.hidden_size, config.rms_norm_eps));
  }

  forward(x: Tensor, context: Context): Tensor {
    const { modality } = context;
    const y = x.add(this.self_attn.forward(this.input_layernorm.forward(x, modality), context)); // [B, T, D]
    return y.add(this.mlp.forward(this.post_attention_layernorm.forward(y, modality)));
  }
}

class LlamaModel extends Module {
  embed_tokens: Embedding;
  layers: LlamaLayer[];
  norm: RMSNorm;
  /** Backward computes each layer again instead of keeping its activations: less memory, a third more work. */
  checkpointing = false;
  /** Dtype of the activations without a cache. f16 takes half the memory, and its gradients need a `LossScaler`. */
  activations: "f32" | "f16" = "f32";
  readonly window?: number;
  readonly #frequencies: Tensor; // follows from the config: no part of the state

  constructor(
    readonly config: LlamaConfig,
    family: DecoderFamily,
  ) {
    super();
    this.window = family.window;
    this.#frequencies = tensor(inverseFrequencies(config));
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new LlamaLayer(config, family, i));
    this.norm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
  }

  /** Token ids, i32 [B, T], to embeddings, f32 [B, T, D]. @throws if an id from the host is outside the vocabulary. */
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

  /** Hidden states, each [B, T, D]: the embedding, then each layer's output, the last one normalised. */
  forward(input: DecoderInput): Tensor[] {
    const { inputIds, inputsEmbeds, segments, cache } = input;
    if (!inputIds === !inputsEmbeds) throw new Error("Llama: give either inputIds or inputsEmbeds");
    if (segments && cache) throw new Error("Llama: segments cannot be combined with a cache");
    const x = inputsEmbeds ?? this.embed(inputIds!);
    const [b, t, d] = x.shape;
    if (x.ndim !== 3 || d !== this.config.hidden_size) {
      throw new Error(`Llama: embeddings have shape [${x.shape}], expected [B,T,${this.config.hidden_size}]`);
    }
    const seen =
      segments && !input.positions && positionsOf(Int32Array.from(requireHost("Llama", "segments", segments)), t);
    const positions = seen ? ids2d(b, seen) : cache ? cache.begin(b, t) : arange(t).expand([b, t]);
    const context: Context = {
      positions: input.positions ?? positions,
      frequencies: this.#frequencies,
      mask: segments && together(segments),
      modality: input.modality?.reshape([b, t, 1]),
      cache,
      window: this.window,
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

/** Keys that a query may see besides the causal order: those of segment 0 and of its own, bool [B, 1, T, T]. */
function together(segments: Tensor): Tensor {
  const [b, t] = segments.shape;
  const keys = segments.reshape([b, 1, 1, t]);
  return keys.eq(0).logicalOr(keys.eq(segments.reshape([b, 1, t, 1])));
}

/** LLaMA with its output layer. `languageModel(config)` makes the class that `model_type` names. */
export class LlamaForCausalLM extends Module implements CausalLM {
  model: LlamaModel;
  /** Absent when the embedding table is the output layer too. */
  lm_head?: Linear;
  /** Ids that end a generated text. Default: the config's. */
  eosTokenId?: number | readonly number[];

  constructor(
    readonly config: LlamaConfig,
    family: DecoderFamily = { type: "llama" },
  ) {
    super();
    checkConfig(config, family);
    this.model = new LlamaModel(config, family);
    if (!config.tie_word_embeddings) this.lm_head = new Linear(config.hidden_size, config.vocab_size, { bias: false });
  }

  /** logits [B, T, V] and all hidden states, each [B, T, D]. */
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
    // A plain output layer is fused with the loss, part by part: the logits are never in memory all at once.
    if (head instanceof Embedding || (head instanceof Linear && !head.bias && !head.lora))
      return linearCrossEntropy(scale === undefined ? answers : answers.mul(scale), head.weight, targets);
    return crossEntropy(this.logits(answers), targets);
  }

  /** An empty cache for `batch` sequences of up to `capacity` tokens. */
  cache(batch: number, capacity: number, dtype?: CacheType): KVCache {
    const { num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: kvHeads = heads } = this.config;
    return new KVCache({ layers, kvHeads, headDim: headDim(this.config), dtype }, batch, capacity);
  }
}

function checkConfig(config: LlamaConfig, { type }: DecoderFamily): void {
  const { hidden_size: d, num_attention_heads: heads, num_key_value_heads: kv = heads } = config;
  if ((config.model_type ?? type) !== type)
    throw new Error(
      `Llama: a config of model_type "${config.model_type}" for a decoder of type "${type}"; languageModel(config) chooses by model_type`,
    );
  if (config.head_dim === undefined && d % heads)
    throw new RangeError(`Llama: ${heads} heads do not divide hidden size ${d}`);
  if (headDim(config) % 2) throw new RangeError(`Llama: head_dim ${headDim(config)} must be even for rotary positions`);
  if (heads % kv) throw new RangeError(`Llama: ${kv} key/value heads do not divide ${heads} heads`);
}
