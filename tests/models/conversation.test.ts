import { describe, expect, it } from "vitest";
import {
  IGNORE_INDEX,
  IMAGE_TOKEN_INDEX,
  renderPrompt,
  type Turn,
  template,
  tokenizePrompt,
  trainingSample,
} from "../../models/conversation.ts";
import { Tokenizer, type TokenizerJson } from "../../models/tokenizer.ts";
import { goldenPath, readJson } from "./goldens.ts";
import { llama2Json } from "./llama2.ts";

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
