import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { saveSafetensors } from "../../src/io/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { openBackend } from "../support/backend.ts";
import { casesOf, listCases } from "./cases.ts";
import { lackingModule, scenarioProblems } from "./nn-table.ts";

beforeAll(openBackend);

describe.each(listCases("nn").filter((golden) => lackingModule(golden).length === 0))("nn/$name", (golden) => {
  test.each(Object.keys(golden.json.scenarios))("%s", async (scenario) => {
    expect(await scenarioProblems(golden, scenario)).toEqual([]);
  });
});

/** A case of the same format, y = x Wᵀ + b with numbers one can check by hand; `b1` is the second value of the bias. */
async function writeLinearCase(path: string, b1: number): Promise<void> {
  const at = join(path, "nn/linear");
  mkdirSync(at, { recursive: true });
  const save = (file: string, tensors: Record<string, readonly (number | readonly number[])[]>) => {
    const entries = Object.entries(tensors).map(([name, values]) => {
      const x = sg.tensor(values as number[][]);
      return [name, { shape: x.shape, dtype: "f32" as const, read: () => x.data() }];
    });
    return saveSafetensors(folder(at), `${file}.safetensors`, Object.fromEntries(entries));
  };
  const json = {
    module: "Linear",
    config: { in_features: 2, out_features: 2, bias: true },
    tol: { out: { atol: 1e-5, rtol: 1e-5 }, grad: { rel_l2: 1e-5, abs_floor: 1e-6 } },
    scenarios: { batch: { mode: "train", grads: ["x", "weight", "bias"] } },
  };
  writeFileSync(join(at, "case.json"), JSON.stringify(json));
  await save("model", {
    weight: [
      [1, 2],
      [3, 4],
    ],
    bias: [10, b1],
  });
  await save("inputs", {
    "batch/x": [
      [1, 1],
      [2, -1],
    ],
    "batch/gout": [
      [1, 0],
      [0, 2],
    ],
  });
  await save("outputs", {
    "batch/out": [
      [13, 27],
      [10, 22],
    ],
  });
  await save("grads", {
    "batch/grad.x": [
      [1, 2],
      [6, 8],
    ],
    "batch/grad.weight": [
      [1, 1],
      [4, -2],
    ],
    "batch/grad.bias": [1, 2],
  });
}

test.each([
  { b1: 20, problems: [] },
  { b1: 21, problems: [expect.stringMatching(/^out: at 3: got 23, want 22/)] },
])("a case of this format with a bias of $b1", async ({ b1, problems }) => {
  const path = mkdtempSync(join(tmpdir(), "goldens-"));
  try {
    await writeLinearCase(path, b1);
    const [golden] = casesOf({ name: "written", path }, ["nn"]);
    expect(await scenarioProblems(golden, "batch")).toEqual(problems);
  } finally {
    rmSync(path, { recursive: true });
  }
});
