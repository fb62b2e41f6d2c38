import { beforeAll, describe, expect, test } from "vitest";
import { languageModel } from "../../models/language.ts";
import type { LlamaForCausalLM } from "../../models/llama.ts";
import { loadGguf } from "../../models/registry.ts";
import { inverseFrequencies } from "../../models/rope.ts";
import { toHalf } from "../../src/graph/dtype.ts";
import { manualSeed, tensor } from "../../src/index.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { trainBPE } from "../../src/text/bpe.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";
import { type GgufTensor, type GgufValue, ggufFile } from "../io/gguf.ts";
import { openBackend } from "../support/backend.ts";
import { llama2Json } from "../support/llama2-tokens.ts";

beforeAll(async () => {
  await openBackend();
});

const config = {
  model_type: "llama",
  vocab_size: 40,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  rope_theta: 5000,
};

const metadata = (type: string): Record<string, GgufValue> => ({
  "general.architecture": type,
  [`${type}.embedding_length`]: 64,
  [`${type}.feed_forward_length`]: 96,
  [`${type}.block_count`]: 2,
  [`${type}.attention.head_count`]: 4,
  [`${type}.attention.head_count_kv`]: 2,
  [`${type}.attention.layer_norm_rms_epsilon`]: [6, 1e-5],
  [`${type}.rope.freq_base`]: [6, 5000],
  [`${type}.context_length`]: 128,
});

const gguf: Record<string, string> = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  lm_head: "output",
  input_layernorm: "attn_norm",
  post_attention_layernorm: "ffn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

function ggufName(name: string): string {
  const [, layer, part, kind] = /^(?:model\.layers\.(\d+)\.)?(.*)\.(weight|bias)$/.exec(name)!;
  return `${layer ? `blk.${layer}.` : ""}${gguf[part]}.${kind}`;
}

/** What llama.cpp's converter does: reshape(heads, 2, D/2, ...).swapaxes(1, 2). */
function pairs(data: Float32Array, rows: number, heads: number): Float32Array {
  const [width, half] = [data.length / rows, rows / heads / 2];
  const out: number[] = [];
  for (let h = 0; h < heads; h++)
    for (let j = 0; j < half; j++)
      for (let s = 0; s < 2; s++) {
        const row = (h * 2 + s) * half + j;
        out.push(...data.subarray(row * width, (row + 1) * width));
      }
  return Float32Array.from(out);
}

function q8(data: Float32Array): Uint8Array {
  const out: number[] = [];
  for (let i = 0; i < data.length; i += 32) {
    const block = data.subarray(i, i + 32);
    const scale = Math.max(...block.map(Math.abs)) / 127;
    const bits = toHalf(scale);
    out.push(bits & 255, bits >> 8, ...Array.from(block, (x) => Math.round(x / (scale || 1)) & 255));
  }
  return Uint8Array.from(out);
}

async function stored(model: LlamaForCausalLM, type: "llama" | "qwen2", quantised: boolean): Promise<GgufTensor[]> {
  const tensors: GgufTensor[] = [];
  for (const [name, t] of Object.entries(model.stateDict())) {
    let data = (await t.data()) as Float32Array;
    if (type === "llama" && /[qk]_proj/.test(name)) data = pairs(data, t.shape[0], name.includes("q_proj") ? 4 : 2);
    const block = quantised && t.ndim === 2;
    const bytes = block ? q8(data) : new Uint8Array(data.slice().buffer);
    tensors.push({ name: ggufName(name), shape: [...t.shape], type: block ? 8 : 0, bytes });
  }
  return tensors;
}

const place = (bytes: Uint8Array) => memoryFiles(new Map([["m.gguf", bytes]]));
const logits = async (model: LlamaForCausalLM) => {
  const inputIds = tensor([[3, 1, 4, 1, 5, 9, 2, 6]], { dtype: "i32" });
  return (await model.forward({ inputIds }).logits.data()) as Float32Array;
};

