import { describe, expect, it } from "vitest";
import {
  IGNORE_INDEX,
  IMAGE_TOKEN_INDEX,
  owlSample,
  promptIds,
  renderPrompt,
  type Turn,
  template,
  tokenizePrompt,
  trainingSample,
} from "../../src/text/conversation.ts";
import { Tokenizer, type TokenizerJson } from "../../src/text/tokenizer.ts";
import { llama2Json } from "../support/llama2-tokens.ts";
import { goldenPath, readJson } from "./goldens.ts";

interface Ids {
  input_ids: number[];
  labels?: number[];
  error?: string;
}
interface Golden {
  templates: Record<string, { system: string; roles: string[]; sep: string; sep2: string | null }>;
  conversations: Record<string, { has_image: boolean; turns: Turn[] }>;
  training: {
    template: string;
    conversation: string;
    has_image: boolean;
    prompt: string;
    tiny: Ids;
    llama2: Ids;
    error?: string;
  }[];
  inference: { template: string; name: string; messages: (string | null)[]; prompt: string; tiny: Ids; llama2: Ids }[];
}

const file = goldenPath("conversation", "llava", "case.json");
const tiny = goldenPath("conversation", "llava", "tokenizer", "tokenizer.json");

describe.skipIf(!file || !tiny)("LLaVA conversations", () => {
  const golden = file ? readJson<Golden>(file) : { templates: {}, conversations: {}, training: [], inference: [] };
  const tokenizers = tiny
    ? { tiny: new Tokenizer(readJson<TokenizerJson>(tiny)), llama2: new Tokenizer(llama2Json()) }
    : {};

  it("has the templates of the reference", () => {
    for (const [name, want] of Object.entries(golden.templates)) {
      const t = template(name);
      expect({ system: t.system, roles: t.roles, sep: t.sep, sep2: t.sep2 ?? null }, name).toEqual({
        system: want.system,
        roles: want.roles,
        sep: want.sep,
        sep2: want.sep2,
      });
    }
  });

  for (const sample of golden.inference) {
    it(`renders ${sample.template} / ${sample.name}`, () => {
      expect(renderPrompt(template(sample.template), sample.messages)).toBe(sample.prompt);
      for (const [name, tokenizer] of Object.entries(tokenizers)) {
        expect(tokenizePrompt(tokenizer, sample.prompt), name).toEqual(sample[name as "tiny"].input_ids);
      }
    });
  }

  for (const sample of golden.training) {
    it(`masks ${sample.template} / ${sample.conversation}`, () => {
      const { turns } = golden.conversations[sample.conversation];
      for (const [name, tokenizer] of Object.entries(tokenizers)) {
        const want = sample[name as "tiny"];
        const run = (): ReturnType<typeof trainingSample> =>
          trainingSample(tokenizer, template(sample.template), turns, { hasImage: sample.has_image });
        if (sample.error ?? want.error) {
          expect(run).toThrow();
          continue;
        }
        const got = run();
        expect(got.prompt).toBe(sample.prompt);
        expect(got.inputIds, name).toEqual(want.input_ids);
        expect(got.labels, name).toEqual(want.labels);
      }
    });
  }

  it("learns answers only", () => {
    const { inputIds, labels } = trainingSample(
      tokenizers.tiny!,
      template("v1"),
      golden.conversations.multi_turn.turns,
      { hasImage: true },
    );
    expect(inputIds.filter((id) => id === IMAGE_TOKEN_INDEX).length).toBe(1);
    expect(tokenizers.tiny!.decode(labels.filter((id) => id !== IGNORE_INDEX))).toContain("bicycle near the river");
    expect(tokenizers.tiny!.decode(labels.filter((id) => id !== IGNORE_INDEX))).not.toContain("What is this");
  });

  it("refuses unknown templates and turns out of order", () => {
    expect(() => template("v9")).toThrow(/no template "v9"/);
    const bad: Turn[] = [
      { from: "human", value: "a" },
      { from: "human", value: "b" },
    ];
    expect(() => trainingSample(tokenizers.tiny!, template("v1"), bad, { hasImage: false })).toThrow(
      /turn 1 is from human/,
    );
  });
});

