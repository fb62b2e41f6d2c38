import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readSamples } from "../../models/training/data.ts";
import { balanceCaptions, contentPhrases } from "../../src/data/balance.ts";
import {
  briefInstructions,
  captionInstruction,
  conversation,
  detailInstructions,
} from "../../src/data/conversations.ts";
import { readRecords, writeRecords } from "../../src/data/records.ts";
import { parseRounds, sceneText, type TeacherMessage, teach, teacherPrompts } from "../../src/data/teacher.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { IMAGE_TOKEN, owlText } from "../../src/text/conversation.ts";

describe("phrases", () => {
  test.each([
    ["A red car on the street, near my house.", ["red car", "street", "house"]],
    ["The dog's ball is up in the air", ["dog's ball", "air"]],
    ["of the", []],
    ["Two-story café – sitting 3 people", ["two-story café", "3 people"]],
  ])("%s", (caption, phrases) => expect(contentPhrases(caption)).toEqual(phrases));
});

describe("balancing", () => {
  // Each letter is a phrase.
  const phrases = (caption: string) => [...caption];
  const repeat = (caption: string, n: number) => new Array<string>(n).fill(caption);

  test("skips phrases in fewer than 3 captions; a phrase counts once a caption", () => {
    const { chosen, frequencies } = balanceCaptions(["a", "b", "ab", "bb", "aa"], { phrases });
    expect(Object.fromEntries(frequencies)).toEqual({ a: 3, b: 3 });
    expect(chosen).toEqual([0, 2, 4, 1, 3]);
    expect(balanceCaptions(["c", "c", "ddd"], { phrases }).chosen).toEqual([]);
  });

  test("caps a phrase at 100 captions, drawn by the seed", () => {
    const captions = [...repeat("a", 250), ...repeat("b", 100)];
    const { chosen } = balanceCaptions(captions, { phrases });
    expect(chosen.length).toBe(200);
    expect(chosen.slice(0, 100)).toEqual(Array.from({ length: 100 }, (_, i) => 250 + i)); // the rarer first, all of it
    expect(new Set(chosen).size).toBe(200);
    expect(balanceCaptions(captions, { phrases }).chosen).toEqual(chosen);
    const other = balanceCaptions(captions, { phrases, seed: 1 }).chosen;
    expect(other.length).toBe(200);
    expect(other).not.toEqual(chosen);
    expect(chosen.some((i) => i > 150 && i < 250)).toBe(true); // not the first 100
  });

  test("a size keeps the rarest", () => {
    const captions = [...repeat("a", 9), ...repeat("b", 4), ...repeat("c", 3)];
    expect(balanceCaptions(captions, { phrases, size: 5 }).chosen).toEqual([13, 14, 15, 9, 10]);
  });

  test("every caption of a kept phrase within the cap is chosen, and none without a kept phrase", () => {
    const caption = fc.array(fc.constantFrom("a", "b", "c", "d", "e", "f"), { maxLength: 4 }).map((x) => x.join(""));
    fc.assert(
      fc.property(fc.array(caption, { maxLength: 40 }), fc.nat(5), (captions, seed) => {
        const [minFrequency, cap] = [3, 6];
        const { chosen, frequencies } = balanceCaptions(captions, { phrases, minFrequency, cap, seed });
        const picked = new Set(chosen);
        expect(picked.size).toBe(chosen.length);
        captions.forEach((text, i) => {
          const counts = [...text].map((phrase) => frequencies.get(phrase)!);
          if (counts.some((n) => n >= minFrequency && n <= cap)) expect(picked.has(i)).toBe(true);
          if (counts.every((n) => n < minFrequency)) expect(picked.has(i)).toBe(false);
        });
      }),
    );
  });

  test("refuses numbers that make no sense", () => {
    expect(() => balanceCaptions([], { cap: 0 })).toThrow("cap must be at least 1, got 0");
    expect(() => balanceCaptions([], { minFrequency: Number.NaN })).toThrow("minFrequency must be at least 1, got NaN");
  });
});

