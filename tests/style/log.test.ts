import { describe, expect, test } from "vitest";
import { read } from "./files.ts";

const page = read("docs/log.md");
const [index, body] = page.split("\n## Experiments\n");
const experiments = body
  .split(/^### /m)
  .slice(1)
  .map((text) => {
    const [heading, ...lines] = text.trim().split("\n");
    return { heading, lines: lines.filter((line) => line !== "") };
  });

/** GitHub's anchor of a heading. */
const anchor = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_\- ]/gu, "")
    .replaceAll(" ", "-");

describe("docs/log.md", () => {
  test("has experiments, each with a date, a title of its own and three lines", () => {
    expect(experiments.length).toBeGreaterThan(100);
    expect(new Set(experiments.map(({ heading }) => heading)).size).toBe(experiments.length);
    for (const { heading, lines } of experiments) {
      expect(heading).toMatch(/^\d{4}-\d\d-\d\d · \S/);
      expect(lines.map((line) => /^- \*(\w+)\*: \S/.exec(line)?.[1])).toEqual(["tried", "result", "kept"]);
    }
  });

  test("begins with the newest", () => {
    const dates = experiments.map(({ heading }) => heading.slice(0, 10));
    expect(dates).toEqual(dates.toSorted().reverse());
  });

  test("has every experiment in its index, and nothing else", () => {
    const linked = new Set([...index.matchAll(/\]\(#([^)]*)\)/g)].map((m) => m[1]));
    expect([...linked].sort()).toEqual(experiments.map(({ heading }) => anchor(heading)).sort());
  });
});
