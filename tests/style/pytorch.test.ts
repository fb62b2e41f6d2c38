/** Every line of docs/pytorch.md runs. */
import { beforeAll, describe, expect, test, vi } from "vitest";
import * as data from "../../src/data/index.ts";
import * as sg from "../../src/index.ts";
import * as io from "../../src/io/index.ts";
import * as nn from "../../src/nn/index.ts";
import { read } from "./files.ts";

const lines = [...read("docs/pytorch.md").matchAll(/^\| (`.*`) \| `(.*)` \|$/gm)].map(([, torch, code]) => ({
  torch,
  code,
}));
const exported = { ...nn, ...io, ...data, ...sg };
const folder = io.memoryFiles(new Map());
const scope = () => ({
  x: sg.tensor([
    [1, -2, 3],
    [4, 5, -6],
  ]),
  y: sg.tensor([
    [2, 2, 3],
    [1, 5, 7],
  ]),
  w: sg.tensor([
    [1, 2],
    [3, 4],
    [5, 6],
  ]),
  ids: sg.tensor([2, 0], { dtype: "i32" }),
  index: sg.tensor(
    [
      [0, 2, 1],
      [1, 1, 0],
    ],
    { dtype: "i32" },
  ),
  p: sg.tensor([1, 2, 3], { requiresGrad: true }),
  folder,
});

/** Reads every tensor, so that wrong shapes and values that do not compute are errors. */
async function values(result: unknown): Promise<unknown> {
  if (result instanceof sg.Tensor) return result.data();
  if (Array.isArray(result)) return Promise.all(result.map(values));
  return result;
}

describe("Coming from PyTorch", () => {
  beforeAll(async () => {
    await sg.init({ backend: "reference" });
    vi.spyOn(console, "log").mockImplementation(() => undefined);
  });

  test("the page has its lines", () => expect(lines.length).toBeGreaterThan(60));

  test.each(lines)("$torch", async ({ code }) => {
    const named = { ...exported, ...scope() };
    const names = Object.keys(named);
    const run = new Function(...names, `return (async () => (${code}))();`);
    await values(await run(...names.map((name) => named[name as keyof typeof named])));
  });
});