describe.skipIf(!tiny)("templates without a golden case, from the words of their own code", () => {
  const plain = new Tokenizer(readJson<TokenizerJson>(tiny!));
  const tokenizer = plain.withTokens("<im_patch>", "<im_start>", "<im_end>");
  const [BOS, EOS, IMAGE] = [1, 2, IMAGE_TOKEN_INDEX];
  /** Ids of texts tokenised one by one, numbers as is; ids in an inner array are learned. */
  const expected = (...parts: (string | number | (string | number)[])[]) => {
    const ids = (part: string | number) =>
      typeof part === "number" ? [part] : tokenizer.encode(part, { addSpecialTokens: false });
    return {
      inputIds: parts.flatMap((part) => (Array.isArray(part) ? part.flatMap(ids) : ids(part))),
      labels: parts.flatMap((part) => (Array.isArray(part) ? part.flatMap(ids) : ids(part).map(() => IGNORE_INDEX))),
    };
  };
  const turns: Turn[] = [
    { from: "human", value: "<image>\nWhat is this?" },
    { from: "gpt", value: "A red cat." },
    { from: "human", value: "Why?" },
    { from: "gpt", value: "It purrs." },
  ];
  const make = (name: string, conversation = turns, options = {}) => {
    const hasImage = conversation.some((turn) => turn.value.includes("<image>"));
    const { inputIds, labels } = trainingSample(tokenizer, template(name), conversation, { hasImage, ...options });
    return { inputIds, labels };
  };
  const owl =
    "The following is a conversation between a curious human and AI assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";

  it("mPLUG-Owl: prompts are cut at images alone, training texts at the marks too", () => {
    const prompt = `${owl}\nHuman: <image>\nHuman: What is this?\nAI: `;
    const ids = promptIds(tokenizer, template("mplug_owl"), ["<image>\nWhat is this?", null]);
    expect(ids).toEqual(tokenizePrompt(tokenizer, prompt));
    expect(ids).toEqual(expected(BOS, `${owl}\nHuman: `, IMAGE, "\nHuman: What is this?\nAI: ").inputIds);
    const [human, image] = ["\nHuman: ", IMAGE];
    expect(make("mplug_owl")).toEqual(
      expected(
        ...[BOS, owl, human, image, human, "What is this?\n", "AI: ", ["A red cat.", EOS]],
        ...[human, "Why?\n", "AI: ", ["It purrs.", EOS]],
      ),
    );
  });

  it("mPLUG-Owl: an empty answer is learned as an end in text, left out with an image (as in the reference)", () => {
    const pieces = (text: string) => owlSample(tokenizer, text).labels.filter((id) => id !== IGNORE_INDEX);
    expect(pieces("Human: Hi\nAI: ")).toEqual([EOS]);
    expect(pieces("Human: <image>\nHuman: Hi\nAI: ")).toEqual([]);
  });

  it("mPLUG-Owl2: vicuna's rounds without a system text, the image joined to the question in prompts", () => {
    expect(renderPrompt(template("mplug_owl2"), ["Hi", "Yes.", "Why?", null])).toBe(
      "USER: Hi ASSISTANT: Yes.</s>USER: Why? ASSISTANT:",
    );
    expect(promptIds(tokenizer, template("mplug_owl2"), ["What is <image>", null])).toEqual(
      expected(BOS, "USER: ", IMAGE, "What is ASSISTANT:").inputIds,
    );
    const { inputIds, labels } = make("mplug_owl2", turns.slice(0, 2));
    const whole = expected(BOS, "USER: ", IMAGE, "\nWhat is this? ASSISTANT: A red cat.", EOS).inputIds;
    const answer = expected("A red cat.", EOS).inputIds;
    expect(inputIds).toEqual(whole);
    expect(labels).toEqual(whole.map((id, i) => (i < whole.length - answer.length ? IGNORE_INDEX : id)));
  });

  const system =
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.";
  const [PATCH, START, END] = ["<im_patch>", "<im_start>", "<im_end>"].map((token) => tokenizer.tokenToId(token)!);

  it("Chinese-LLaVA on Chinese-Llama-2: a begin token before every question, image tokens in the vocabulary", () => {
    expect([PATCH, START, END]).toEqual([plain.size, plain.size + 1, plain.size + 2]);
    const first = `[INST] <<SYS>>\n${system}\n<</SYS>>\n\nWhat is this?\n`;
    const image = [first, START, IMAGE, END, " [/INST] "];
    const options = { imStartEnd: true };
    expect(promptIds(tokenizer, template("chinese_llama2"), ["<image>\nWhat is this?", null], options)).toEqual(
      expected(BOS, ...image).inputIds,
    );
    expect(make("chinese_llama2", turns, options)).toEqual(
      expected(BOS, ...image, ["A red cat. ", EOS], BOS, "[INST] Why? [/INST] ", ["It purrs. ", EOS]),
    );
  });

  it("Chinese-LLaVA on Baichuan: roles and texts apart", () => {
    const image = ["What is this?\n", START, IMAGE, END];
    const options = { imStartEnd: true };
    expect(promptIds(tokenizer, template("chinese_baichuan"), ["<image>\nWhat is this?", null], options)).toEqual(
      expected(BOS, system, "USER:", ...image, "ASSISTANT:").inputIds,
    );
    expect(make("chinese_baichuan", turns, options)).toEqual(
      expected(
        ...[BOS, system, "USER:", ...image, "ASSISTANT:", ["A red cat.", EOS]],
        ...["USER:", "Why?", "ASSISTANT:", ["It purrs.", EOS]],
      ),
    );
  });

  it("images between start and end tokens; tags around them in v0_mmtag and v1_mmtag", () => {
    const count = (name: string, options = {}) => {
      const { inputIds } = trainingSample(tokenizer, template(name), turns, { hasImage: true, ...options });
      const at = inputIds.indexOf(IMAGE);
      return [inputIds[at - 1] === START, inputIds[at + 1] === END];
    };
    expect(count("v1", { imStartEnd: true })).toEqual([true, true]);
    expect(count("v1")).toEqual([false, false]);
    for (const name of ["v0_mmtag", "v1_mmtag"]) {
      const { prompt, labels } = trainingSample(tokenizer, template(name), turns, { hasImage: true });
      expect(prompt).toContain("<Image><image></Image>\nWhat is this?");
      expect(tokenizer.decode(labels.filter((id) => id >= 0))).toContain("It purrs.");
    }
    expect(template("v0_mmtag").system).toBe(template("v1_mmtag").system);
  });
});
