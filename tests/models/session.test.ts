import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ChatSession } from "../../models/chat/session.ts";
import { LlamaForCausalLM } from "../../models/llama.ts";
import { Llava } from "../../models/llava.ts";
import { type ChatMessage, Processor } from "../../src/generate/chat.ts";
import { generate, generateText, textPrompt } from "../../src/generate/generate.ts";
import type { Image } from "../../src/image/image.ts";
import { init, manualSeed, tensor } from "../../src/index.ts";
import { trainBPE } from "../../src/text/bpe.ts";
import { Tokenizer, type TokenizerConfig } from "../../src/text/tokenizer.ts";
import { tinyConfig } from "../support/tiny-llava.ts";

const { json } = new Tokenizer(
  trainBPE([["USER: ASSISTANT: what is this? a red apple, a green pear", 5]], {
    vocabSize: 300,
    specialTokens: ["</s>", "<image>"],
  }),
);
const text = {
  vocab_size: 300,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 2048,
  eos_token_id: 0,
};

/** A model that counts the positions and images it computes. */
function setUp(config?: TokenizerConfig) {
  manualSeed(5);
  const tokenizer = new Tokenizer(json, config);
  const model = new Llava(tinyConfig({ text: { ...text, vocab_size: tokenizer.size }, image_token_index: 1 }));
  model.processor = new Processor(tokenizer, { size: 4, crop_size: 4 });
  const counts = { positions: [] as number[], images: 0 };
  const { forward } = model.language_model.model;
  model.language_model.model.forward = (input) => {
    counts.positions.push((input.inputsEmbeds ?? input.inputIds!).shape[1]);
    return forward.call(model.language_model.model, input);
  };
  const features = model.visionFeatures.bind(model);
  model.visionFeatures = (pixels) => {
    counts.images += pixels.shape[0];
    return features(pixels);
  };
  const session = () => new ChatSession(model);
  return { model, tokenizer, session, counts };
}

const image = (seed: number): Image => ({
  width: 6,
  height: 4,
  channels: 3,
  data: new Uint8Array(72).map((_, i) => (i * seed) % 251),
});

async function read(pieces: AsyncIterable<string>): Promise<string> {
  let all = "";
  for await (const piece of pieces) all += piece;
  return all;
}

describe.each(["webgpu", "reference"] as const)("on %s", (backend) => {
  beforeAll(async () => void (await init({ backend })));

  test("each turn answers as the whole conversation does, and computes what is new alone", async () => {
    const { model, session, counts } = setUp();
    const talk = session();
    const [a, b, c] = [image(3), image(7), image(11)];
    const turns: ChatMessage["content"][] = [
      ["what is this? ", a],
      "a red apple, a green pear, a red pear?",
      [b, "and this? ", c],
      "what",
    ];
    const options = { maxNewTokens: 20, temperature: 1, seed: 4 };
    const messages: ChatMessage[] = [];
    for (const [i, content] of turns.entries()) {
      messages.push({ role: "user", content });
      counts.positions = [];
      counts.images = 0;
      const answer = await read(talk.send(content, options));
      const [computed] = counts.positions;
      const { images } = counts;
      counts.positions = [];
      expect(answer).toBe(await read(model.chat(messages, options)));
      expect(images).toBe([1, 0, 2, 0][i]);
      if (i > 0) expect(talk.reused + computed).toBeLessThanOrEqual(counts.positions[0] * 1.25 + 4);
      if (i > 0) expect(computed).toBeLessThan(counts.positions[0] * 0.7);
      messages.push({ role: "assistant", content: answer });
    }
    expect(talk.messages).toEqual(messages);
  });
});

