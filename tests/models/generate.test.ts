import { beforeAll, describe, expect, test } from "vitest";
import { LlamaForCausalLM } from "../../models/llama.ts";
import { Llava } from "../../models/llava.ts";
import { type ChatMessage, type ChatOptions, Processor } from "../../src/generate/chat.ts";
import { generate, generateText, steps, textPrompt } from "../../src/generate/generate.ts";
import type { GenerateOptions } from "../../src/generate/options.ts";
import { init, manualSeed, type Tensor, tensor } from "../../src/index.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { trainBPE } from "../../src/text/bpe.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";
import { tinyLlava } from "../support/tiny-llava.ts";

const config = {
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  eos_token_id: 2,
};

let model: LlamaForCausalLM;
async function setUp(backend: "reference" | "webgpu"): Promise<void> {
  await init({ backend });
  manualSeed(11);
  model = new LlamaForCausalLM(config);
}

const prompts = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [14]];
const run = (options: GenerateOptions = {}, ids: number[][] = prompts) =>
  generate(model, textPrompt(model, ids), { maxNewTokens: 12, eosTokenId: [], ...options });

/** The likeliest next token by a full forward pass over all tokens, without a cache. */
async function fullGreedy(ids: number[], count: number): Promise<number[]> {
  const all = [...ids];
  for (let i = 0; i < count; i++) {
    const { logits } = model.forward({ inputIds: tensor([all], { dtype: "i32" }) });
    all.push(
      await logits
        .select(1, all.length - 1)
        .argmax(-1)
        .item(),
    );
  }
  return all.slice(ids.length);
}

describe.each(["webgpu", "reference"] as const)("%s", (backend) => {
  beforeAll(() => setUp(backend));

  test("a cached decode of prompts of different lengths equals full forward passes", async () => {
    const rows = await run();
    for (const [i, ids] of prompts.entries()) expect(rows[i]).toEqual(await fullGreedy(ids, 12));
  });
});

test("a cache of halves or int8 gives nearly the logits of a full one, on both backends alike", async () => {
  const all: number[][] = [];
  for (const backend of ["reference", "webgpu"] as const)
    for (const type of ["f32", "f16", "int8"] as const) {
      await setUp(backend);
      const cache = model.cache(1, 16, type);
      const at = (ids: number[]) => tensor([ids], { dtype: "i32" });
      model.forward({ inputIds: at([5, 6, 7, 8, 9, 10]), cache });
      const { logits } = model.forward({ inputIds: at([11]), cache });
      all.push(Array.from(await logits.data()));
    }
  const distance = (i: number, j: number) => Math.max(...all[i].map((x, n) => Math.abs(x - all[j][n])));
  const size = Math.max(...all[0].map(Math.abs));
  expect(distance(0, 1) / size).toBeLessThan(1e-3);
  expect(distance(0, 2) / size).toBeLessThan(1e-2);
  expect(distance(0, 2)).toBeGreaterThan(distance(0, 1)); // int8 was in fact stored
  expect(distance(0, 1)).toBeGreaterThan(0);
  expect(distance(0, 3) / size).toBeLessThan(1e-5);
  expect(distance(1, 4) / size).toBeLessThan(1e-3); // a value between two halves may round to either
  expect(distance(2, 5) / size).toBeLessThan(1e-2);
});

describe("on the interpreter", () => {
  beforeAll(() => setUp("reference"));

  test("several tokens can be added to a filled cache at once", async () => {
    const cache = model.cache(1, 16);
    const at = (ids: number[]) => tensor([ids], { dtype: "i32" });
    model.forward({ inputIds: at([5, 6, 7]), cache });
    const { logits } = model.forward({ inputIds: at([8, 9]), cache });
    const full = model.forward({ inputIds: at([5, 6, 7, 8, 9]) }).logits.narrow(1, 3, 2);
    const want = await full.data();
    (await logits.data()).forEach((x, i) => expect(x).toBeCloseTo(want[i], 5));
    expect(cache.lengths).toEqual([5]);
    expect(() => model.forward({ inputIds: at(new Array(12).fill(1)), cache })).toThrow(
      "5 tokens and 12 new ones exceed the capacity of 16",
    );
  });

  test("checkpointed layers give the same loss and gradients", async () => {
    const ids = tensor([[5, 6, 7, 8, 9]], { dtype: "i32" });
    const gradients = async (checkpointing: boolean) => {
      model.model.checkpointing = checkpointing;
      const loss = model.loss({ inputIds: ids }, ids);
      loss.backward();
      const values = await Promise.all(model.parameters().map((p) => p.grad!.data()));
      model.parameters().forEach((p) => (p.grad = null));
      model.model.checkpointing = false;
      return [await loss.item(), ...values.flatMap((v) => [...v])];
    };
    const want = await gradients(false);
    (await gradients(true)).forEach((x, i) => expect(x).toBeCloseTo(want[i], 6));
  });
});

