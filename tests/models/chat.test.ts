/** What chat() asks a model: prompts of LLaVA's reference by every way to a template, and mPLUG-Owl's, whole. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ChatSession } from "../../models/chat/session.ts";
import { Llava } from "../../models/llava.ts";
import { MplugOwl } from "../../models/owl.ts";
import { MplugOwl2 } from "../../models/owl2.ts";
import { fromPretrained } from "../../models/registry.ts";
import type { VisionLanguageModel } from "../../models/vlm.ts";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { type ChatMessage, Processor } from "../../src/generate/chat.ts";
import { generate } from "../../src/generate/generate.ts";
import { decodeImage } from "../../src/image/decode.ts";
import type { Image } from "../../src/image/image.ts";
import { preprocess } from "../../src/image/processing.ts";
import { resize } from "../../src/image/resize.ts";
import { init, manualSeed, tensor } from "../../src/index.ts";
import { type FileSource, memoryFiles } from "../../src/io/source.ts";
import { folder } from "../../src/runtime/node.ts";
import { loadTokenizer } from "../../src/text/folder.ts";
import { Tokenizer, type TokenizerJson } from "../../src/text/tokenizer.ts";
import { markSpaces } from "../support/llama2-tokens.ts";
import { tinyOwl2 } from "../support/tiny-owl2.ts";
import { config as tinyLlava } from "../support/tiny-world.ts";
import { goldenPath, readJson } from "./goldens.ts";

beforeAll(async () => void (await init({ backend: "reference" })));

const picture: Image = {
  width: 30,
  height: 18,
  channels: 3,
  data: new Uint8Array(30 * 18 * 3).map((_, i) => (i * 7) % 256),
};
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

async function read(pieces: AsyncIterable<string>): Promise<string> {
  let all = "";
  for await (const piece of pieces) all += piece;
  return all;
}

/** A reference's messages, `<image>` at the begin of the first. */
const asked = (messages: readonly (string | null)[]): ChatMessage[] =>
  messages
    .filter((message) => message !== null)
    .map((message, i) => ({
      role: i % 2 ? "assistant" : "user",
      content: message.startsWith("<image>\n") ? [picture, message.slice(8)] : message,
    }));

const caseFile = goldenPath("conversation", "llava", "case.json");
interface Prompt {
  template: string;
  name: string;
  messages: (string | null)[];
  tiny: { input_ids: number[] };
}

describe.skipIf(!caseFile)("prompts of LLaVA's reference", () => {
  const { inference: prompts } = caseFile ? readJson<{ inference: Prompt[] }>(caseFile) : { inference: [] };
  const files = memoryFiles();
  const path = goldenPath("conversation", "llava", "tokenizer")!;
  const settings = () => readJson<object>(join(path, "tokenizer_config.json"));
  beforeAll(async () => {
    manualSeed(2);
    await new Llava(tinyLlava).savePretrained(files);
    for (const name of ["tokenizer.json", "tokenizer_config.json"])
      files.files.set(name, new Uint8Array(readFileSync(join(path, name))));
  });
  /** Ids of a chat's prompt in a folder with these further files. */
  async function idsOf(messages: (string | null)[], extra: Record<string, unknown> = {}, template?: string) {
    const own = memoryFiles(new Map(files.files));
    for (const [name, value] of Object.entries(extra))
      own.files.set(name, typeof value === "string" ? new TextEncoder().encode(value) : json(value));
    const { processor } = await Llava.fromPretrained(own);
    return [...(await processor!.encode(asked(messages), template).inputIds.data())];
  }
  const of = (template: string) => prompts.filter((prompt) => prompt.template === template);
  const system =
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";
  // Vicuna's rounds as a processor's template: contents in parts, no begin token.
  const vicuna =
    `${system}{% for m in messages %}{{ " USER: " if loop.first else m.role.upper() + ": " if m.role == "user" else " ASSISTANT: " }}` +
    `{% for c in m.content %}{% if c.type == "image" %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor %}{% if m.role == "assistant" %}{{ eos_token }}{% endif %}{% endfor %}` +
    `{% if add_generation_prompt %} ASSISTANT:{% endif %}`;
  // Mistral's as a tokenizer's template: contents as texts, with a begin token.
  const mistral =
    '{{ bos_token }}{% for m in messages %}{% if m.role == "user" %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}';

  test.each(prompts)("$template, $name: named", async ({ template, messages, tiny }) => {
    expect(await idsOf(messages, {}, template)).toEqual(tiny.input_ids);
    // A folder's own template does not matter then.
    expect(await idsOf(messages, { "chat_template.jinja": mistral }, template)).toEqual(tiny.input_ids);
  });

  test.each(of("v1"))("v1, $name: of the model, and by the template in its folder", async ({ messages, tiny }) => {
    expect(await idsOf(messages)).toEqual(tiny.input_ids);
    for (const extra of [
      { "chat_template.jinja": vicuna },
      { "chat_template.json": { chat_template: vicuna } },
      { "tokenizer_config.json": { ...settings(), chat_template: vicuna } },
      // The processor's goes before the tokenizer's.
      {
        "chat_template.json": { chat_template: vicuna },
        "tokenizer_config.json": { ...settings(), chat_template: mistral },
      },
    ])
      expect(await idsOf(messages, extra)).toEqual(tiny.input_ids);
  });

  test.each(of("mistral_instruct"))("mistral_instruct, $name: one begin token", async ({ messages, tiny }) => {
    const extra = { "tokenizer_config.json": { ...settings(), chat_template: mistral } };
    expect(await idsOf(messages, extra)).toEqual(tiny.input_ids);
  });

  test("more images than the folder's template has room for", async () => {
    const extra = { "chat_template.jinja": `<image>${mistral}` };
    await expect(idsOf(["Hello", null], extra)).rejects.toThrow("room for 1 image(s), the conversation has 0");
  });

  test("what ends an answer: generation_config.json, else config.json, else the tokenizer", async () => {
    const own = memoryFiles(new Map(files.files));
    const passes = async (): Promise<number> => {
      const model = await Llava.fromPretrained(own);
      const always = tensor(Float32Array.from({ length: 640 }, (_, id) => (id === 2 ? 1 : 0))); // </s>
      let count = 0;
      model.language_model.lm_head!.forward = (x) => (count++, x.narrow(-1, 0, 1).mul(0).add(always));
      await read(model.chat(asked(["Hello", null]), { maxNewTokens: 9 }));
      return count;
    };
    expect(await passes()).toBeLessThan(4); // one pass runs ahead
    const config = JSON.parse(new TextDecoder().decode(own.files.get("config.json")));
    own.files.set("config.json", json({ ...config, text_config: { ...config.text_config, eos_token_id: 400 } }));
    expect(await passes()).toBe(9);
    own.files.set("generation_config.json", json({ eos_token_id: [7, 2] }));
    expect(await passes()).toBeLessThan(4);
  });
});