describe("GGUF models", () => {
  test.each([
    ["llama", false],
    ["llama", true], // tied
    ["qwen2", false],
  ] as const)("%s (tied %s): the same logits as the model that was written", async (type, tied) => {
    manualSeed(3);
    const model = languageModel({ ...config, model_type: type, tie_word_embeddings: tied });
    const files = place(ggufFile(metadata(type), await stored(model, type, false)));
    const { model: read, tokenizer } = await loadGguf(files, { file: "m.gguf" });
    expect(tokenizer).toBeUndefined();
    expect(await logits(read)).toEqual(await logits(model));
    expect(read.config.tie_word_embeddings).toBe(tied);
  });

  test("Q8_0 and the factors of rotary frequencies", async () => {
    manualSeed(4);
    const factors = Array.from({ length: 8 }, (_, i) => 1 + i / 4);
    const model = languageModel({ ...config, rope_scaling: { rope_type: "factors", factors } });
    const freqs = {
      name: "rope_freqs.weight",
      shape: [8],
      type: 0,
      bytes: new Uint8Array(Float32Array.from(factors).buffer),
    };
    const tensors = [freqs, ...(await stored(model, "llama", true))];
    const { model: read } = await loadGguf(place(ggufFile(metadata("llama"), tensors)), { file: "m.gguf" });
    const [got, want] = [await logits(read), await logits(model)];
    const norm = (x: ArrayLike<number>) => Math.hypot(...Array.from(x));
    expect(norm(got.map((x, i) => x - want[i])) / norm(want)).toBeLessThan(0.02);
    expect(inverseFrequencies(read.config)).toEqual(inverseFrequencies(model.config));
    expect(inverseFrequencies(read.config)[7]).toBeCloseTo(inverseFrequencies(config)[7] / 2.75, 8);
  });

  test("what does not fit is named", async () => {
    const model = languageModel(config);
    const tensors = await stored(model, "llama", false);
    const without = tensors.filter(({ name }) => name !== "output_norm.weight");
    const load = (meta: Record<string, GgufValue>, all = tensors) =>
      loadGguf(place(ggufFile(meta, all)), { file: "m.gguf" });
    await expect(load({ ...metadata("llama"), "general.architecture": "mamba" })).rejects.toThrow(
      /general.architecture "mamba" is not supported; known are llama, qwen2/,
    );
    const { "llama.block_count": _, ...less } = metadata("llama");
    await expect(load(less)).rejects.toThrow("the metadata lack llama.block_count");
    await expect(load(metadata("llama"), tensors.slice(1))).rejects.toThrow("there is no tensor token_embd.weight");
    await expect(load(metadata("llama"), without)).rejects.toThrow("missing model.norm.weight [64]");
    await expect(loadGguf(memoryFiles())).rejects.toThrow("say which .gguf file to load");
  });
});

describe("GGUF tokenizers", () => {
  const read = async (meta: Record<string, GgufValue>) => {
    const model = languageModel(config);
    const file = ggufFile({ ...metadata("llama"), ...meta }, await stored(model, "llama", false));
    return (await loadGguf(place(file), { file: "m.gguf" })).tokenizer!;
  };
  const texts = ["Hello world", "  two  spaces", "été 漢字 🙂\n\tx", "it's 12345 红苹果"];

  test("SentencePiece: tokens, scores and types", async () => {
    const json = llama2Json();
    const merges = json.model.merges as string[];
    const rank = new Map(merges.map((merge, i): [string, number] => [merge.replace(" ", ""), i]).reverse());
    const tokens = Object.entries(json.model.vocab as Record<string, number>)
      .sort((a, b) => a[1] - b[1])
      .map(([token]) => token);
    const tokenizer = await read({
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.scores": Float32Array.from(tokens, (t, id) =>
        id < 259 ? 0 : -(rank.get(t) ?? merges.length + id),
      ),
      "tokenizer.ggml.token_type": Int32Array.from(tokens, (_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1)),
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.eos_token_id": 2,
      "tokenizer.chat_template": "{{ bos_token }}{{ messages[0].content }}",
    });
    const want = new Tokenizer(json);
    for (const text of texts) expect(tokenizer.encode(text)).toEqual(want.encode(text));
    expect(tokenizer.applyChatTemplate([{ role: "user", content: "x" }])).toBe("<s>x");
  });

  test("byte-level BPE: tokens and merges", async () => {
    const corpus: [string, number][] = [
      ["Hello world it's 12345 words", 9],
      ["红苹果", 5],
    ];
    const json = trainBPE(corpus, { vocabSize: 300, specialTokens: ["<|end|>"] });
    const tokens: string[] = [];
    for (const [token, id] of Object.entries(json.model.vocab as Record<string, number>)) tokens[id] = token;
    const meta = {
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.token_type": Int32Array.from(tokens, (_, id) => (id === 0 ? 3 : 1)),
      "tokenizer.ggml.merges": json.model.merges as string[],
    };
    const [plain, want] = [await read(meta), new Tokenizer(json)];
    for (const text of [...texts, "a<|end|>b"]) expect(plain.encode(text)).toEqual(want.encode(text));
    const llama3 = await read({ ...meta, "tokenizer.ggml.pre": "llama-bpe" });
    expect(llama3.decode(llama3.encode("12345"))).toBe("12345");
    expect(llama3.encode("12345").length).toBeGreaterThanOrEqual(plain.encode("12345").length);
    await expect(read({ ...meta, "tokenizer.ggml.pre": "odd" })).rejects.toThrow(
      'tokenizer.ggml.pre "odd" is not supported',
    );
  });
});
