import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { beforeAll, describe, expect, test } from "vitest";
import { type LoadProgress, loadWeights, saveModel } from "../../models/checkpoints/load.ts";
import { loadProjector, saveProjector } from "../../models/checkpoints/projector.ts";
import { loadLlama } from "../../models/language.ts";
import { LlamaForCausalLM } from "../../models/llama.ts";
import { Llava } from "../../models/llava.ts";
import { fromPretrained } from "../../models/registry.ts";
import { init, type Tensor, tensor } from "../../src/index.ts";
import { openWeights } from "../../src/io/huggingface.ts";
import { browserFiles, type FileSource, httpFiles, memoryFiles } from "../../src/io/source.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { saveTorch } from "../../src/io/torch.ts";
import { Linear, Module, QuantizedLinear, QuantizedWeight, setParameter, withoutInit } from "../../src/nn/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { trainBPE } from "../../src/text/bpe.ts";
import { goldenPath } from "./goldens.ts";

beforeAll(async () => {
  await init();
});

const golden = (name: string): FileSource => folder(goldenPath("models", name, "model")!);
const longNames = Array.from({ length: 400 }, (_, i) => `<${i}>`);

/** A decoder with everything that LLaMA has, small. */
const config = {
  model_type: "llama",
  vocab_size: 40,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};

async function savedLlama(): Promise<ReturnType<typeof memoryFiles>> {
  const files = memoryFiles();
  await saveModel(new LlamaForCausalLM(config), config, files);
  return files;
}

const ids = () => tensor([[3, 1, 4, 1, 5, 9, 2, 6]], { dtype: "i32" });
const logits = async (model: LlamaForCausalLM) =>
  (await model.forward({ inputIds: ids() }).logits.data()) as Float32Array;

describe("sources", () => {
  test("a URL, read by ranges alone, and a browser's files give the folder's model", async () => {
    const files = await savedLlama();
    const want = await logits(await loadLlama(files));
    const longest: number[] = [];
    const server = createServer((request, response) => {
      const bytes = files.files.get(decodeURIComponent(request.url!.slice("/models/".length)));
      if (!bytes) return void response.writeHead(404).end();
      const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? "");
      const part = range ? bytes.subarray(Number(range[1]), range[2] ? Number(range[2]) + 1 : undefined) : bytes;
      if (request.method !== "HEAD") longest.push(part.length);
      response.writeHead(range ? 206 : 200, { "content-length": part.length });
      response.end(request.method === "HEAD" ? undefined : part);
    });
    await new Promise<void>((ready) => server.listen(0, ready));
    try {
      const url = `http://localhost:${(server.address() as AddressInfo).port}/models`;
      expect(await logits(await loadLlama(url))).toEqual(want);
      expect(Math.max(...longest)).toBeLessThan(files.files.get("model.safetensors")!.length / 2);
    } finally {
      server.close();
    }
    const chosen = [...files.files].map(([path, bytes]) => new File([bytes as never], path));
    expect(await logits(await loadLlama(browserFiles(chosen)))).toEqual(want);
    const nested = chosen.map((file) => Object.assign(file, { webkitRelativePath: `tiny/${file.name}` }));
    expect(await logits(await loadLlama(browserFiles(nested)))).toEqual(want);
    await expect(browserFiles(chosen).read("x")).rejects.toThrow("chosen files: there is no file x; there are");
  });

  test("a server that is not there is named", async () => {
    await expect(loadLlama("http://127.0.0.1:1/model")).rejects.toThrow(/^http:\/\/127.0.0.1:1\/model\/config.json: ./);
  });

  test("a server without range requests serves small files and refuses large ones", async () => {
    let length = 1000;
    const server = createServer((_, response) => {
      response.writeHead(200, { "content-length": length });
      response.end(new Uint8Array(length));
    });
    await new Promise<void>((ready) => server.listen(0, ready));
    try {
      const files = httpFiles(`http://localhost:${(server.address() as AddressInfo).port}`);
      expect((await files.read("x", 10, 30)).length).toBe(20);
      length = 17 << 20;
      await expect(files.read("x", 10, 30)).rejects.toThrow(/ignores range requests/);
    } finally {
      server.close();
    }
  });

  test("pytorch_model.bin loads as the safetensors file does", async () => {
    const files = await savedLlama();
    const model = await loadLlama(files);
    const entries = Object.entries(model.stateDict()).map(([name, t]) => [
      name,
      { shape: t.shape, dtype: t.dtype, read: () => t.data() },
    ]);
    await saveTorch(files, "pytorch_model.bin", Object.fromEntries(entries));
    files.files.delete("model.safetensors");
    expect(await logits(await loadLlama(files))).toEqual(await logits(model));
  });
});

