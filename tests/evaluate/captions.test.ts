import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bleu, captionScores, captionWords, cider, exactMatch } from "../../models/evaluate/captions.ts";

describe("words", () => {
  test.each([
    ["A dog, running!", ["a", "dog", "running"]],
    ["It isn't the dog's ball.", ["it", "is", "n't", "the", "dog", "'s", "ball"]],
    ["a well-known 3.5 m wall (red)", ["a", "well-known", "3.5", "m", "wall", "red"]],
    ["can’t stop. Now", ["ca", "n't", "stop", "now"]],
    ["一只 red 狗。", ["一", "只", "red", "狗"]],
    [" … ", []],
  ])("%s", (caption, words) => expect(captionWords(caption)).toEqual(words));
});

test("exact match looks past case and punctuation, not past words", () => {
  const references = [["A red car.", "red car"], ["a dog"], ["a dog"]];
  expect(exactMatch(["red car!", "A Dog", "dog a"], references)).toBe(2 / 3);
});

describe("BLEU", () => {
  test("precisions 6/7, 5/6, 4/5, 3/4, no penalty", () => {
    const score = bleu(["the cat sat on the mat today"], [["the cat sat on the mat"]]);
    expect(score).toBeCloseTo((3 / 7) ** 0.25, 14);
  });

  test("clips repeated words at the most of one reference (Papineni's example)", () => {
    const references = [["The cat is on the mat.", "There is a cat on the mat."]];
    expect(bleu(["the the the the the the the"], references, { order: 1 })).toBeCloseTo(2 / 7, 14);
  });

  test("penalises short candidates: exp(1 - 6/4)", () => {
    expect(bleu(["a b c d"], [["a b c d e f"]])).toBeCloseTo(Math.exp(-0.5), 14);
  });

  test("measures against the closest reference, the shorter of two as close", () => {
    expect(bleu(["a b c d"], [["a b c d e", "x y z"]])).toBe(1);
    expect(bleu(["a b c d"], [["a b c d e", "x"]])).toBeCloseTo(Math.exp(1 - 5 / 4), 14);
  });

  test("pools counts over candidates: (4 + 1) / (4 + 3) words", () => {
    expect(bleu(["a b c d", "x y z"], [["a b c d"], ["x q r"]], { order: 1 })).toBeCloseTo(5 / 7, 14);
  });

  test("is 0 where an order has no match", () => {
    expect(bleu(["the cat sat on the mat"], [["the cat is on the mat"]])).toBe(0); // 4-grams: 0 of 3
    expect(bleu(["a b c"], [["a b c"]])).toBe(0); // no 4-grams at all
    expect(bleu([""], [["a"]])).toBe(0);
  });
});

describe("CIDEr", () => {
  // Two pictures, "a b" and "a c": "a" is in both and weighs 0, the rest weighs ln 2.
  const references = [["a b"], ["a c"]];

  test("two of four orders agree: 10 · (1 + 1 + 0 + 0) / 4", () => {
    const { score, each } = cider(["a b", "a b"], references);
    expect(each).toEqual([5, 0]);
    expect(score).toBe(2.5);
  });

  test("clips repeats in D only: 10 · (1/2) / 4 against 10 · 1 / 4", () => {
    expect(cider(["b b", "a c"], references).each[0]).toBeCloseTo(1.25, 14);
    expect(cider(["b b", "a c"], references, { variant: "plain" }).each[0]).toBeCloseTo(2.5, 14);
  });

  test("penalises a difference of one word in D: exp(-1 / (2 · 36))", () => {
    expect(cider(["b", "a c"], references).each[0]).toBeCloseTo(2.5 * Math.exp(-1 / 72), 14);
    expect(cider(["b", "a c"], references, { variant: "plain" }).each[0]).toBeCloseTo(2.5, 14);
  });

  test("weighs words by rarity: weights ln 3 and ln 1.5, cosine of a shared and a different word", () => {
    // "b" is in two of three pictures, "a", "c", "d" in one each. "a c" against "a b": only "a" agrees.
    const [rare, common] = [Math.log(3), Math.log(1.5)];
    const one = cider(["a c", "b c", "b d"], [["a b"], ["b c"], ["d"]]).each[0];
    expect(one).toBeCloseTo((10 / 4) * (rare ** 2 / (Math.hypot(rare, rare) * Math.hypot(rare, common))), 12);
  });

  test("averages over references", () => {
    expect(cider(["a b", "a c"], [["a b", "a d"], ["a c"]]).each[0]).toBeCloseTo(2.5, 14);
  });

  test("is 10 for captions equal to their references, 0 for one picture alone", () => {
    const same = ["one two three four five", "six seven eight nine"];
    const { score } = cider(
      same,
      same.map((caption) => [caption]),
    );
    expect(score).toBeCloseTo(10, 12);
    expect(cider(["a b c d"], [["a b c d"]]).score).toBe(0);
  });

  test("does not depend on the order of pictures or references", () => {
    const caption = fc
      .array(fc.constantFrom("a", "b", "c", "d", "e"), { minLength: 1, maxLength: 7 })
      .map((w) => w.join(" "));
    const picture = fc.record({ candidate: caption, refs: fc.array(caption, { minLength: 1, maxLength: 3 }) });
    fc.assert(
      fc.property(fc.array(picture, { minLength: 1, maxLength: 5 }), (pictures) => {
        const scores = captionScores(
          pictures.map((p) => p.candidate),
          pictures.map((p) => p.refs),
        );
        const other = [...pictures].reverse();
        const turned = captionScores(
          other.map((p) => p.candidate),
          other.map((p) => [...p.refs].reverse()),
        );
        expect(turned.exactMatch).toBe(scores.exactMatch);
        expect(turned.bleu4).toBeCloseTo(scores.bleu4, 10);
        expect(turned.cider).toBeCloseTo(scores.cider, 10);
        expect(scores.cider).toBeGreaterThanOrEqual(0);
        expect(scores.cider).toBeLessThanOrEqual(10 + 1e-9);
      }),
      { numRuns: 100 },
    );
  });
});

test("says what does not fit", () => {
  expect(() => captionScores([], [])).toThrow("exactMatch: there are no candidates");
  expect(() => bleu(["a"], [])).toThrow("bleu: 1 candidates for the references of 0 pictures");
  expect(() => cider(["a", "b"], [["a"], []])).toThrow("cider: picture 1 has no references");
});
