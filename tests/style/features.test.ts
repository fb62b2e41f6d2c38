import { expect, test } from "vitest";
import { features } from "../../scripts/features/main.mjs";
import { read } from "./files.ts";

test("FEATURES.md is what the exports say (npm run features)", async () => {
  const page = await features();
  expect(read("FEATURES.md")).toBe(page);
  expect(page).toMatch(/^\| ✓ \| `matmul` \| `matmul` in `shadegrad`, `Tensor\.matmul` \|$/m);
  expect(page).toMatch(/^\| ✗ \| `\w+` \| .*\|$/m);
});