describe("weights kept in fewer bits", () => {
  test("f16: matrices are halves, on the device and in the file", async () => {
    const files = memoryFiles();
    await saveModel(new LlamaForCausalLM(config), config, files, { float: "F16" });
    const full = await loadLlama(files);
    const half = await loadLlama(files, { dtype: "f16" });
    expect(half.model.layers[0].self_attn.q_proj.weight.dtype).toBe("f16");
    expect(half.model.norm.weight.dtype).toBe("f32");
    const [want, got] = [await logits(full), await logits(half)];
    got.forEach((x, i) => expect(Math.abs(x - want[i])).toBeLessThan(2e-3));
    const saved = memoryFiles();
    await saveModel(half, config, saved);
    expect(saved.files.get("model.safetensors")).toEqual(files.files.get("model.safetensors"));
  });

  test.each(["int8", "int4", "nf4"] as const)("%s: decoder layers are quantised while they are read", async (dtype) => {
    const files = await savedLlama();
    const model = await loadLlama(files, { dtype, group: 32 });
    const quantised = [...model.namedModules()].filter(([, module]) => module instanceof QuantizedLinear);
    expect(quantised.length).toBe(14);
    expect(model.lm_head).toBeInstanceOf(Linear);
    const [want, got] = [await logits(await loadLlama(files)), await logits(model)];
    const norm = (x: ArrayLike<number>) => Math.hypot(...Array.from(x));
    const error = norm(got.map((x, i) => x - want[i])) / norm(want);
    expect(error).toBeLessThan(dtype === "int8" ? 0.02 : 0.25);
    expect(error).toBeGreaterThan(0);
    const saved = memoryFiles();
    await saveModel(model, config, saved);
    const [names, was] = [await openWeights(saved), await openWeights(files)];
    expect([...names.names].sort()).toEqual([...was.names].sort());
    expect(names.entry("model.layers.0.mlp.up_proj.weight").dtype).toBe("F32");
    const dense = await logits(await loadLlama(saved));
    dense.forEach((x, i) => expect(Math.abs(x - got[i])).toBeLessThan(1e-2));
  });
});

test.each(["f32", "int4"] as const)("weights larger than a binding, kept as %s", async (dtype) => {
  const limits = { maxStorageBufferBindingSize: 1 << 16 };
  const large = { ...config, vocab_size: 1500, intermediate_size: 4500, num_hidden_layers: 1 };
  const files = memoryFiles();
  await saveModel(new LlamaForCausalLM(large), large, files);
  const said = async () => {
    const model = await loadLlama(files, { dtype });
    const { embed_tokens: words, layers } = model.model;
    const { weight } = layers[0].mlp.gate_proj;
    const own = weight instanceof QuantizedWeight ? weight.packed : weight;
    expect(Math.min(words.weight.numel, own.numel) * 4).toBeGreaterThan(1 << 16);
    return logits(model);
  };
  const want = await said();
  await init({ limits });
  try {
    expect(currentDevice()?.info.maxBindingBytes ?? 1 << 16).toBe(1 << 16);
    const got = await said();
    const worst = Math.max(...got.map((x, i) => Math.abs(x - want[i])));
    expect(worst / Math.max(...want.map(Math.abs))).toBeLessThan(1e-4);
  } finally {
    await init();
  }
});

class Stack extends Module {
  layers: Linear[];
  constructor(readonly count: number) {
    super();
    this.layers = Array.from({ length: count }, () => new Linear(1024, 1024, { bias: false }));
  }
}

describe("a large file", () => {
  test("goes to the GPU tensor by tensor: the host never holds more than a few", async () => {
    const [count, each] = [64, 1024 * 1024 * 4]; // 256 MiB
    const header = Object.fromEntries(
      Array.from({ length: count }, (_, i) => [
        `layers.${i}.weight`,
        { dtype: "F32", shape: [1024, 1024], data_offsets: [i * each, (i + 1) * each] },
      ]),
    );
    const text = new TextEncoder().encode(JSON.stringify(header));
    const head = new Uint8Array(8 + text.length);
    new DataView(head.buffer).setBigUint64(0, BigInt(text.length), true);
    head.set(text, 8);
    let peak = 0;
    const source: FileSource = {
      location: "counting",
      size: async () => head.length + count * each,
      read: async (_, start = 0, end = head.length) => {
        const { arrayBuffers, heapUsed } = process.memoryUsage();
        peak = Math.max(peak, arrayBuffers + heapUsed);
        if (end <= head.length) return head.subarray(start, end);
        return new Uint8Array(new Float32Array((end - start) / 4).fill((start - head.length) / each + 1).buffer);
      },
    };
    const model = withoutInit(() => new Stack(count));
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    const seen: LoadProgress[] = [];
    const file = await TensorFiles.open(source, "model.safetensors");
    await loadWeights(model, [file], [], { onProgress: (progress) => seen.push(progress) });
    expect(seen.length).toBe(count);
    expect(seen.at(-1)).toMatchObject({
      tensors: count,
      totalTensors: count,
      bytes: count * each,
      totalBytes: count * each,
    });
    expect(seen.at(-1)!.bytesPerSecond).toBeGreaterThan(1e6);
    const at = (t: Tensor) => t.narrow(0, 1023, 1).narrow(1, 1023, 1).data();
    expect([...(await at(model.layers[0].weight)), ...(await at(model.layers[63].weight))]).toEqual([1, 64]);
    if (currentDevice()) expect(peak - arrayBuffers - heapUsed).toBeLessThan(100 << 20);
  });
});