describe("samples", () => {
  const pair = (i: number) => ({ id: `id${i}`, image: `${i}.jpg`, caption: `caption ${i}` });

  test("a caption answers a random instruction, the image before or after it", () => {
    const all = Array.from({ length: 400 }, (_, i) => captionInstruction(pair(i), { seed: 5 }));
    const asked = all.map(({ conversations: [{ value }] }) => value.replace(IMAGE_TOKEN, "").trim());
    for (const instruction of briefInstructions) {
      const n = asked.filter((text) => text === instruction).length;
      expect(n, instruction).toBeGreaterThan(20); // 40 expected
      expect(n, instruction).toBeLessThan(65);
    }
    const first = all.filter(({ conversations: [{ value }] }) => value.startsWith(`${IMAGE_TOKEN}\n`)).length;
    expect(first).toBeGreaterThan(150);
    expect(first).toBeLessThan(250);
    expect(all[3].conversations[1]).toEqual({ from: "gpt", value: "caption 3" });
    expect(captionInstruction(pair(3), { seed: 5 })).toEqual(all[3]); // alone as among others
    expect(
      all.some((s, i) => captionInstruction(pair(i), { seed: 6 }).conversations[0].value !== s.conversations[0].value),
    ).toBe(true);
  });

  test("conversations have the images in the first question only", () => {
    const rounds = [
      ["What?", "This."],
      ["Why?", "So."],
    ] as const;
    expect(conversation({ id: "x", images: ["a.png", "b.png"], rounds, imageAt: "last" })).toEqual({
      id: "x",
      image: ["a.png", "b.png"],
      conversations: [
        { from: "human", value: "What?\n<image>\n<image>" },
        { from: "gpt", value: "This." },
        { from: "human", value: "Why?" },
        { from: "gpt", value: "So." },
      ],
    });
    expect(Object.keys(conversation({ id: "x", rounds }))).toEqual(["id", "conversations"]);
    expect(() => conversation({ id: "x", rounds: [] })).toThrow("conversation x: no rounds");
    expect(() => conversation({ id: "x", rounds: [["a", " "]] })).toThrow(
      "conversation x: round 0 has an empty answer",
    );
    expect(() => conversation({ id: "x", rounds: [["<image> a", "b"]] })).toThrow("round 0 has <image> in its text");
  });

  test("are read back by training, as a list and by lines, LLaVA's and mPLUG-Owl's", async () => {
    const files = memoryFiles();
    const samples = [
      captionInstruction(pair(1)),
      conversation({ id: "two", images: ["a.png", "b.png"], rounds: [["What?", "This."]] }),
      conversation({ id: "words", rounds: [["Hi", "Ho"]] }),
    ];
    for (const name of ["a.json", "a.jsonl"]) {
      await writeRecords(files, name, samples);
      expect((await readRecords(files, name)).map(({ value }) => value)).toEqual(samples);
      const read = await readSamples(files, name);
      expect(read.map(({ turns }) => turns)).toEqual(samples.map(({ conversations }) => conversations));
      expect(read.map(({ images }) => images)).toEqual([["1.jpg"], ["a.png", "b.png"], []]);
    }
    await writeRecords(
      files,
      "owl.jsonl",
      samples.map(({ image, conversations }) => ({ image, text: owlText(conversations) })),
    );
    const [, two, words] = await readSamples(files, "owl.jsonl");
    expect(two.text).toMatch(/\nHuman: <image>\nHuman: <image>\nHuman: What\?\nAI: This\.$/);
    expect(words.text).toMatch(/\nHuman: Hi\nAI: Ho$/);
  });
});

describe("the teacher", () => {
  const scene = {
    captions: ["A dog runs.", "A park."],
    boxes: [{ label: "dog", box: [0.1, 0.25, 0.5, 1] as const }],
  };
  const options = { id: "7", images: ["7.jpg"], imageAt: "first" as const };

  test("reads captions and boxes, after its examples", async () => {
    expect(sceneText(scene)).toBe("A dog runs.\nA park.\n\ndog: [0.100, 0.250, 0.500, 1.000]");
    let asked: readonly TeacherMessage[] = [];
    const sample = await teach(scene, {
      ...options,
      kind: "conversation",
      examples: [{ scene: { captions: ["A cat."] }, reply: "Question: Q\nAnswer: A" }],
      teacher: (messages) => (
        (asked = messages),
        "Question:\n===\nWhat is there?\n===\nAnswer:\nA dog.\nIt runs.\nQuestion: Where?\nAnswer: In a park."
      ),
    });
    expect(asked.map(({ role, content }) => [role, content])).toEqual([
      ["system", teacherPrompts.conversation],
      ["user", "A cat."],
      ["assistant", "Question: Q\nAnswer: A"],
      ["user", sceneText(scene)],
    ]);
    expect(sample).toEqual({
      id: "7",
      image: "7.jpg",
      conversations: [
        { from: "human", value: "<image>\nWhat is there?" },
        { from: "gpt", value: "A dog.\nIt runs." },
        { from: "human", value: "Where?" },
        { from: "gpt", value: "In a park." },
      ],
    });
  });

  test("describes in answer to an instruction of the list", async () => {
    const asked = new Set<string>();
    for (let i = 0; i < 60; i++) {
      const { conversations } = await teach(scene, {
        ...options,
        id: `${i}`,
        kind: "detail",
        teacher: () => " All of it.\n",
      });
      expect(conversations[1].value).toBe("All of it.");
      asked.add(conversations[0].value.replace("<image>\n", ""));
    }
    expect([...asked].sort()).toEqual([...detailInstructions].sort());
  });

  test.each([
    ["", "has no Question: and Answer:"],
    ["Sure! Question: a\nAnswer: b", 'begins with "Sure! Question: a'],
    ["Question: a", "round 0 of the reply is not a Question: with an Answer:"],
    ["Question: a\nAnswer: b\nAnswer: c", "round 1 of the reply"],
    ["Answer: b\nQuestion: a", "round 0 of the reply"],
    ["Question: a\nAnswer:", "round 0 of the reply"],
  ])("refuses the reply %j", (reply, message) => expect(() => parseRounds(reply, "9")).toThrow(message));
});
