import { expect, test } from "vitest";
import { sections, withSection } from "../../bench/report.ts";
import { bestPeer, ratio } from "../../bench/results.ts";
import { list, read } from "./files.ts";

test.each(sections)("%s: the part %s is what the stored results say (npm run bench:report)", (page, name, make) => {
  expect(read(page)).toBe(withSection(read(page), name, make()));
});

test("no result is compared with a peer whose values are wrong", () => {
  const right = { cpuMs: 2, right: true };
  const results = {
    ours: right,
    jax: { cpuMs: 1, right: false },
    tfjs: { cpuMs: 6, right: true },
    ort: { absent: "" },
  };
  expect(bestPeer(results)?.[0]).toBe("tfjs");
  expect(ratio(results)).toBe(3);
  expect(ratio({ ...results, ours: { cpuMs: 2, right: false } })).toBeUndefined();
});

test("every link of the README leads somewhere", () => {
  const targets = [...read("README.md").matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map((m) => m[1].replace(/\/$/, ""));
  const known = [...list(".", /./), "kernels", "bench", "docs"];
  expect(targets.filter((t) => !known.includes(t))).toEqual([]);
});