describe.skipIf(!goldenPath("models"))("a quantised model of the original layout", () => {
  test("is written under the names it came with", async () => {
    const source = golden("llava-original-mlp2x");
    const model = await Llava.fromPretrained(source, { dtype: "int8", group: 32 });
    const saved = memoryFiles();
    await model.savePretrained(saved);
    expect([...(await openWeights(saved)).names].sort()).toEqual([...(await openWeights(source)).names].sort());
  });
});

describe.skipIf(!goldenPath("models"))("the projector alone", () => {
  test.each(["llava-original-linear", "llava-original-mlp2x"])(
    "%s: in both formats, by LLaVA's names",
    async (name) => {
      const source = golden(name);
      const [model, other] = [await Llava.fromPretrained(source), await Llava.fromPretrained(source)];
      const want = Object.values(model.multi_modal_projector.stateDict());
      const file = await openWeights(source);
      const keys = file.names.filter((key) => key.startsWith("model.mm_projector.")).sort();
      for (const format of ["safetensors", "bin"] as const) {
        const saved = memoryFiles();
        await saveProjector(model, saved, { format });
        expect([...(await TensorFiles.open(saved, `mm_projector.${format}`)).names].sort()).toEqual(keys);
        for (const t of other.multi_modal_projector.parameters()) setParameter(t, t.mul(0));
        await loadProjector(other, saved);
        const got = Object.values(other.multi_modal_projector.stateDict());
        for (const [i, t] of want.entries()) expect(await got[i].data()).toEqual(await t.data());
      }
      const wrong = memoryFiles();
      await saveTorch(wrong, "mm_projector.bin", {
        "model.mm_projector.bias": { shape: [3], dtype: "f32", read: () => new Float32Array(3) },
      });
      await expect(loadProjector(model, wrong)).rejects.toThrow(
        /mm_projector.bin: the projector does not fit the model/,
      );
      await expect(loadProjector(model, memoryFiles())).rejects.toThrow("expected mm_projector.safetensors or");
    },
  );
});

describe("bad input", () => {
  test("an unknown model_type, an unknown part of a config, and a tokenizer that is too large", async () => {
    const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
    const files = await savedLlama();
    expect(await fromPretrained(files)).toBeInstanceOf(LlamaForCausalLM);
    files.files.set("config.json", bytes({ ...config, model_type: "mamba" }));
    await expect(fromPretrained(files)).rejects.toThrow(
      'memory/config.json: model_type "mamba" is not supported; known are llama, mistral, qwen2, llava',
    );
    await expect(loadLlama(files)).rejects.toThrow('memory/config.json: Llama: model_type "mamba" is not supported');
    const model = await Llava.fromPretrained(golden("llava-hf"));
    const saved = memoryFiles();
    await model.savePretrained(saved);
    saved.files.set("tokenizer.json", bytes(trainBPE([["a b", 2]], { vocabSize: 1000, specialTokens: longNames })));
    await expect(Llava.fromPretrained(saved)).rejects.toThrow(
      /^memory: the tokenizer has \d+ ids, the embedding \d+ rows \(vocab_size\): they do not belong together/,
    );
  });

  test("names the file and the key", async () => {
    const files = await savedLlama();
    const shape = { ...config, intermediate_size: 96 };
    files.files.set("config.json", new TextEncoder().encode(JSON.stringify(shape)));
    await expect(loadLlama(files)).rejects.toThrow(
      "model.layers.0.mlp.gate_proj.weight has shape [128,64] in memory/model.safetensors, expected [96,64] by the config",
    );
    files.files.set("config.json", new TextEncoder().encode(JSON.stringify({ ...config, num_hidden_layers: 3 })));
    await expect(loadLlama(files)).rejects.toThrow(
      /^memory: the weights do not fit the config: missing model.layers.2.self_attn.q_proj.weight \[64,64\]; missing/,
    );
    const bytes = files.files.get("model.safetensors")!;
    files.files.set("model.safetensors", bytes.subarray(0, bytes.length - 100));
    await expect(loadLlama(files)).rejects.toThrow(/memory\/model.safetensors is truncated: tensor \S+ ends at byte/);
  });
});
