import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseRecipe } from "../../models/training/recipe.ts";
import { list } from "../style/files.ts";

test.each(list("examples/train", /\.json$/))("%s is a recipe", (path) => {
  expect(parseRecipe(JSON.parse(readFileSync(path, "utf8")), path).preset).not.toBeNull();
});
