import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseRecipe } from "../../models/training/recipe.ts";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { list } from "../style/files.ts";

test.each(list("examples/train", /\.json$/))("%s is a recipe", (path) => {
  expect(parseRecipe(JSON.parse(readFileSync(path, "utf8")), path).preset).not.toBeNull();
});

test("the tiny example trains, evaluates and chats by its three commands", async () => {
  const file = await bundle(join(root, "examples/train/tiny.ts"));
  const args = ["--set", "max_steps=40"]; // of 288
  const printed = execFileSync(process.execPath, [file, ...args], {
    encoding: "utf8",
    cwd: root,
    env: { ...childEnvironment(), NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const losses = /40 steps, loss ([\d.]+) → ([\d.]+)/.exec(printed)!.slice(1).map(Number);
  expect(losses[1]).toBeLessThan(0.5 * losses[0]);
  expect(printed).toMatch(/48 captions +score/);
  expect(JSON.parse(readFileSync(join(root, ".build/train/evaluation/results.json"), "utf8"))).toMatchObject({
    task: "captions",
    model_id: "out",
    count: 48,
  });
  expect(printed.split("$ npx shadegrad chat")[1].split("\n")[1].trim()).not.toBe("");
});
