/** Which cases run, which are skipped and why: every case of every root is one or the other. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { root as checkout, listFiles } from "../../scripts/environment.mjs";
import * as sg from "../../src/index.ts";
import * as nn from "../../src/nn/index.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { functions } from "./autograd-table.ts";
import { type Case, casesOf, idOf, listRoots, mismatch, missingRoots, roots } from "./cases.ts";
import { modelType } from "./model-types.ts";
import { lackingModule } from "./nn-table.ts";
import { names, notYet } from "./not-yet.ts";
import { calls, camelCase } from "./ops-table.ts";
import { lacking, schedules } from "./optim-table.ts";

/** Cases that other test files run, by id. */
const elsewhere: Readonly<Record<string, string>> = {
  "conversation/llava": "tests/models/conversation.test.ts",
  "formats/safetensors": "tests/goldens/formats.test.ts",
  "preprocess/clip": "tests/models/image.test.ts",
  tokenizer: "tests/models/tokenizer.test.ts",
  "training/llava-two-stage": "tests/goldens/training.test.ts",
};

/** Can the tables of this folder run the case? */
const runs: Readonly<Record<string, (golden: Case) => boolean>> = {
  ops: ({ name }) => name in calls,
  nn: (golden) => lackingModule(golden).length === 0,
  optim: (golden) => (golden.json.hyper ? lacking(golden).length === 0 : Boolean(golden.json.schedules)),
  autograd: ({ name }) => name in functions,
  models: (golden) => modelType(golden) !== undefined && !(idOf(golden) in notYet),
};
const isKnown = (golden: Case): boolean => idOf(golden) in elsewhere || Boolean(runs[golden.kind]?.(golden));

/** Ids of parts of a case that may stand on the list by themselves. */
function itemsOf(golden: Case): string[] {
  const { variants, schedules: list } = golden.json;
  const items: string[] = variants?.map((v: any) => v.name) ?? list?.map((s: any) => s.kind) ?? [];
  return [...new Set(items.map((item) => `${idOf(golden)}/${item}`))];
}

/** Does the library export what a missing case waits for? */
function exists({ kind, name, json }: Case): boolean {
  const has = (api: string): boolean => {
    const [, where, word] = /^(?:(sg|x)\.)?(.*)$/.exec(api)!;
    return (where !== "x" && word in sg) || (where !== "sg" && word in Tensor.prototype);
  };
  if (kind === "ops") return (names[name] ?? [camelCase(name)]).some(has);
  if (kind === "nn") return json.module in nn;
  if (kind === "models") return listFiles("models", new RegExp(`^${name}\\.ts$`)).length > 0;
  return false; // optim and autograd: the tables say it
}

const words = (ids: readonly string[]): string => ids.join(" ");

describe.each(roots)("$name", (root) => {
  const cases = casesOf(root);
  const known = cases.filter(isKnown);
  const listed = cases.filter((golden) => idOf(golden) in notYet);
  const skipped = [...listed.map(idOf), ...cases.flatMap(itemsOf).filter((id) => id in notYet)];

  test("has cases, and says which it leaves out", () => {
    expect(cases.length).toBeGreaterThan(0);
    const lines = [`${root.name}: ${known.length} of ${cases.length} cases run (${root.path})`];
    for (const issue of new Set(skipped.map((id) => notYet[id].issue))) {
      for (const why of ["missing", "option", "numbers"]) {
        const ids = skipped.filter((id) => notYet[id].issue === issue && notYet[id].why === why);
        if (ids.length) lines.push(`  skipped until issue ${issue} (${why}), ${ids.length}: ${words(ids)}`);
      }
    }
    console.log(lines.join("\n"));
  });

  test("holds no case that neither runs nor is on the list", () => {
    expect(cases.filter((golden) => !isKnown(golden) && !(idOf(golden) in notYet)).map(idOf)).toEqual([]);
    const unknown = cases.flatMap(({ name, json }) =>
      ((json.schedules ?? []) as any[])
        .map(({ kind }) => kind as string)
        .filter((kind) => !schedules[kind] && !(`optim/${name}/${kind}` in notYet)),
    );
    expect(unknown).toEqual([]);
  });

  test("is not on the list where it runs: remove it from the list", () => {
    expect(listed.filter(isKnown).map(idOf)).toEqual([]);
    const run = cases.flatMap(({ name, json }) =>
      ((json.schedules ?? []) as any[]).map(({ kind }) => ({ name, kind })),
    );
    expect(run.filter(({ name, kind }) => schedules[kind] && `optim/${name}/${kind}` in notYet)).toEqual([]);
  });

  test("waits for nothing that exists: give it a line in the table and remove it from the list", () => {
    expect(listed.filter((golden) => notYet[idOf(golden)].why === "missing" && exists(golden)).map(idOf)).toEqual([]);
  });

  test.skip.each(skipped.map((id) => `${id}: issue ${notYet[id].issue}, ${notYet[id].why}`))("%s", () => {});
});

for (const { path } of missingRoots) {
  console.warn(`skipped: no goldens at ${path}`);
  test.skip(`skipped: no goldens at ${path}`, () => {});
}

test("the list names only cases that the full data has", () => {
  const complete = ["goldens", "goldens-torch", "goldens-family"].every((name) =>
    roots.some((root) => root.name === name && !root.path.startsWith(checkout)),
  );
  if (!complete) return expect(missingRoots.length + roots.length).toBeGreaterThan(0); // copies hold a part
  const ids = new Set(roots.flatMap((root) => casesOf(root)).flatMap((golden) => [idOf(golden), ...itemsOf(golden)]));
  expect(Object.keys(notYet).filter((id) => !ids.has(id))).toEqual([]);
});

test("files that run cases elsewhere exist", () => {
  expect(Object.values(elsewhere).filter((path) => !existsSync(join(checkout, path)))).toEqual([]);
});

describe("the rules of the data", () => {
  test("roots are a list, as PATH is", () => {
    expect(listRoots(["/a/goldens", "/b/other"].join(process.platform === "win32" ? ";" : ":"))).toEqual([
      { name: "goldens", path: "/a/goldens" },
      { name: "other", path: "/b/other" },
    ]);
  });

  test("NaN equals NaN alone, an infinity itself alone", () => {
    const tol = { atol: 1e30, rtol: 1 };
    expect(mismatch([NaN, Infinity, -Infinity, 1], [NaN, Infinity, -Infinity, 2], tol)).toBeUndefined();
    for (const [got, want] of [
      [NaN, 1],
      [1, NaN],
      [Infinity, 1],
      [1, Infinity],
      [-Infinity, Infinity],
    ])
      expect(mismatch([got], [want], tol)).toBe(`at 0: got ${got}, want ${want}`);
  });

  test("a tolerance of 0 is exact", () => {
    expect(mismatch([0, -0], [-0, 0], { atol: 0, rtol: 0 })).toBeUndefined();
    expect(mismatch([1], [2], { atol: 0, rtol: 0 })).toContain("got 1, want 2");
  });
});
