/**
 * LLaMA and Qwen2 from GGUF files: converts llama.cpp's names, metadata and order of rotary channels to those of Hugging Face.
 * Quantised blocks of ggml are dequantised; the option `dtype` quantises them again.
 */

import { type FileSource, type HostTensor, openFolder, TensorFiles } from "../../src/io/index.ts";
import { sentencePieceJson, Tokenizer, type TokenizerJson } from "../../src/text/index.ts";
import type { LlamaConfig } from "../llama.ts";
import type { RopeScaling } from "../rope.ts";
import { type Rename, rename, type Sources } from "./load.ts";

type Metadata = Readonly<Record<string, any>>;

const names: Rename[] = [
  [/^rope_freqs\.weight$/, null], // divisors of the frequencies: part of the config here
  [/^token_embd\./, "model.embed_tokens."],
  [/^output_norm\./, "model.norm."],
  [/^output\./, "lm_head."],
  [/^blk\.(\d+)\.attn_norm\./, "model.layers.$1.input_layernorm."],
  [/^blk\.(\d+)\.ffn_norm\./, "model.layers.$1.post_attention_layernorm."],
  [/^blk\.(\d+)\.attn_([qkv])\./, "model.layers.$1.self_attn.$2_proj."],
  [/^blk\.(\d+)\.attn_output\./, "model.layers.$1.self_attn.o_proj."],
  [/^blk\.(\d+)\.ffn_(gate|up|down)\./, "model.layers.$1.mlp.$2_proj."],
];

/** Opens a .gguf file: `where` is its path or URL, or the folder with `file`. */
export async function openGguf(where: string | FileSource, file?: string): Promise<TensorFiles> {
  if (typeof where !== "string") {
    if (!file) throw new Error(`${where.location}: say which .gguf file to load (file)`);
    return TensorFiles.open(where, file);
  }
  const slash = where.lastIndexOf("/");
  return TensorFiles.open(await openFolder(where.slice(0, slash) || (slash === 0 ? "/" : ".")), where.slice(slash + 1));
}

/** Config, tensors and tokenizer of a GGUF file, in the layout of Hugging Face. */
export async function readGguf(where: string | FileSource, file?: string) {
  const tensors = await openGguf(where, file);
  const config = await configOf(tensors);
  const sources: Sources = new Map(
    tensors.names.flatMap((name) => {
      const target = rename(name, names);
      const heads = rotaryHeads(name, config);
      const change = heads ? (values: HostTensor) => halvesOfPairs(values, heads) : undefined;
      return target === null ? [] : [[target, { file: tensors, name, change }] as const];
    }),
  );
  return { config, sources, tokenizer: tokenizerOf(tensors.metadata, tensors.location) };
}

/** The metadata as a config.json. */
async function configOf(tensors: TensorFiles): Promise<LlamaConfig> {
  const { metadata, location } = tensors;
  const type = metadata["general.architecture"];
  if (type !== "llama" && type !== "qwen2")
    throw new Error(`${location}: general.architecture "${type}" is not supported; known are llama, qwen2`);
  const get = (key: string) => metadata[`${type}.${key}`];
  const need = (key: string): number =>
    get(key) ??
    (() => {
      throw new Error(`${location}: the metadata lack ${type}.${key}`);
    })();
  const embedding = "token_embd.weight";
  if (!tensors.has(embedding)) throw new Error(`${location}: there is no tensor ${embedding}`);
  return {
    model_type: type,
    vocab_size: tensors.entry(embedding).shape[0],
    hidden_size: need("embedding_length"),
    intermediate_size: need("feed_forward_length"),
    num_hidden_layers: need("block_count"),
    num_attention_heads: need("attention.head_count"),
    num_key_value_heads: get("attention.head_count_kv") ?? need("attention.head_count"),
    ...(get("attention.key_length") && { head_dim: get("attention.key_length") }),
    rms_norm_eps: need("attention.layer_norm_rms_epsilon"),
    rope_theta: get("rope.freq_base") ?? 10000,
    rope_scaling: await ropeScaling(tensors, get),
    max_position_embeddings: get("context_length") ?? 2048,
    tie_word_embeddings: !tensors.has("output.weight"),
    attention_bias: type === "llama" && tensors.has("blk.0.attn_q.bias"),
    bos_token_id: metadata["tokenizer.ggml.bos_token_id"],
    eos_token_id: metadata["tokenizer.ggml.eos_token_id"],
  };
}