describe("sampling", () => {
  beforeAll(() => setUp("reference"));

  test("keeps to its seed, and other seeds differ", async () => {
    const options = { temperature: 1, seed: 7 };
    expect(await run(options)).toEqual(await run(options));
    expect(await run(options)).not.toEqual(await run({ temperature: 1, seed: 8 }));
  });

  test("from one token is greedy, whichever filter leaves one", async () => {
    const greedy = await run();
    for (const filter of [{ topK: 1 }, { topP: 1e-6 }, { minP: 1 }])
      expect(await run({ temperature: 1, ...filter })).toEqual(greedy);
  });

  test("a strong repetition penalty never repeats", async () => {
    const [row] = await run({ repetitionPenalty: 1e6, maxNewTokens: 20 }, [[5, 6]]);
    expect(new Set([5, 6, ...row]).size).toBe(22);
    const [free] = await run({ maxNewTokens: 20 }, [[5, 6]]);
    expect(new Set(free).size).toBeLessThan(20);
  });

  test("an end token ends its sample alone", async () => {
    const free = await run();
    const eos = free[0][3];
    const rows = await run({ eosTokenId: eos });
    rows.forEach((row, i) =>
      expect(row).toEqual(free[i].includes(eos) ? free[i].slice(0, free[i].indexOf(eos)) : free[i]),
    );
    expect(rows[0].length).toBe(free[0].indexOf(eos));
  });
});

describe("text", () => {
  const tokenizer = () =>
    new Tokenizer(trainBPE([["ab abc abcd 你好", 5]], { vocabSize: 300, specialTokens: ["<eos>"] }));

  /** A model that says `ids` whatever it reads. */
  function parrot(ids: readonly number[], size: number): LlamaForCausalLM {
    const made = new LlamaForCausalLM({ ...config, vocab_size: size, eos_token_id: 0 });
    let calls = 0;
    made.logits = (hidden: Tensor) =>
      tensor(
        Float32Array.from({ length: size }, (_, i) => (i === ids[calls] ? 1 : 0)),
        { shape: [hidden.shape[0], size] },
      );
    const { forward } = made.model;
    made.model.forward = (input) => {
      calls = input.cache!.lengths[0] - 1 < 0 ? 0 : calls + 1;
      return forward.call(made.model, input);
    };
    return made;
  }

  async function say(text: string, options: GenerateOptions = {}): Promise<string[]> {
    const t = tokenizer();
    const ids = [...t.encode(text), 0];
    const speaker = parrot(ids, t.size);
    const pieces: string[] = [];
    for await (const piece of generateText(speaker, t, textPrompt(speaker, [[1]]), {
      maxNewTokens: ids.length,
      ...options,
    }))
      pieces.push(piece);
    return pieces;
  }

  test("comes in pieces, whole characters only, up to the end token", async () => {
    const pieces = await say("abcd 你好 ab");
    expect(pieces.join("")).toBe("abcd 你好 ab");
    expect(pieces.length).toBeGreaterThan(1);
    expect(pieces.every((piece) => !piece.includes("�"))).toBe(true);
  });

  test("ends before a stop string, of which no part is given out", async () => {
    expect((await say("ab你a###b", { stopStrings: ["###"] })).join("")).toBe("ab你a");
    expect((await say("ab##b", { stopStrings: ["###"] })).join("")).toBe("ab##b");
    expect((await say("ab##", { stopStrings: ["###", "#!"] })).join("")).toBe("ab##");
  });
});

