import { Session } from "node:inspector/promises";
import { beforeAll, expect, test } from "vitest";
import { noGrad, rand, tensor } from "../../src/index.ts";
import { read } from "../style/files.ts";
import { openBackend } from "../support/backend.ts";
import { tinyLlava } from "../support/tiny-llava.ts";

beforeAll(openBackend);

/** Files of models/ with a function that `work` calls. */
async function filesOf(work: () => unknown): Promise<string[]> {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
  await session.post("Profiler.takePreciseCoverage"); // counts start here
  work();
  const { result } = await session.post("Profiler.takePreciseCoverage");
  session.disconnect();
  const called = result.filter(({ functions }) => functions.some(({ ranges }) => ranges[0].count > 0));
  return called.flatMap(({ url }) => /\/(models\/[\w/-]+\.ts)/.exec(url)?.[1] ?? []).sort();
}

// docs/models.md says so.
test("a forward pass and a loss of LLaVA run in five files of at most 1,100 lines", async () => {
  const model = tinyLlava();
  const input = {
    inputIds: tensor([[1, 9, 3, 4]], { dtype: "i32" }),
    labels: tensor([[-100, -100, 3, 4]], { dtype: "i32" }),
    pixelValues: rand(1, 3, 4, 4),
  };
  const files = await filesOf(() => noGrad(() => [model.forward(input).logits, model.loss(input)]));
  expect(files).toEqual(["batch", "clip", "llama", "llava", "vlm"].map((name) => `models/${name}.ts`));
  expect(files.reduce((n, file) => n + read(file).trimEnd().split("\n").length, 0)).toBeLessThanOrEqual(1100);
  for (const file of files) expect(read("docs/models.md")).toContain(`\`${file}\``);
});
