import { expect, test } from "vitest";
import { features } from "../../scripts/features/main.mjs";
import { groups } from "../../scripts/features/rows.mjs";
import { read } from "./files.ts";

test("FEATURES.md is what the exports say (npm run features)", async () => {
  const page = await features();
  expect(read("FEATURES.md")).toBe(page);
  expect(page).toMatch(/^\| ✓ \| `matmul` \| `matmul` in `shadegrad`, `Tensor\.matmul` \|$/m);
  expect(page).toMatch(/^\| ✗ \| `\w+` \| {2}\|$/m);
});

test("a row whose proof does not exist is refused", async () => {
  for (const proof of ["noSuchExport", "Tensor.noSuchMethod", "no_such_kernel.wgsl", "no-such.test.ts"]) {
    const rows = [...groups, ["More", [["a claim", proof]]]];
    await expect(features(rows)).rejects.toThrow(`${proof} (a claim)`);
  }
});