async function ropeScaling(tensors: TensorFiles, get: (key: string) => any): Promise<RopeScaling | null> {
  if (tensors.has("rope_freqs.weight")) {
    const { data } = await tensors.read("rope_freqs.weight");
    return { rope_type: "factors", factors: Array.from(data) };
  }
  const type = get("rope.scaling.type") ?? "none";
  if (type === "none") return null;
  if (type !== "linear") throw new Error(`${tensors.location}: rope scaling "${type}" is not supported; linear is`);
  return { rope_type: "linear", factor: get("rope.scaling.factor") };
}

/** Number of heads of a tensor whose rows llama.cpp orders in rotary pairs. Qwen2 keeps the order of Hugging Face. */
function rotaryHeads(name: string, config: LlamaConfig): number | undefined {
  const which = /^blk\.\d+\.attn_([qk])\./.exec(name)?.[1];
  if (!which || config.model_type !== "llama") return undefined;
  return which === "q" ? config.num_attention_heads : config.num_key_value_heads;
}

/** Moves rows (2j, 2j + 1) of each head to (j, j + D/2): from pairs of adjacent rows to the two halves that `rope` rotates. */
function halvesOfPairs({ data, shape, dtype }: HostTensor, heads: number): HostTensor {
  const rows = shape[0];
  const [size, width] = [rows / heads, data.length / rows];
  const out = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    const [head, i] = [Math.floor(row / size), row % size];
    const to = head * size + (i % 2) * (size / 2) + (i >> 1);
    out.set(data.subarray(row * width, (row + 1) * width) as Float32Array, to * width);
  }
  return { data: out, shape, dtype };
}

/** Patterns that byte-level vocabularies split text with, by `tokenizer.ggml.pre`. */
const words = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const cuts: Readonly<Record<string, string | null>> = {
  "llama-bpe": words("\\p{N}{1,3}"),
  qwen2: words("\\p{N}"),
  "gpt-2": null,
  default: null,
};

/** The tokenizer in the metadata, or undefined. */
function tokenizerOf(metadata: Metadata, where: string): Tokenizer | undefined {
  const get = (key: string) => metadata[`tokenizer.ggml.${key}`];
  const [kind, tokens] = [get("model"), get("tokens") as string[] | undefined];
  if (!kind || !tokens) return undefined;
  const types: number[] = get("token_type") ?? tokens.map(() => 1);
  const token = (id: number | undefined) => (id === undefined ? undefined : tokens[id]);
  const config = {
    chat_template: metadata["tokenizer.chat_template"],
    bos_token: token(get("bos_token_id")),
    eos_token: token(get("eos_token_id")),
    add_bos_token: get("add_bos_token") ?? kind === "llama",
    add_eos_token: get("add_eos_token") ?? false,
  };
  const scores: number[] = get("scores") ?? tokens.map(() => 0);
  const pieces = tokens.map((text, id) => ({ text, score: scores[id], type: types[id] }));
  const plain = { dummyPrefix: get("add_space_prefix") ?? true, removeExtraSpaces: false, charsMap: new Uint8Array() };
  const json = sentencePieceJson({ kind: "bpe", pieces, ...plain }, config);
  if (kind === "llama") return new Tokenizer(json, config);
  if (kind !== "gpt2")
    throw new Error(`${where}: tokenizer.ggml.model "${kind}" is not supported; known are llama, gpt2`);
  const pre = get("pre") ?? "default";
  if (!(pre in cuts))
    throw new Error(
      `${where}: tokenizer.ggml.pre "${pre}" is not supported; known are ${Object.keys(cuts).join(", ")}`,
    );
  return new Tokenizer(byteLevel(json, get("merges"), cuts[pre]), config);
}

/** The byte-level tokenizer with the same tokens, and its own merges. */
function byteLevel(json: TokenizerJson, merges: string[], pattern: string | null): TokenizerJson {
  const bytes = { type: "ByteLevel", add_prefix_space: false, use_regex: pattern === null };
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  const { vocab } = json.model;
  return {
    ...json,
    normalizer: null,
    pre_tokenizer: pattern === null ? bytes : { type: "Sequence", pretokenizers: [split, bytes] },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab, merges, ignore_merges: pattern !== null, byte_fallback: false },
  };
}