describe("chat", () => {
  const tokenizer = new Tokenizer(
    trainBPE([["USER: ASSISTANT: what is this? a red apple", 5]], {
      vocabSize: 300,
      specialTokens: ["</s>", "<image>"],
    }),
  );
  const text = { ...config, vocab_size: tokenizer.size, max_position_embeddings: 2048, eos_token_id: 0 };
  const llava = () => tinyLlava({ text, image_token_index: 1 }, 5);
  const image = { width: 6, height: 4, channels: 3 as const, data: new Uint8Array(72).map((_, i) => i) };

  test("a folder with a tokenizer answers messages with images", async () => {
    const files = memoryFiles();
    await llava().savePretrained(files);
    await expect(async () => (await Llava.fromPretrained(files)).chat([])).rejects.toThrow("tokenizer.json");
    files.files.set("tokenizer.json", new TextEncoder().encode(JSON.stringify(tokenizer.json)));
    const loaded = await Llava.fromPretrained(files);
    const messages: ChatMessage[] = [
      { role: "user", content: [image, "what is this?"] },
      { role: "assistant", content: "a red apple" },
      { role: "user", content: ["and this? ", image] },
    ];
    const read = async (options: ChatOptions) => {
      let text = "";
      for await (const piece of loaded.chat(messages, { maxNewTokens: 8, ...options })) text += piece;
      return text;
    };
    const { inputIds, pixelValues } = loaded.processor!.encode(messages, "vicuna_v1", 1);
    expect(pixelValues!.shape).toEqual([2, 3, 4, 4]);
    const ids = [...(await inputIds.data())];
    expect(ids.filter((id) => id === 1).length).toBe(2);
    expect(tokenizer.decode(ids)).toContain(
      "USER: \nwhat is this? ASSISTANT: a red appleUSER: and this? \n ASSISTANT:",
    );
    const greedy = await generate(loaded.language_model, loaded.prompt({ inputIds, pixelValues }), { maxNewTokens: 8 });
    expect(await read({})).toBe(tokenizer.decode(greedy[0]));
    expect(await read({ temperature: 1, seed: 3 })).toBe(await read({ temperature: 1, seed: 3 }));
  });

  test("messages out of turn, and placeholders without images, are refused", () => {
    const processor = new Processor(tokenizer, { size: 4, crop_size: 4 });
    const encode =
      (...messages: ChatMessage[]) =>
      () =>
        processor.encode(messages, "vicuna_v1", 1);
    expect(encode({ role: "assistant", content: "a" })).toThrow("message 0 is by the assistant, expected the user");
    expect(encode()).toThrow("chat: there are no messages");
    expect(encode({ role: "user", content: "<image> what?" })).toThrow("1 <image> in the texts for 0 images");
    expect(() => processor.encode([{ role: "user", content: "a" }], "nope", 1)).toThrow('no template "nope"');
  });
});

describe("bad input is named", () => {
  test.each([
    [{ temperature: -1 }, "temperature must be finite and >= 0, got -1"],
    [{ temperature: NaN }, "temperature must be finite"],
    [{ topK: 1.5 }, "topK must be a whole number"],
    [{ topP: 0 }, "topP must be in (0, 1], got 0"],
    [{ minP: 2 }, "minP must be in [0, 1]"],
    [{ repetitionPenalty: 0 }, "repetitionPenalty must be positive"],
    [{ seed: 0.5 }, "seed must be a whole number"],
    [{ maxNewTokens: 0 }, "maxNewTokens must be a positive integer"],
    [{ maxNewTokens: 60 }, "a prompt of 6 tokens and maxNewTokens 60 exceed max_position_embeddings 64"],
  ] as [GenerateOptions, string][])("%o", async (options, message) => {
    await expect(run(options)).rejects.toThrow(message);
  });

  test("an empty prompt, and an id outside the vocabulary", () => {
    expect(() => textPrompt(model, [])).toThrow("empty");
    expect(() => textPrompt(model, [[1], []])).toThrow("empty");
    expect(() => textPrompt(model, [[1, 40]])).toThrow("token id 40 in sample 0 is outside the vocabulary of 40");
  });

  test("an aborted run stops", async () => {
    await expect(run({ signal: AbortSignal.abort() })).rejects.toThrow("abort");
    let launched = 0;
    for (const step of steps(model, textPrompt(model, prompts), { maxNewTokens: 12 })) {
      await step.ids;
      if (++launched === 2) break;
    }
    expect(launched).toBe(2);
  });
});