/** LLaMA's spelling of text with one token a character: small enough for the 131 ids of golden models. */
function letters(size = 131): TokenizerJson {
  const chars = ["▁", ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)), "\n"];
  const first = chars.length + 3;
  const special = (content: string, id: number) => ({ id, content, special: true });
  return {
    added_tokens: [
      ...["<unk>", "<s>", "</s>"].map(special),
      ...Array.from({ length: size - first }, (_, i) => ({ id: first + i, content: `<${i}>` })),
    ],
    normalizer: markSpaces,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: { type: "Sequence", decoders: [{ type: "Replace", pattern: { String: "▁" }, content: " " }] },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(["<unk>", "<s>", "</s>", ...chars].map((token, id) => [token, id])),
      merges: [],
      unk_token: "<unk>",
    },
  };
}

const owlSystem =
  "The following is a conversation between a curious human and AI assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";

/** Pieces of text tokenised one by one; numbers are ids. */
const idsOf = (tokenizer: Tokenizer, ...parts: (string | number)[]): number[] =>
  parts.flatMap((part) => (typeof part === "number" ? [part] : tokenizer.encode(part, { addSpecialTokens: false })));

const squeezed = (size: number) => {
  const small = resize(picture, size, size);
  const { data } = preprocess(small, { do_resize: false, do_center_crop: false });
  return tensor(data, { shape: [1, 3, size, size] });
};

const talk: ChatMessage[] = [
  { role: "user", content: [picture, "What is this?"] },
  { role: "assistant", content: "A cat." },
  { role: "user", content: "Why?" },
];
const options = { maxNewTokens: 6, eosTokenId: [], template: undefined };

describe.skipIf(!goldenPath("models", "mplug-owl"))("mPLUG-Owl", () => {
  const folderOf = (): FileSource => {
    const golden = goldenPath("models", "mplug-owl", "model")!;
    const files = memoryFiles();
    for (const name of ["config.json", "generation_config.json", "model.safetensors"])
      files.files.set(name, new Uint8Array(readFileSync(join(golden, name))));
    files.files.set("tokenizer.json", json(letters()));
    files.files.set("tokenizer_config.json", json({ bos_token: "<s>", eos_token: "</s>" }));
    return files;
  };

  test("asks as the reference does: a begin token, pieces between images, ids of -1 for the image's positions", async () => {
    const source = folderOf();
    const model = (await fromPretrained(source)) as MplugOwl;
    expect(model).toBeInstanceOf(MplugOwl);
    const { tokenizer } = model.processor!;
    const positions = new Array<number>(7).fill(-1); // six queries and the end token
    const ids = idsOf(
      tokenizer,
      ...[1, `${owlSystem}\nHuman: `, ...positions, "\nHuman: What is this?\nAI: A cat.\nHuman: Why?\nAI: "],
    );
    const input = { inputIds: tensor([ids], { dtype: "i32" }), pixelValues: squeezed(28) };
    const [want] = await generate(model.language_model, model.prompt(input), options);
    expect(await read(model.chat(talk, options))).toBe(tokenizer.decode(want));
    // Turn by turn, earlier ones kept.
    const session = new ChatSession(model);
    session.messages.push(...talk.slice(0, 2));
    expect(await read(session.send("Why?", options))).toBe(tokenizer.decode(want));
  });

  test("and without an image", async () => {
    const model = (await fromPretrained(folderOf())) as MplugOwl;
    const { tokenizer } = model.processor!;
    const ids = idsOf(tokenizer, 1, `${owlSystem}\nHuman: Hi\nAI: `);
    const [want] = await generate(
      model.language_model,
      model.prompt({ inputIds: tensor([ids], { dtype: "i32" }) }),
      options,
    );
    expect(await read(model.chat([{ role: "user", content: "Hi" }], options))).toBe(tokenizer.decode(want));
  });

  test("a tokenizer with more ids than the embedding", async () => {
    const source = folderOf() as ReturnType<typeof memoryFiles>;
    source.files.set("tokenizer.json", json(letters(159)));
    await expect(MplugOwl.fromPretrained(source)).rejects.toThrow(
      "memory: the tokenizer has 159 ids, the embedding 131 rows",
    );
  });
});