describe("on the interpreter", () => {
  beforeEach(async () => void (await init({ backend: "reference" })));

  test("a turn cut short, or refused, leaves a conversation that goes on", async () => {
    const { model, session } = setUp();
    const talk = session();
    const [first, other] = [image(3), image(5)];
    const stop = new AbortController();
    let said = "";
    const cut = async () => {
      for await (const piece of talk.send([first, "what?"], { maxNewTokens: 40, signal: stop.signal })) {
        said += piece;
        if (said.length > 3) stop.abort();
      }
    };
    await expect(cut()).rejects.toThrow("abort");
    expect(talk.messages.map(({ content }) => content)).toEqual([[first, "what?"], said]);
    await expect(read(talk.send("more", { maxNewTokens: 4000 }))).rejects.toThrow(
      "exceed max_position_embeddings 2048",
    );
    await expect(read(talk.send("<image>", { maxNewTokens: 4 }))).rejects.toThrow(
      "give images as parts of the content",
    );
    expect(talk.messages.length).toBe(2);
    for await (const _ of talk.send(["and ", other], { maxNewTokens: 30 })) break;
    const messages: ChatMessage[] = [...talk.messages, { role: "user", content: "so?" }];
    expect(messages.length).toBe(5);
    expect(await read(talk.send("so?", { maxNewTokens: 12 }))).toBe(
      await read(model.chat(messages, { maxNewTokens: 12 })),
    );
    expect(talk.reused).toBeGreaterThan(40);
  });

  test("caches of halves and int8 grow with the conversation", async () => {
    for (const cacheType of ["f16", "int8"] as const) {
      const { session, counts } = setUp();
      const [talk, fresh] = [session(), session()];
      const options = { maxNewTokens: 6, cacheType };
      for (let i = 0; i < 3; i++) await read(talk.send(i ? "a red apple, a green pear" : ["what?", image(9)], options));
      fresh.messages.push(...talk.messages);
      counts.positions = [];
      await read(talk.send("a pear", options));
      const [short] = counts.positions;
      counts.positions = [];
      await read(fresh.send("a pear", options));
      expect(short).toBeLessThan(counts.positions[0] / 3);
      expect(talk.messages[7]).toEqual(fresh.messages[7]);
    }
  });

  test("chat templates of tokenizers: contents in parts, in texts, and with the image in the template", async () => {
    const parts =
      "{% for m in messages %}{{ m.role }}:{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}";
    const plain = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %} ASSISTANT:";
    for (const [chat_template, expected] of [
      [parts, "user:what? <image> ASSISTANT:"],
      [plain, "user:what? <image>\n ASSISTANT:"],
      [`<image>${plain}`, "<image>user:what?  ASSISTANT:"],
    ]) {
      const { model, tokenizer, session } = setUp({ chat_template });
      const picture = image(3);
      const ids = expected.split("<image>").flatMap((piece, i) => [...(i ? [1] : []), ...tokenizer.encode(piece)]);
      const { pixelValues } = model.processor!.inputs([picture]);
      const prompt = model.prompt({ inputIds: tensor([ids], { dtype: "i32" }), pixelValues });
      const want = await read(generateText(model.language_model, tokenizer, prompt, { maxNewTokens: 9 }));
      expect(await read(session().send(["what? ", picture], { maxNewTokens: 9 }))).toBe(want);
    }
    const { session } = setUp({ chat_template: `<image>${plain}` });
    await expect(read(session().send("what?"))).rejects.toThrow("room for 1 image(s), the conversation has 0");
  });

  test("rows of a batch padded on the left or the right are their single runs", async () => {
    const { model, tokenizer } = setUp();
    const rows = [
      [1, ...tokenizer.encode("what is this? a red apple")],
      [1, ...tokenizer.encode("a pear")],
    ];
    const { pixelValues } = model.processor!.inputs([image(3), image(5)]);
    const options = { maxNewTokens: 10, eosTokenId: [], repetitionPenalty: 1.5, temperature: 1 };
    const single = await Promise.all(
      rows.map(async (ids, s) => {
        const own = { inputIds: tensor([ids], { dtype: "i32" }), pixelValues: pixelValues!.narrow(0, s, 1) };
        return (await generate(model.language_model, model.prompt(own), { ...options, seed: s }))[0];
      }),
    );
    for (const left of [true, false]) {
      const pad = new Array<number>(rows[0].length - rows[1].length).fill(0);
      const padded = (row: number[], filler: number[]) => (left ? [...filler, ...row] : [...row, ...filler]);
      const mask = padded(
        rows[1].map(() => 1),
        pad,
      );
      const prompt = model.prompt({
        inputIds: tensor([rows[0], padded(rows[1], pad)], { dtype: "i32" }),
        attentionMask: tensor([rows[0].map(() => 1), mask], { dtype: "i32" }),
        pixelValues,
      });
      expect(await generate(model.language_model, prompt, { ...options, seed: [0, 1] })).toEqual(single);
    }
  });

  test("a language model alone", async () => {
    manualSeed(5);
    const tokenizer = new Tokenizer(json, { chat_template: "{% for m in messages %}[{{ m.content }}]{% endfor %}" });
    const model = new LlamaForCausalLM({ ...text, vocab_size: tokenizer.size });
    const talk = new ChatSession(model, { tokenizer });
    const first = await read(talk.send("what?", { maxNewTokens: 5 }));
    const second = await read(talk.send("this", { maxNewTokens: 5, promptLookupNumTokens: 3 }));
    const beams = await read(new ChatSession(model, { tokenizer }).send("this", { maxNewTokens: 5, numBeams: 2 }));
    const asked = textPrompt(model, [tokenizer.encode("[this]")]);
    expect(beams).toBe(await read(generateText(model, tokenizer, asked, { maxNewTokens: 5, numBeams: 2 })));
    const prompt = textPrompt(model, [tokenizer.encode(`[what?][${first}][this]`)]);
    expect(second).toBe(await read(generateText(model, tokenizer, prompt, { maxNewTokens: 5 })));
    await expect(read(talk.send(["see", image(3)]))).rejects.toThrow("this model reads no images");
    expect(() => new ChatSession(model, { tokenizer, template: "nope" })).toThrow('no template "nope"');
  });
});