test.skipIf(!goldenPath("models", "llava-original-linear"))(
  "an original LLaVA reads images by its tower's settings, and saves them with it",
  async () => {
    const source = folder(goldenPath("models", "llava-original-linear", "model")!);
    const files = memoryFiles();
    for (const inside of ["", "vision_tower/"])
      for (const name of ["config.json", "model.safetensors"])
        files.files.set(inside + name, await source.read(inside + name));
    files.files.set("tokenizer.json", json(letters()));
    const plain = await Llava.fromPretrained(files);
    expect(plain.processor!.images).toEqual({ size: 28, crop_size: 28 });
    const settings = { image_mean: [0.5, 0.4, 0.3], image_std: [0.5, 0.5, 0.5], size: 28, crop_size: 28 };
    files.files.set("vision_tower/preprocessor_config.json", json(settings));
    const model = await Llava.fromPretrained(files);
    expect(model.processor!.images).toEqual(settings);
    const saved = memoryFiles();
    await model.savePretrained(saved);
    expect(saved.files.get("vision_tower/preprocessor_config.json")).toEqual(json(settings));
    expect((await Llava.fromPretrained(saved)).processor!.images).toEqual(settings);
  },
);

const owl2 = () => {
  manualSeed(4);
  return new MplugOwl2({ ...tinyOwl2, vocab_size: 640 });
};

describe("mPLUG-Owl2, whose folders have SentencePiece's tokenizer.model", () => {
  const path = join(root, "tests/goldens/conversation/llava/tokenizer");
  const place = mkdtempSync(join(tmpdir(), "shadegrad-owl2-"));
  afterAll(() => rmSync(place, { recursive: true }));
  let model: VisionLanguageModel;
  beforeAll(async () => {
    await owl2().savePretrained(folder(place));
    for (const name of ["tokenizer.model", "tokenizer_config.json"]) cpSync(join(path, name), join(place, name));
    model = (await fromPretrained(place)) as MplugOwl2;
  });

  test("the image before the first question, no system message, images resized through a square", async () => {
    expect(model).toBeInstanceOf(MplugOwl2);
    const tokenizer = (await loadTokenizer(folder(place)))!;
    const ids = idsOf(tokenizer, 1, "USER: ", -200, "What is this? ASSISTANT: A cat.</s>USER: Why? ASSISTANT:");
    const { data } = preprocess(resize(resize(picture, 30, 30), 12, 12), { do_resize: false, do_center_crop: false });
    const pixelValues = tensor(data, { shape: [1, 3, 12, 12] });
    const prompt = model.prompt({ inputIds: tensor([ids], { dtype: "i32" }), pixelValues });
    const [want] = await generate(model.language_model, prompt, options);
    expect(await read(model.chat(talk, options))).toBe(tokenizer.decode(want));
  });

  test("in the terminal", async () => {
    const cli = await bundle(join(root, "scripts/cli/main.ts"));
    const single = join(root, "examples/demo/samples/single.png");
    const args = ["chat", place, "--image", single, "--prompt", "What is this?", "--max-new-tokens", "5"];
    const env = { ...childEnvironment(), NO_COLOR: "1" };
    const { stdout, stderr, status } = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", env });
    expect(stderr.replace(/^Warning: max.*\n/gm, "")).toBe("");
    expect(status).toBe(0);
    const image = await decodeImage(readFileSync(single));
    const want = await read(model.chat([{ role: "user", content: [image, "What is this?"] }], { maxNewTokens: 5 }));
    expect(stdout).toBe(`${want}\n`);
  });

  test("chat without a tokenizer, and a session without a processor, say so", () => {
    expect(() => owl2().chat(talk)).toThrow("chat: the model was made without a folder that has a tokenizer");
    expect(() => new ChatSession(owl2())).toThrow("ChatSession: give the processor of the model");
    const processor = new Processor(new Tokenizer(letters()), {});
    expect(new ChatSession(owl2(), { processor }).messages).toEqual([]);
  });
});
